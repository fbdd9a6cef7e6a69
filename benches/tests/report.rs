//! From records to files and pictures, with invented numbers.

use std::fs;
use std::path::PathBuf;

use benches::chart::figures::{Figure, figures};
use benches::collect::{Store, read, read_all, take_criterion_samples};
use benches::contenders::Entrant;
use benches::options::PoolOption;
use benches::record::{
    CLOSE_NS, CONNECT_NS, Cell, MAX, Metric, NS_PER_OP, OPS_PER_S, P50, P99, P999, PARTS, PING_NS, Record, Spread,
    THREAD_NS_PER_OP, UNFAIRNESS, WALL_MS,
};
use benches::report::{pieces, publish, splice};
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
        for backend in ["mariadb", "sqlite"] {
            let cell = Cell { backend: backend.into(), ..cell("seed", "point select", id, 4, 10) };
            records.push(record(&cell, NS_PER_OP, 1e5));
            records.push(record(&cell, OPS_PER_S, 1e4));
        }
    }
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
    assert_eq!(figures.len(), 11, "{:?}", figures.iter().map(|figure| figure.file).collect::<Vec<_>>());
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
fn every_piece_has_its_place_in_the_published_report() {
    let report = include_str!("../../reports/README.md");
    let records = everything();
    for piece in pieces(&records, &figures(&records).unwrap()) {
        assert!(report.contains(&format!("<!-- BEGIN generated:{} -->", piece.name)), "{} has no place", piece.name);
    }
}
