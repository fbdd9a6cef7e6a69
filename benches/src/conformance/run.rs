//! Putting a question to a subject: in a process of its own, with a deadline, and again before it counts as failed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::behaviours::{Question, Run, named};
use super::lab::{Room, panic_message, runtime};
use super::server::Server;
use super::subjects::Subject;
use super::{Check, Finding, fails, lacks, no_lab};
use crate::backend::Failure;
use crate::contenders::Entrant;
use crate::stamp::Stamp;

/// How often a question is put before the answer is "fail".
pub const TRIES: usize = 3;
/// The longest that one question may take; what takes longer hangs. Its own waits are far shorter.
const DEADLINE: Duration = Duration::from_secs(75);
/// The same for r2d2, whose reaper comes every 30 seconds.
const LONG_DEADLINE: Duration = Duration::from_secs(120);
/// Questions put at the same time. They wait most of the time.
const AT_ONCE: usize = 12;
/// What a child's line begins with.
const OUTCOME: &str = "outcome: ";
/// What it says when the check could not be made.
const LAB: &str = "lab";
/// How a subject is asked: as the checks want it, and, where that is not how it comes, as it comes.
const AS_ASKED: &str = "as-asked";
const AS_IT_COMES: &str = "as-it-comes";
/// The argument that makes the program a child.
pub const CHILD: &str = "--child";

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// As the behaviour says.
    #[serde(rename = "pass")]
    Pass,
    /// Otherwise, every time.
    #[serde(rename = "fail")]
    Fail,
    /// The subject has no place for the question.
    #[serde(rename = "n/a")]
    NotApplicable,
    /// Sometimes as the behaviour says.
    #[serde(rename = "unsteady")]
    Unsteady,
}

/// A line of `reports/data/conformance.csv`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The number in the list of behaviours.
    pub behaviour: u8,
    /// The question.
    pub question: String,
    /// `script` or `mariadb`.
    pub over: String,
    /// The subject.
    pub subject: String,
    /// Its crates and their versions.
    pub version: String,
    /// The answer.
    pub outcome: Outcome,
    /// What was seen instead, or what the subject lacks.
    pub detail: String,
    /// How often the question was put.
    pub tries: usize,
    /// The server's version; empty where there is none.
    pub server: String,
    /// See [`Stamp::commit`].
    pub commit: String,
    /// See [`Stamp::rustc`].
    pub rustc: String,
    /// See [`Stamp::cpu`].
    pub cpu: String,
    /// See [`Stamp::cores`].
    pub cores: usize,
    /// See [`Stamp::date`].
    pub date: String,
}

impl Record {
    /// Whether `other` answers the same question.
    #[must_use]
    pub fn is_same_question(&self, other: &Self) -> bool {
        (&self.question, &self.subject) == (&other.question, &other.subject)
    }
}

/// Puts a question to a subject in this process.
fn put(question: Question, subject: Subject) -> Check {
    match question.run {
        Run::Untested(reason) => lacks(reason),
        Run::Script(check) => check(&Room::new(subject)),
        Run::Server(check) => match Server::from_env() {
            Ok(Some(server)) => check(subject, &server),
            Ok(None) => lacks("no MariaDB"),
            Err(failure) => no_lab(format!("the server: {failure}")),
        },
    }
}

/// The part of a child: puts one question and says what came of it. Never returns to a pool that may hang.
pub fn child(arguments: &[String]) -> ExitCode {
    let [question, subject, way] = arguments else { return ExitCode::from(2) };
    super::subjects::r2d2::IS_AS_IT_COMES.store(way == AS_IT_COMES, Ordering::Relaxed);
    let (Some(question), Some(subject)) = (named(question), Subject::from_id(subject)) else {
        return ExitCode::from(2);
    };
    let worker = thread::spawn(move || {
        let _entered = runtime().enter();
        put(question, subject)
    });
    let result = worker.join().unwrap_or_else(|panic| fails(format!("panicked: {}", panic_message(&*panic))));
    let line = match result {
        Ok(()) => "pass\t".to_owned(),
        Err(Finding::Fails(detail)) => format!("fail\t{detail}"),
        Err(Finding::NotApplicable(detail)) => format!("n/a\t{detail}"),
        Err(Finding::Lab(detail)) => format!("{LAB}\t{detail}"),
    };
    println!("{OUTCOME}{}", line.replace(['\n', '\r'], " "));
    // What hangs in the pool's threads ends here.
    std::process::exit(0)
}

/// Stops a child and takes it off the process table.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What all answers of a run have in common.
#[derive(Debug, Clone)]
pub struct Circumstances {
    /// The program whose [`child`] puts one question.
    pub program: PathBuf,
    /// When, where and of what.
    pub stamp: Stamp,
    /// The server's version; empty where there is none.
    pub server: String,
    /// How often a question is put before the answer is "fail": [`TRIES`] where answers count.
    pub tries: usize,
}

/// Puts a question once, in a process of its own.
fn once(program: &Path, question: Question, subject: Subject, way: &str) -> Result<Check, Failure> {
    let mut child = Command::new(program)
        .args([CHILD, question.name, subject.id(), way])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map(Reaped)
        .map_err(|error| Failure::of("could not start a process for the check", error))?;
    let deadline = if subject.0 == Entrant::R2d2 { LONG_DEADLINE } else { DEADLINE };
    let until = Instant::now() + deadline;
    let status = loop {
        match child.0.try_wait().map_err(|error| Failure::of("waiting for a check", error))? {
            Some(status) => break status,
            None if Instant::now() > until => return Ok(fails(format!("hangs: no answer in {deadline:?}"))),
            None => thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut said = String::new();
    if let Some(mut stdout) = child.0.stdout.take() {
        // A line fits into the pipe, so it can be read after the end.
        let _ = stdout.read_to_string(&mut said);
    }
    let Some((outcome, detail)) = said.lines().find_map(|line| line.strip_prefix(OUTCOME)?.split_once('\t')) else {
        return Ok(fails(format!("the process ended without an answer ({status})")));
    };
    Ok(match outcome {
        "pass" => Ok(()),
        "n/a" => lacks(detail),
        LAB => no_lab(detail),
        _ => fails(detail),
    })
}

/// Puts a question in one way until it is passed, or has been put often enough.
fn ask_in(
    circumstances: &Circumstances,
    question: Question,
    subject: Subject,
    way: &str,
) -> Result<(Outcome, String, usize), Failure> {
    let mut first_failure = None;
    for tries in 1..=circumstances.tries {
        match once(&circumstances.program, question, subject, way)? {
            Ok(()) => {
                return Ok(match first_failure {
                    None => (Outcome::Pass, String::new(), tries),
                    Some(detail) => (Outcome::Unsteady, detail, tries),
                });
            }
            Err(Finding::Lab(detail)) => return Err(Failure::new(detail).during(question.name)),
            Err(Finding::NotApplicable(detail)) => return Ok((Outcome::NotApplicable, detail, tries)),
            Err(Finding::Fails(detail)) => {
                first_failure.get_or_insert(detail);
            }
        }
    }
    Ok((Outcome::Fail, first_failure.unwrap_or_default(), circumstances.tries))
}

/// Puts a question until it is passed, or has been put often enough in each way.
///
/// # Errors
///
/// When no process can be started for it.
fn ask(question: Question, subject: Subject, circumstances: &Circumstances) -> Result<Record, Failure> {
    let Circumstances { stamp, server, .. } = circumstances;
    let (mut outcome, mut detail, mut tries) = ask_in(circumstances, question, subject, AS_ASKED)?;
    // The ages do not depend on it, and r2d2 takes half a minute for each of them.
    if outcome == Outcome::Fail && subject.0 == Entrant::R2d2 && !is_by_the_clock(&question) {
        let (again, _, more) = ask_in(circumstances, question, subject, AS_IT_COMES)?;
        tries += more;
        if matches!(again, Outcome::Pass | Outcome::Unsteady) {
            (outcome, detail) = (again, format!("with `min_idle` as it comes; with 0: {detail}"));
        }
    }
    let is_server = matches!(question.run, Run::Server(_));
    let stamp = stamp.clone();
    Ok(Record {
        behaviour: question.behaviour,
        question: question.name.to_owned(),
        over: if is_server { "mariadb" } else { "script" }.to_owned(),
        subject: subject.id().to_owned(),
        version: subject.version().to_owned(),
        outcome,
        detail,
        tries,
        server: if is_server { server.clone() } else { String::new() },
        commit: stamp.commit,
        rustc: stamp.rustc,
        cpu: stamp.cpu,
        cores: stamp.cores,
        date: stamp.date,
    })
}

/// Whether a question must be alone with its server.
fn needs_the_server_alone(question: &Question) -> bool {
    question.name == "the_pool_recovers_from_a_restart_of_the_server"
}

/// Puts every question to every subject, several at a time; those that restart a server one after the other.
///
/// # Errors
///
/// When no processes can be started.
pub fn ask_all(
    questions: &[Question],
    subjects: &[Subject],
    circumstances: &Circumstances,
    told: impl Fn(&Record) + Sync,
) -> Result<Vec<Record>, Failure> {
    // Those that wait for r2d2's reaper begin first, or the run would wait for them at its end.
    let mut work: Vec<(Question, Subject)> =
        subjects.iter().flat_map(|subject| questions.iter().map(|question| (*question, *subject))).collect();
    work.sort_by_key(|(question, subject)| {
        let waits = subject.0 == Entrant::R2d2 && is_by_the_clock(question);
        (!waits, !needs_the_server_alone(question))
    });
    let next = AtomicUsize::new(0);
    let records = Mutex::new(Vec::with_capacity(work.len()));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|place| {
                let (work, next, records, told) = (&work, &next, &records, &told);
                scope.spawn(move || -> Result<(), Failure> {
                    // One of the workers restarts the server, the others do the rest.
                    if place == 0 {
                        for (question, subject) in work.iter().filter(|(question, _)| needs_the_server_alone(question))
                        {
                            let record = ask(*question, *subject, circumstances)?;
                            told(&record);
                            records.lock().expect("no poison").push(record);
                        }
                    }
                    while let Some((question, subject)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if needs_the_server_alone(question) {
                            continue;
                        }
                        let record = ask(*question, *subject, circumstances)?;
                        told(&record);
                        records.lock().expect("no poison").push(record);
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    let mut records = records.into_inner().expect("no poison");
    let place = |record: &Record| {
        let question = questions.iter().position(|question| question.name == record.question);
        let subject = subjects.iter().position(|subject| subject.id() == record.subject);
        (question, subject)
    };
    records.sort_by_key(place);
    Ok(records)
}

/// Whether the answer waits for what a pool does by the clock.
fn is_by_the_clock(question: &Question) -> bool {
    (29..=31).contains(&question.behaviour)
}
