//! From answers to `reports/data/conformance.csv`, and from there to the tables in `reports/CONFORMANCE.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::behaviours::{self, Question};
use super::run::{Outcome, Record};
use super::subjects::Subject;
use crate::backend::Failure;
use crate::report::{Piece, splice};

/// The file of the answers, which are no measurements.
pub const DATA: &str = "conformance.csv";
/// The report.
pub const REPORT: &str = "CONFORMANCE.md";

/// The recorded answers; none where nothing was asked yet.
///
/// # Errors
///
/// When they cannot be read.
pub fn load(reports: &Path) -> Result<Vec<Record>, Failure> {
    let path = reports.join("data").join(DATA);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let failed = |error: csv::Error| Failure::of(path.display(), error);
    csv::Reader::from_path(&path).map_err(failed)?.deserialize().collect::<Result<_, _>>().map_err(failed)
}

/// Writes `new` answers in place of older ones to the same questions, in the order of the tables. Answers to questions
/// that are not asked any more are dropped.
///
/// # Errors
///
/// When the file cannot be read or written; the old one is whole then.
pub fn store(reports: &Path, new: &[Record]) -> Result<(), Failure> {
    let mut records = load(reports)?;
    records.retain(|old| !new.iter().any(|record| record.is_same_question(old)));
    records.extend_from_slice(new);
    let questions = behaviours::all();
    let place = |record: &Record| {
        let question = questions.iter().position(|question| question.name == record.question)?;
        Some((question, Subject::ALL.iter().position(|subject| subject.id() == record.subject)?))
    };
    records.retain(|record| place(record).is_some());
    records.sort_by_key(place);

    let path = reports.join("data").join(DATA);
    let failed = |error: &dyn std::fmt::Display| Failure::of(path.display(), error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| failed(&error))?;
    }
    let partial = path.with_extension("csv.partial");
    let mut writer = csv::Writer::from_path(&partial).map_err(|error| failed(&error))?;
    for record in records {
        writer.serialize(record).map_err(|error| failed(&error))?;
    }
    writer.flush().map_err(|error| failed(&error))?;
    drop(writer);
    fs::rename(&partial, &path).map_err(|error| failed(&error))
}

/// Puts the tables into the report, if there are answers and a report.
///
/// # Errors
///
/// When one of the files cannot be read or written.
pub fn publish(reports: &Path) -> Result<usize, Failure> {
    let records = load(reports)?;
    let path = reports.join(REPORT);
    if records.is_empty() || !path.exists() {
        return Ok(records.len());
    }
    let failed = |error: std::io::Error| Failure::of(path.display(), error);
    let old = fs::read_to_string(&path).map_err(failed)?;
    let new = splice(&old, &pieces(&records)).map_err(|failure| failure.during(path.display()))?;
    if new != old {
        fs::write(&path, new).map_err(failed)?;
    }
    Ok(records.len())
}

/// The generated parts of the report.
#[must_use]
pub fn pieces(records: &[Record]) -> Vec<Piece> {
    let subjects: Vec<Subject> = Subject::ALL
        .into_iter()
        .filter(|subject| records.iter().any(|record| record.subject == subject.id()))
        .collect();
    let piece = |name: &str, text: String| Piece { name: name.to_owned(), text };
    vec![
        piece("conformance-stamp", stamp(records)),
        piece("conformance-subjects", configurations(&subjects)),
        piece("conformance-sums", sums(records, &subjects)),
        piece("conformance-script", answers(records, &subjects, "script")),
        piece("conformance-mariadb", answers(records, &subjects, "mariadb")),
        piece("conformance-failures", details(records, &subjects, &[Outcome::Fail, Outcome::Unsteady, Outcome::Pass])),
        piece("conformance-lacking", lacking(records, &subjects)),
    ]
}

/// The distinct values of a field, in their order.
fn distinct(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = values.filter(|value| !value.is_empty()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn stamp(records: &[Record]) -> String {
    let of = |field: fn(&Record) -> String| distinct(records.iter().map(field)).join("; ");
    format!(
        "{} answers of {}; commit {}; {}; MariaDB {}; {}, {} cores.\n",
        records.len(),
        of(|record| record.date.clone()),
        of(|record| record.commit.clone()),
        of(|record| record.rustc.split(" (").next().unwrap_or_default().to_owned()),
        of(|record| record.server.clone()),
        of(|record| record.cpu.clone()),
        of(|record| record.cores.to_string()),
    )
}

fn label(subject: Subject) -> String {
    let row = subject.0.row();
    let label = row.label.trim_end_matches(" (ours)");
    if row.is_ours { format!("**{label}**") } else { label.to_owned() }
}

fn configurations(subjects: &[Subject]) -> String {
    let mut text = String::from("| subject | version | configuration |\n|:--|:--|:--|\n");
    for subject in subjects {
        let _ = writeln!(text, "| {} | {} | {} |", label(*subject), subject.version(), subject.configuration());
    }
    text
}

fn headings(text: &mut String, first: &str, subjects: &[Subject]) {
    let labels: Vec<String> = subjects.iter().map(|subject| label(*subject)).collect();
    let _ = writeln!(text, "| {first} | {} |\n|:--|{}", labels.join(" | "), ":-:|".repeat(subjects.len()));
}

fn sums(records: &[Record], subjects: &[Subject]) -> String {
    let mut text = String::new();
    headings(&mut text, "answers", subjects);
    for (name, outcome) in [
        ("pass", Outcome::Pass),
        ("fail", Outcome::Fail),
        ("unsteady", Outcome::Unsteady),
        ("n/a", Outcome::NotApplicable),
    ] {
        let counts = subjects.iter().map(|subject| {
            let own = |record: &&Record| record.subject == subject.id() && record.outcome == outcome;
            records.iter().filter(own).count().to_string()
        });
        let _ = writeln!(text, "| {name} | {} |", counts.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn find<'a>(records: &'a [Record], question: &Question, subject: Subject) -> Option<&'a Record> {
    records.iter().find(|record| record.question == question.name && record.subject == subject.id())
}

/// One row a question, one column a subject.
fn answers(records: &[Record], subjects: &[Subject], over: &str) -> String {
    let mut text = String::new();
    headings(&mut text, "behaviour", subjects);
    for question in behaviours::all() {
        if !records.iter().any(|record| record.question == question.name && record.over == over) {
            continue;
        }
        let fields = subjects.iter().map(|subject| match find(records, &question, *subject) {
            None => "",
            Some(record) => match record.outcome {
                Outcome::Pass => "pass",
                Outcome::Fail => "**fail**",
                Outcome::Unsteady => "unsteady",
                Outcome::NotApplicable => "–",
            },
        });
        let fields = fields.collect::<Vec<_>>().join(" | ");
        let _ = writeln!(text, "| {} {} | {fields} |", question.behaviour, sentence(question.name));
    }
    text
}

/// A name as a sentence.
fn sentence(name: &str) -> String {
    name.replace('_', " ")
}

/// What was seen, subject by subject, and the command that shows it again.
fn details(records: &[Record], subjects: &[Subject], outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for subject in subjects {
        let own = |record: &&Record| {
            record.subject == subject.id() && outcomes.contains(&record.outcome) && !record.detail.is_empty()
        };
        let seen: Vec<&Record> = records.iter().filter(own).collect();
        if seen.is_empty() {
            continue;
        }
        let _ = writeln!(text, "### {}\n", subject.version());
        for record in seen {
            let outcome = match record.outcome {
                Outcome::Pass => " (passed)",
                Outcome::Unsteady => " (unsteady)",
                _ => "",
            };
            let _ = writeln!(
                text,
                "- {} *{}*{outcome}: {}.<br>`scripts/conformance --subject {} --behaviour {}`",
                record.behaviour,
                sentence(&record.question),
                record.detail.replace('|', "\\|").replace('<', "&lt;"),
                record.subject,
                record.question
            );
        }
        text.push('\n');
    }
    text
}

/// Why questions are not applicable: the reason, and whom it holds of.
fn lacking(records: &[Record], subjects: &[Subject]) -> String {
    let mut text = String::from("| subject | what is lacking | questions |\n|:--|:--|--:|\n");
    for subject in subjects {
        let own: Vec<&Record> = records
            .iter()
            .filter(|record| record.subject == subject.id() && record.outcome == Outcome::NotApplicable)
            .collect();
        for reason in distinct(own.iter().map(|record| record.detail.clone())) {
            let count = own.iter().filter(|record| record.detail == reason).count();
            let _ = writeln!(text, "| {} | {reason} | {count} |", label(*subject));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(question: &Question, subject: Subject, outcome: Outcome, detail: &str) -> Record {
        Record {
            behaviour: question.behaviour,
            question: question.name.to_owned(),
            over: "script".to_owned(),
            subject: subject.id().to_owned(),
            version: subject.version().to_owned(),
            outcome,
            detail: detail.to_owned(),
            tries: 1,
            server: String::new(),
            commit: "0123456789".to_owned(),
            rustc: "rustc 1.95.0 (of some day)".to_owned(),
            cpu: "a processor".to_owned(),
            cores: 2,
            date: "2026-11-23".to_owned(),
        }
    }

    #[test]
    fn a_failure_is_in_the_table_with_what_was_seen_and_how_to_see_it_again() {
        let question = behaviours::all()[0];
        let subject = Subject::ALL[4];
        let pieces = pieces(&[record(&question, subject, Outcome::Fail, "7 connections | of 3")]);
        let text = |name: &str| pieces.iter().find(|piece| piece.name == name).map(|piece| piece.text.clone()).unwrap();
        assert!(text("conformance-script").contains("**fail**"));
        assert!(text("conformance-sums").contains("| fail | 1 |"));
        let failures = text("conformance-failures");
        assert!(failures.contains("7 connections \\| of 3"), "{failures}");
        let command = format!("scripts/conformance --subject {} --behaviour {}", subject.id(), question.name);
        assert!(failures.contains(&command), "{failures}");
    }

    #[test]
    fn a_new_answer_takes_the_place_of_the_old_one() {
        let folder = std::env::temp_dir().join(format!("pool-conformance-test-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let (first, second) = (behaviours::all()[0], behaviours::all()[1]);
        let subject = Subject::ALL[0];
        let old = [record(&second, subject, Outcome::Pass, ""), record(&first, subject, Outcome::Fail, "seen")];
        store(&folder, &old).unwrap();
        store(&folder, &[record(&first, subject, Outcome::Pass, "")]).unwrap();
        let records = load(&folder).unwrap();
        let _ = fs::remove_dir_all(&folder);
        let answers: Vec<_> = records.iter().map(|record| (record.question.as_str(), record.outcome)).collect();
        assert_eq!(answers, [(first.name, Outcome::Pass), (second.name, Outcome::Pass)]);
    }
}
