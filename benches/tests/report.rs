//! From records to files and pictures, with invented numbers.

use std::fs;
use std::path::PathBuf;

use benches::chart::figures::{Data, Figure, figures};
use benches::collect::{Store, read, read_all, take_criterion_samples};
use benches::contenders::Entrant;
use benches::fairness::{Contestant, Load};
use benches::footprint::{CROWD_MS, IDLE_BYTES, Question, TASK_BYTES, THREAD_BYTES, THREADS};
use benches::options::PoolOption;
use benches::record::{
    CLOSE_NS, CONNECT_NS, Cell, Course, MAX, Metric, NS_PER_OP, OPERATION_MAX, OPERATION_P99, OPERATION_P999,
    OPS_PER_S, P50, P99, P999, PARTS, PING_NS, Record, Spread, THREAD_NS_PER_OP, UNFAIRNESS, WALL_MS,
};
use benches::report::{pieces, publish, splice};
use benches::scenario::cancel::USABLE;
use benches::scenario::door::Kind;
use benches::scenario::outage::{ATTEMPTS_PER_S, FAILURES, RECOVERY_MS, RETURNED_MS, SUCCESSES, TOLD, UNTOLD, WENT_MS};
use benches::scenario::spike::{OPEN, OPENED, OPENED_WHEN_SERVED};
use benches::scenario::{ERRORS, Scenario};
use benches::stamp::Stamp;
use benches::tasks::TaskHold;
use benches::ways::Way;
use benches::workload::{HOLDS, SEED_ROWS};

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pool-bench-test-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn stamp(commit: &str) -> Stamp {
    Stamp {
        commit: commit.into(),
        rustc: "rustc 1.95.0 (of some day)".into(),
        cpu: "A processor, with a comma and \"quotes\"".into(),
        cores: 2,
        profile: "default".into(),
        date: "2026-11-23".into(),
    }
}

fn cell(suite: &str, workload: &str, contender: &str, threads: usize, size: usize) -> Cell {
    Cell {
        suite: suite.into(),
        workload: workload.into(),
        backend: "stub".into(),
        flush: String::new(),
        contender: contender.into(),
        threads,
        size,
        hold_us: 0,
        rows: 0,
    }
}

fn spread(median: f64) -> Spread {
    Spread { low: median * 0.9, median, high: median * 1.3, samples: 3 }
}

fn record(cell: &Cell, metric: Metric, median: f64) -> Record {
    Record::new(cell, metric, spread(median), 1_000, "10.11", &stamp("0123456789"))
}

/// Records of every suite for every contender, five decades apart, some of them equal.
fn everything() -> Vec<Record> {
    let mut records = Vec::new();
    for (place, entrant) in Entrant::ALL.into_iter().enumerate() {
        let id = entrant.row().id;
        let slow = 10f64.powf(place as f64 / 4.0);
        records.push(record(&cell("checkout", "checkout", id, 1, 10), NS_PER_OP, 5.0 * slow));
        for threads in [1, 2, 4, 8, 16, 32] {
            let cell = cell("scaling", "scaling", id, threads, threads);
            records.push(record(&cell, NS_PER_OP, 5.0 * slow));
            records.push(record(&cell, OPS_PER_S, 2e8 / slow));
        }
        for size in [8, 4] {
            for hold in HOLDS {
                records.push(record(&cell("saturation", &hold.label(), id, 16, size), OPS_PER_S, 2e8 / slow));
                let cell = cell("latency", &hold.label(), id, 16, size);
                for (metric, factor) in [(P50, 1.0), (P99, 10.0), (P999, 100.0), (MAX, 300.0)] {
                    records.push(record(&cell, metric, 100.0 * slow * factor));
                }
                for (metric, factor) in [(OPERATION_P99, 20.0), (OPERATION_P999, 200.0), (OPERATION_MAX, 600.0)] {
                    records.push(record(&cell, metric, 100.0 * slow * factor));
                }
                records.push(record(&cell, UNFAIRNESS, 1.0 + place as f64));
            }
        }
        for flush in ["durable", "relaxed"] {
            for threads in [1, 2, 4, 8, 16] {
                for rows in SEED_ROWS {
                    let cell = Cell {
                        flush: flush.into(),
                        backend: "mariadb".into(),
                        rows,
                        ..cell("seed", "insert", id, threads, threads.max(10))
                    };
                    records.push(record(&cell, WALL_MS, rows as f64 / threads as f64));
                }
            }
            for threads in [1, 4] {
                for workload in ["clocks", "ablation"] {
                    let cell = Cell {
                        flush: flush.into(),
                        backend: "mariadb".into(),
                        ..cell("split", workload, id, threads, 10)
                    };
                    records.push(record(&cell, THREAD_NS_PER_OP, 200_000.0));
                    for (part, metric) in PARTS.into_iter().enumerate() {
                        records.push(record(&cell, metric, 10f64.powi(i32::try_from(part).unwrap())));
                    }
                }
            }
        }
        for hold in TaskHold::ALL {
            records.push(record(&cell("tasks", hold.label(), id, 16, 4), OPS_PER_S, 2e8 / slow));
        }
        for workload in ["point select", "insert"] {
            let cell = Cell { backend: "mariadb".into(), ..cell("order", workload, id, 2, 10) };
            records.push(record(&cell, NS_PER_OP, 1e5));
        }
        for backend in ["mariadb", "sqlite"] {
            let cell = Cell { backend: backend.into(), ..cell("seed", "point select", id, 4, 10) };
            records.push(record(&cell, NS_PER_OP, 1e5));
            records.push(record(&cell, OPS_PER_S, 1e4));
        }
    }
    over_time(&mut records);
    for way in Way::ALL {
        let cell = cell("connect", "connect", way.id(), 1, 1);
        if way.is_ping() {
            records.push(record(&cell, PING_NS, 1e5));
        } else {
            records.push(record(&cell, CONNECT_NS, 1e6));
            records.push(record(&cell, CLOSE_NS, 1e4));
        }
    }
    records
}

/// Records of the scenarios, the policies and the memory, with courses.
fn over_time(records: &mut Vec<Record>) {
    let course = |step_ms: u64, most: f64| Course {
        step_ms,
        values: (0..120).map(|step| most * f64::from(step % 7) / 6.0).collect(),
    };
    for scenario in Scenario::ALL {
        for kind in Kind::ALL {
            for (place, entrant) in kind.entrants().iter().enumerate() {
                let cell = cell("scenarios", &scenario.workload(kind), entrant.row().id, 20, 10);
                let large = 10f64.powf(place as f64 / 2.0);
                let summary = [
                    OPENED,
                    OPENED_WHEN_SERVED,
                    WALL_MS,
                    OPS_PER_S,
                    P50,
                    P99,
                    P999,
                    MAX,
                    UNFAIRNESS,
                    ERRORS,
                    TOLD,
                    UNTOLD,
                    ATTEMPTS_PER_S,
                    RECOVERY_MS,
                    USABLE,
                ];
                records.extend(summary.map(|metric| record(&cell, metric, 1_234.0 * large)));
                records.push(record(&cell, WENT_MS, 1_000.0));
                records.push(record(&cell, RETURNED_MS, 11_000.0));
                let followed = match scenario {
                    Scenario::Spike => vec![(OPEN, course(10, 50.0))],
                    Scenario::Outage => vec![(SUCCESSES, course(100, 180.0)), (FAILURES, course(100, 20.0 * large))],
                    Scenario::Saturation => {
                        let waits = [P50, P99, MAX].map(|metric| (metric, course(1_000, 1e6 * large)));
                        [(OPS_PER_S, course(1_000, 4_000.0))].into_iter().chain(waits).collect()
                    }
                    Scenario::Churn | Scenario::Cancel => Vec::new(),
                };
                records.extend(followed.iter().map(|(metric, course)| record(&cell, *metric, 1.0).with_course(course)));
            }
        }
    }
    for load in Load::ALL {
        for (place, contestant) in Contestant::ALL.into_iter().enumerate().filter(|(_, one)| load.suits(*one)) {
            let cell = contestant.cell(load);
            for (metric, value) in [(OPS_PER_S, 1e8), (P50, 30.0), (P99, 3e4), (P999, 3e6), (MAX, 4e8)] {
                records.push(record(&cell, metric, value / 3f64.powi(i32::try_from(place).unwrap())));
            }
            records.push(record(&cell, UNFAIRNESS, 1.0 + place as f64));
        }
    }
    for question in Question::ALL {
        for entrant in question.entrants() {
            let cell = question.cell(*entrant, 25_000);
            for metric in [IDLE_BYTES, THREADS, THREAD_BYTES, TASK_BYTES, CROWD_MS] {
                records.push(record(&cell, metric, 1_234.0));
            }
        }
    }
}

#[test]
fn a_number_and_its_course_are_two_records() {
    let folder = Folder::new("course");
    let mut store = Store::open(&folder.0, "scenarios", &stamp("0123456789")).unwrap();
    let cell = cell("scenarios", "saturation over time, threads", "slots", 16, 4);
    let whole = record(&cell, OPS_PER_S, 5.0);
    let course = Course { step_ms: 100, values: vec![4.0, 6.0] };
    let followed = record(&cell, OPS_PER_S, 7.0).with_course(&course);
    store.write(vec![whole.clone()]).unwrap();
    store.write(vec![followed.clone()]).unwrap();
    let records = read_all(&folder.0).unwrap();
    assert_eq!(records, [whole, followed]);
    let data = Data::of(&records, "scenarios");
    assert_eq!(data.spread(OPS_PER_S), Some(spread(5.0)));
    assert_eq!(data.course(OPS_PER_S), Some(course));
}

#[test]
fn records_from_before_there_were_courses_are_read() {
    let folder = Folder::new("old");
    let mut store = Store::open(&folder.0, "checkout", &stamp("0123456789")).unwrap();
    let written = record(&cell("checkout", "checkout", "slots", 1, 10), NS_PER_OP, 5.0);
    store.write(vec![written.clone()]).unwrap();
    let path = folder.0.join("data/checkout.csv");
    let text = fs::read_to_string(&path).unwrap();
    let old: Vec<&str> = text.lines().map(|line| line.rsplitn(3, ',').nth(2).unwrap()).collect();
    assert!(old[0].ends_with(",date"), "{}", old[0]);
    fs::write(&path, old.join("\n")).unwrap();
    assert_eq!(read(&path).unwrap(), [written]);
}

#[test]
fn records_survive_the_disk() {
    let folder = Folder::new("disk");
    let stamp = stamp("0123456789");
    let mut store = Store::open(&folder.0, "checkout", &stamp).unwrap();
    let slots = cell("checkout", "checkout", "slots", 1, 10);
    let written = record(&slots, NS_PER_OP, 5.0);
    store.write(vec![written.clone()]).unwrap();
    assert_eq!(read_all(&folder.0).unwrap(), std::slice::from_ref(&written));
    assert_eq!(written.spread(), spread(5.0));
    assert_eq!(written.cell(), slots);
    assert_eq!(written.stamp(), stamp);

    let again = record(&slots, NS_PER_OP, 6.0);
    let other = record(&cell("checkout", "checkout", "mutex", 1, 10), NS_PER_OP, 7.0);
    store.write(vec![again.clone()]).unwrap();
    store.write(vec![other.clone()]).unwrap();
    assert_eq!(read_all(&folder.0).unwrap(), [again, other], "a new answer replaces the old one, others stay");
}

#[test]
fn records_of_another_commit_are_not_mixed_in_and_not_lost_before_there_are_new_ones() {
    let folder = Folder::new("commit");
    let path = folder.0.join("data/checkout.csv");
    let mut old = Store::open(&folder.0, "checkout", &stamp("0123456789")).unwrap();
    old.write(vec![record(&cell("checkout", "checkout", "slots", 1, 10), NS_PER_OP, 5.0)]).unwrap();

    let mut new = Store::open(&folder.0, "checkout", &stamp("9876543210")).unwrap();
    assert_eq!(read(&path).unwrap().len(), 1);
    let cell = cell("checkout", "checkout", "mutex", 1, 10);
    new.write(vec![Record::new(&cell, NS_PER_OP, spread(7.0), 1, "", &stamp("9876543210"))]).unwrap();
    let records = read(&path).unwrap();
    assert_eq!(records.iter().map(|record| record.contender.as_str()).collect::<Vec<_>>(), ["mutex"]);
}

#[test]
fn a_damaged_file_of_records_is_named() {
    let folder = Folder::new("damaged");
    fs::create_dir_all(folder.0.join("data")).unwrap();
    fs::write(folder.0.join("data/checkout.csv"), "suite,workload\ncheckout\n").unwrap();
    let failure = read_all(&folder.0).unwrap_err().to_string();
    assert!(failure.contains("checkout.csv"), "{failure}");
}

#[test]
fn criterions_samples_are_taken_once() {
    let folder = Folder::new("criterion");
    let new = folder.0.join("group/slots/1-on-10/new");
    fs::create_dir_all(&new).unwrap();
    fs::write(new.join("sample.json"), r#"{"sampling_mode":"Flat","iters":[10.0,20.0],"times":[100.0,300.0]}"#)
        .unwrap();
    let take = || take_criterion_samples(&folder.0, "group", "slots", "1-on-10").unwrap();
    assert_eq!(take(), Some(vec![10.0, 15.0]));
    assert_eq!(take(), None);
}

/// A text of an SVG: where it begins and ends, by a generous guess of its width, and its height.
struct Label {
    text: String,
    from: f64,
    to: f64,
    y: f64,
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    Some(tag.split_once(&format!("{name}=\""))?.1.split_once('"')?.0.to_owned())
}

fn labels(svg: &str) -> Vec<Label> {
    let mut labels = Vec::new();
    for rest in svg.split("<text ").skip(1) {
        let (tag, rest) = rest.split_once('>').unwrap();
        let text = rest.split_once("</text>").unwrap().0.trim().replace("&lt;", "<").replace("&gt;", ">");
        let number = |name: &str| attribute(tag, name).unwrap().parse::<f64>().unwrap();
        let (x, y, size) = (number("x"), number("y"), number("font-size"));
        let width = text.chars().count() as f64 * size * 0.62;
        let from = match attribute(tag, "text-anchor").as_deref() {
            Some("middle") => x - width / 2.0,
            Some("end") => x - width,
            _ => x,
        };
        labels.push(Label { text, from, to: from + width, y });
    }
    labels
}

fn all_figures() -> Vec<Figure> {
    figures(&everything()).unwrap()
}

#[test]
fn every_chart_is_drawn_and_says_where_its_numbers_are_from() {
    let figures = all_figures();
    assert_eq!(figures.len(), 15, "{:?}", figures.iter().map(|figure| figure.file).collect::<Vec<_>>());
    for Figure { file, svg, .. } in figures {
        assert!(svg.contains("commit 0123456789"), "{file} does not name its commit");
        assert!(svg.contains("A processor"), "{file} does not name its machine");
    }
}

#[test]
fn charts_of_everybody_name_everybody() {
    for Figure { file, svg, .. } in all_figures() {
        let labels: Vec<String> = labels(&svg).into_iter().map(|label| label.text).collect();
        let is_named = |entrant: &Entrant| labels.iter().any(|label| label == entrant.row().label);
        if ["checkout.svg", "cycle.svg", "saturation.svg", "latency.svg", "fairness.svg"].contains(&file) {
            for entrant in Entrant::ALL {
                assert!(is_named(&entrant), "{file} does not name {}", entrant.row().label);
            }
        }
    }
}

#[test]
fn no_label_is_outside_its_chart_or_on_another_label() {
    for Figure { file, svg, .. } in all_figures() {
        let size = |name| attribute(svg.split_once("<svg").unwrap().1, name).unwrap().parse::<f64>().unwrap();
        let (width, height) = (size("width"), size("height"));
        let labels = labels(&svg);
        for Label { text, from, to, y } in &labels {
            assert!(*from >= 0.0 && *to <= width, "{file}: {text:?} is from {from} to {to} of {width}");
            assert!(*y >= 6.0 && *y <= height - 6.0, "{file}: {text:?} is at {y} of {height}");
        }
        for (place, one) in labels.iter().enumerate() {
            for other in &labels[place + 1..] {
                let is_apart = (one.y - other.y).abs() >= 11.0 || one.to <= other.from || other.to <= one.from;
                assert!(is_apart, "{file}: {:?} and {:?} overlap", one.text, other.text);
            }
        }
    }
}

#[test]
fn a_report_is_filled_and_filling_it_again_changes_nothing() {
    let folder = Folder::new("report");
    let report = "# Ours\n\nBy hand.\n\n<!-- BEGIN generated:table-checkout -->\n<!-- END generated:table-checkout -->\n\n\
                  <!-- BEGIN generated:chart-cycle -->\n<!-- END generated:chart-cycle -->\n";
    let path = folder.0.join("README.md");
    fs::write(&path, report).unwrap();
    let records = everything();
    let figures = figures(&records).unwrap();
    let pieces = pieces(&records, &figures);
    publish(&folder.0, &figures, &pieces).unwrap();
    let filled = fs::read_to_string(&path).unwrap();
    assert!(filled.starts_with("# Ours\n\nBy hand.\n"));
    assert!(filled.contains("| **slots (ours)** |") && filled.contains("](charts/cycle.svg)"), "{filled}");
    assert!(folder.0.join("charts/cycle.svg").exists());
    assert_eq!(splice(&filled, &pieces).unwrap(), filled);
}

#[test]
fn the_options_table_says_what_each_option_adds() {
    let mut records = Vec::new();
    for (place, option) in PoolOption::ALL.into_iter().enumerate() {
        assert_eq!(PoolOption::from_id(option.id()), Some(option));
        for threads in [1, 2] {
            let cell = cell("options", option.id(), Entrant::Slots.row().id, threads, 10);
            records.push(record(&cell, NS_PER_OP, 6.0 + 10.0 * (place * threads) as f64));
        }
    }
    let pieces = pieces(&records, &figures(&records).unwrap());
    let table = &pieces.iter().find(|piece| piece.name == "table-options").expect("there are records").text;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2 + PoolOption::ALL.len(), "{table}");
    assert_eq!(lines[2], "| none: all defaults | 6 | – | 6 | – |");
    assert_eq!(lines[4], "| `on_checkin`, an empty hook | 26 | 20 | 46 | 40 |");
}

#[test]
fn rivals_are_compared_cell_by_cell() {
    let mut records = Vec::new();
    let cells = [(1, 100.0, 200.0), (2, 100.0, 101.0), (4, 100.0, 99.0), (8, 400.0, 100.0)];
    for (threads, ours, rival) in cells {
        for (entrant, time) in [(Entrant::Slots, ours), (Entrant::Deadpool, rival)] {
            for backend in ["mariadb", "sqlite"] {
                let cell =
                    Cell { backend: backend.into(), ..cell("seed", "point select", entrant.row().id, threads, 10) };
                records.push(record(&cell, NS_PER_OP, time));
            }
        }
    }
    let pieces = pieces(&records, &figures(&records).unwrap());
    let table = &pieces.iter().find(|piece| piece.name == "table-rivals").expect("there are records").text;
    let lines: Vec<&str> = table.lines().skip(2).collect();
    // The fourth root of 1/2 * 100/101 * 100/99 * 4.
    assert_eq!(lines, ["| **slots (ours)** | deadpool | 2 of 4 | 1 | 1.19x |"]);
}

#[test]
fn turns_are_compared_with_the_same_row_without_them() {
    let mut records = Vec::new();
    for (entrant, time) in [(Entrant::Slots, 40e3), (Entrant::Deadpool, 50e3), (Entrant::DeadpoolTurns, 75e3)] {
        for threads in [1, 2] {
            let slower = threads as f64;
            let cell =
                Cell { backend: "mariadb".into(), ..cell("order", "point select", entrant.row().id, threads, 10) };
            records.push(record(
                &cell,
                NS_PER_OP,
                if entrant == Entrant::DeadpoolTurns { time * slower } else { time },
            ));
        }
    }
    let pieces = pieces(&records, &figures(&records).unwrap());
    let table = &pieces.iter().find(|piece| piece.name == "table-order").expect("there are records").text;
    let lines: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).collect();
    assert_eq!(
        lines,
        [
            "| threads | 1 | 2 |",
            "| **slots (ours)** | 40 µs | 40 µs |",
            "| deadpool | 50 µs | 50 µs |",
            "| deadpool, in turns | 75 µs | 150 µs |",
            "| threads | 1 | 2 |",
            "| deadpool | 1.5x | 3x |",
        ]
    );
}

#[test]
fn every_piece_has_its_place_in_the_published_report() {
    let report = concat!(include_str!("../../reports/README.md"), include_str!("../../reports/SCENARIOS.md"));
    let records = everything();
    for piece in pieces(&records, &figures(&records).unwrap()) {
        assert!(report.contains(&format!("<!-- BEGIN generated:{} -->", piece.name)), "{} has no place", piece.name);
    }
}
