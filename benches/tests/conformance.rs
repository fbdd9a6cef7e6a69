//! Our pools pass every conformance check that there is; the peers' answers are in the report and guard nothing.

use std::path::PathBuf;

use benches::conformance::behaviours::{Question, Run, all};
use benches::conformance::run::{Circumstances, Outcome, Record, TRIES, ask_all};
use benches::conformance::script::Database;
use benches::conformance::server::Server;
use benches::conformance::subjects::Subject;
use benches::stamp::Stamp;

fn answers(questions: &[Question], subjects: &[Subject], server: String, tries: usize) -> Vec<Record> {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_conformance"));
    let circumstances = Circumstances { program, stamp: Stamp::now("test"), server, tries };
    ask_all(questions, subjects, &circumstances, |_| ()).expect("the checks can be made")
}

fn ours() -> Vec<Subject> {
    Subject::ALL.into_iter().filter(|subject| subject.is_ours()).collect()
}

/// Nothing is failed, and nothing is left out but what `may_be_left_out`.
fn assert_passed(records: &[Record], may_be_left_out: &[&str]) {
    let bad = |record: &&Record| match record.outcome {
        Outcome::Pass => false,
        // It failed and then it passed, on a machine that may be busy with other tests; said, so that it can be seen.
        Outcome::Unsteady => {
            eprintln!("unsteady: {} / {}: {}", record.question, record.subject, record.detail);
            false
        }
        Outcome::NotApplicable => !may_be_left_out.contains(&record.question.as_str()),
        Outcome::Fail => true,
    };
    let bad: Vec<String> = records
        .iter()
        .filter(bad)
        .map(|record| format!("{} / {}: {:?} {}", record.question, record.subject, record.outcome, record.detail))
        .collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn our_pools_pass_every_check_over_the_scripted_database() {
    let questions: Vec<Question> =
        all().into_iter().filter(|question| !matches!(question.run, Run::Server(_))).collect();
    let records = answers(&questions, &ours(), String::new(), TRIES);
    assert_eq!(records.len(), questions.len() * ours().len());
    assert_passed(&records, &["a_clock_that_jumps_evicts_nothing_wrongly"]);
}

#[test]
fn our_pools_pass_every_check_over_mariadb() {
    let Some(server) = Server::from_env().expect("DATABASE_URL is a MySQL URL") else {
        assert!(std::env::var_os("REQUIRE_DATABASE").is_none(), "REQUIRE_DATABASE is set, and DATABASE_URL is not");
        println!("skipped: DATABASE_URL is not set");
        return;
    };
    let questions: Vec<Question> =
        all().into_iter().filter(|question| matches!(question.run, Run::Server(_))).collect();
    let records = answers(&questions, &ours(), server.version().expect("the server answers"), TRIES);
    // Nobody may restart somebody else's server; `scripts/conformance` has one for that.
    assert_passed(&records, &["the_pool_recovers_from_a_restart_of_the_server"]);
}

#[test]
fn the_scripted_database_notices_two_users_of_one_connection() {
    let database = Database::new();
    let connection = database.open();
    connection.used(|| ());
    assert_eq!(database.shared_uses(), 0);
    connection.used(|| connection.used(|| ()));
    assert_eq!(database.shared_uses(), 1);
}

/// A check that nothing can fail says nothing: bad pools are caught by each.
#[test]
fn every_check_over_the_scripted_database_catches_a_bad_pool() {
    let left_out = [
        // Not asked of anybody.
        "a_clock_that_jumps_evicts_nothing_wrongly",
        // Safe code cannot lend a connection twice; that the database would notice is tested above.
        "a_connection_is_lent_to_one_holder",
        // Takes a minute to give up.
        "many_thousand_waiters_on_three_connections_finish",
        // It takes a pool that works ahead to do these wrong; r2d2 and bb8 show in the report that they can be failed.
        "no_connect_begins_after_the_demand_has_ended",
        "min_idle_connections_are_not_opened_again_and_again",
    ];
    let mut missed = all();
    missed.retain(|question| !matches!(question.run, Run::Server(_)) && !left_out.contains(&question.name));
    for straw in Subject::STRAWS {
        let records = answers(&missed, &[straw], String::new(), 1);
        let is_caught = |question: &Question| {
            records.iter().any(|record| record.question == question.name && record.outcome == Outcome::Fail)
        };
        missed.retain(|question| !is_caught(question));
    }
    let missed: Vec<&str> = missed.iter().map(|question| question.name).collect();
    assert!(missed.is_empty(), "no bad pool is caught by {missed:#?}");
}
