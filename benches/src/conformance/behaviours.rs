//! The questions: one function each, one file a family. The number is the behaviour's in the list of 45.

mod ages;
mod callers;
mod endings;
mod failing;
mod health;
mod limits;
mod mariadb;
mod panics;
mod waiting;

use super::Check;
use super::lab::Room;
use super::server::Server;
use super::subjects::Subject;

/// What a question is put to the subject over.
#[derive(Debug, Clone, Copy)]
pub enum Run {
    /// The scripted database.
    Script(fn(&Room) -> Check),
    /// A real MariaDB.
    Server(fn(Subject, &Server) -> Check),
    /// Nothing: it cannot be put to any pool, and this is why.
    Untested(&'static str),
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The number in the list of behaviours.
    pub behaviour: u8,
    /// The behaviour, as a sentence.
    pub name: &'static str,
    /// How it is put.
    pub run: Run,
}

/// How many behaviours there are.
pub const BEHAVIOURS: u8 = 45;

/// Makes questions of functions.
macro_rules! questions {
    ($run:ident: $($behaviour:literal $name:ident,)+) => {
        &[$($crate::conformance::behaviours::Question {
            behaviour: $behaviour,
            name: stringify!($name),
            run: $crate::conformance::behaviours::Run::$run($name),
        }),+]
    };
}
use questions;

const UNTESTED: &[Question] = &[Question {
    behaviour: 44,
    name: "a_clock_that_jumps_evicts_nothing_wrongly",
    run: Run::Untested("needs control of the machine's clocks, which a test has no right to"),
}];

/// Every question, in the order of the list; those over MariaDB last.
#[must_use]
pub fn all() -> Vec<Question> {
    let families: [&[Question]; 10] = [
        limits::QUESTIONS,
        waiting::QUESTIONS,
        callers::QUESTIONS,
        failing::QUESTIONS,
        health::QUESTIONS,
        panics::QUESTIONS,
        ages::QUESTIONS,
        endings::QUESTIONS,
        UNTESTED,
        mariadb::QUESTIONS,
    ];
    let mut questions: Vec<Question> = families.concat();
    questions.sort_by_key(|question| (matches!(question.run, Run::Server(_)), question.behaviour));
    questions
}

/// The question of that name.
#[must_use]
pub fn named(name: &str) -> Option<Question> {
    all().into_iter().find(|question| question.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_behaviour_of_the_list_is_asked_for_and_every_name_is_used_once() {
        let questions = all();
        let asked: std::collections::BTreeSet<u8> = questions.iter().map(|question| question.behaviour).collect();
        assert_eq!(asked, (1..=BEHAVIOURS).collect());
        let mut names: Vec<&str> = questions.iter().map(|question| question.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), questions.len());
    }
}
