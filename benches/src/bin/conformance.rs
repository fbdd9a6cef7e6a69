//! Puts the pools through the checks of [`benches::conformance`] and records the answers.
//!
//! ```text
//! conformance [--subject ID]... [--behaviour NUMBER | NAME]... [--list] [--no-record]
//! ```

use std::env;
use std::process::ExitCode;

use benches::backend::Failure;
use benches::collect::reports_folder;
use benches::conformance::behaviours::{Question, Run, all};
use benches::conformance::run::{CHILD, Circumstances, Outcome, Record, TRIES, ask_all, child};
use benches::conformance::server::Server;
use benches::conformance::subjects::Subject;
use benches::conformance::table;
use benches::stamp::Stamp;

const USAGE: &str = "conformance [--subject ID]... [--behaviour NUMBER | NAME]... [--list] [--no-record]";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == CHILD) {
        return child(&arguments[1..]);
    }
    match run(&arguments) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("conformance: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// What is asked for on the command line.
struct Asked {
    subjects: Vec<Subject>,
    questions: Vec<Question>,
    is_list: bool,
    is_recorded: bool,
}

fn asked(arguments: &[String]) -> Result<Asked, Failure> {
    let (mut subjects, mut names) = (Vec::new(), Vec::new());
    let (mut is_list, mut is_recorded) = (false, true);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| Failure::new(format!("{argument} needs a value\n{USAGE}")));
        match argument.as_str() {
            "--subject" => {
                let id = value()?;
                let known = || Subject::ALL.map(Subject::id).join(", ");
                let none = || Failure::new(format!("there is no subject '{id}'; there are: {}", known()));
                subjects.push(Subject::from_id(id).ok_or_else(none)?);
            }
            "--behaviour" => names.push(value()?.clone()),
            "--list" => is_list = true,
            "--no-record" => is_recorded = false,
            _ => return Err(Failure::new(format!("what is '{argument}'?\n{USAGE}"))),
        }
    }
    let mut questions = all();
    if let Some(unknown) = names.iter().find(|name| !questions.iter().any(|question| is_named(question, name))) {
        return Err(Failure::new(format!("there is no behaviour '{unknown}'; see --list")));
    }
    questions.retain(|question| names.is_empty() || names.iter().any(|name| is_named(question, name)));
    if subjects.is_empty() {
        subjects = Subject::ALL.to_vec();
    }
    Ok(Asked { subjects, questions, is_list, is_recorded })
}

fn is_named(question: &Question, name: &str) -> bool {
    question.name == name || question.behaviour.to_string() == name
}

fn run(arguments: &[String]) -> Result<ExitCode, Failure> {
    let Asked { subjects, mut questions, is_list, is_recorded } = asked(arguments)?;
    if is_list {
        for question in &questions {
            let over = if matches!(question.run, Run::Server(_)) { " (MariaDB)" } else { "" };
            println!("{:2} {}{over}", question.behaviour, question.name);
        }
        println!("\nsubjects: {}", Subject::ALL.map(Subject::id).join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    let server = match Server::from_env()? {
        Some(server) => server.version()?,
        None => {
            if questions.iter().any(|question| matches!(question.run, Run::Server(_))) {
                eprintln!("skipped: everything that needs MariaDB; {}", benches::backend::mysql::HOW_TO_GET_ONE);
            }
            questions.retain(|question| !matches!(question.run, Run::Server(_)));
            String::new()
        }
    };
    let program = env::current_exe().map_err(|error| Failure::of("this program", error))?;
    let circumstances = Circumstances { program, stamp: Stamp::now("conformance"), server, tries: TRIES };
    let records = ask_all(&questions, &subjects, &circumstances, say)?;
    if is_recorded {
        table::store(&reports_folder(), &records)?;
    }
    let count = |outcome| records.iter().filter(|record| record.outcome == outcome).count();
    println!(
        "{} pass, {} fail, {} unsteady, {} not applicable",
        count(Outcome::Pass),
        count(Outcome::Fail),
        count(Outcome::Unsteady),
        count(Outcome::NotApplicable)
    );
    // A peer's failure is an answer; one of ours is a bug.
    let is_ours = |record: &&Record| Subject::from_id(&record.subject).is_some_and(Subject::is_ours);
    let is_bug = records.iter().filter(is_ours).any(|record| record.outcome == Outcome::Fail);
    Ok(if is_bug { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn say(record: &Record) {
    let Record { behaviour, question, subject, outcome, detail, tries, .. } = record;
    let outcome = match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::Unsteady => "unsteady",
        Outcome::NotApplicable => "n/a",
    };
    let tries = if *tries > 1 { format!(" ({tries} tries)") } else { String::new() };
    println!("{behaviour:2} {question} / {subject}: {outcome}{tries} {detail}");
}
