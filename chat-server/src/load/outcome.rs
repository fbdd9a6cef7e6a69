//! Numbers, and how they are printed: a table for people, JSON and CSV for programs.

use std::collections::BTreeMap;
use std::thread;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::process::cpu_model;
use crate::client::clock;

/// What a run found.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was asked: `traffic`, `logins`, `idle`, `start`.
    pub question: &'static str,
    /// How it was asked: what tells this run from others of the same question.
    pub settings: Vec<(&'static str, String)>,
    /// The numbers.
    pub metrics: Vec<Metric>,
    /// What should not have happened.
    pub problems: Vec<String>,
}

/// A number with its name and unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Metric {
    /// Its name in files.
    pub name: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// The number.
    pub value: f64,
}

/// The columns of the CSV that come from the settings and labels; missing ones are empty.
const COLUMNS: [&str; 17] = [
    "question",
    "protocol",
    "server",
    "database",
    "delivery",
    "pool",
    "nodes",
    "conversations",
    "group_size",
    "loop",
    "window",
    "rate",
    "size",
    "way",
    "in_flight",
    "sessions",
    "duration_s",
];

impl Outcome {
    /// Adds a number.
    pub fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.metrics.push(Metric { name, unit, value });
    }

    /// Adds the percentiles of a histogram of nanoseconds.
    pub fn add_latency(&mut self, names: [&'static str; 5], histogram: &Histogram<u64>) {
        if histogram.is_empty() {
            return;
        }
        let [p50, p90, p99, p999, max] = names;
        for (name, quantile) in [(p50, 0.5), (p90, 0.9), (p99, 0.99), (p999, 0.999), (max, 1.0)] {
            self.add(name, "ms", histogram.value_at_quantile(quantile) as f64 / 1e6);
        }
    }

    /// The number of that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.name == name).map(|metric| metric.value)
    }

    /// For people.
    pub fn table(&self, labels: &[(String, String)]) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header([self.question, "", ""]);
        let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in labels.chain(self.settings.iter().map(|(name, value)| (*name, value.as_str()))) {
            table.add_row([name, value, ""]);
        }
        for Metric { name, unit, value } in &self.metrics {
            table.add_row([(*name).to_owned(), digits(*value), (*unit).to_owned()]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{table}\n")
    }

    /// For programs: one object.
    pub fn json(&self, labels: &[(String, String)]) -> Value {
        let settings: BTreeMap<&str, &str> = labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .chain(self.settings.iter().map(|(name, value)| (*name, value.as_str())))
            .collect();
        let metrics: BTreeMap<&str, Value> = self
            .metrics
            .iter()
            .map(|metric| (metric.name, json!({"value": metric.value, "unit": metric.unit})))
            .collect();
        json!({"question": self.question, "settings": settings, "metrics": metrics, "problems": self.problems})
    }

    /// For reports: a line for each number, with where and when it was measured.
    ///
    /// # Errors
    ///
    /// When the writer fails, which it does not: it writes to memory.
    pub fn csv(&self, labels: &[(String, String)], with_head: bool) -> Result<Vec<u8>, csv::Error> {
        let value_of = |column: &str| -> String {
            if column == "question" {
                return self.question.to_owned();
            }
            let setting = self.settings.iter().find(|(name, _)| *name == column).map(|(_, value)| value.clone());
            let label = || labels.iter().find(|(name, _)| name == column).map(|(_, value)| value.clone());
            setting.or_else(label).unwrap_or_default()
        };
        let head: Vec<String> = COLUMNS.iter().map(|column| value_of(column)).collect();
        let cores = thread::available_parallelism().map_or(1, usize::from).to_string();
        let stamp = [value_of("commit"), value_of("rustc"), cpu_model(), cores, clock::date(clock::now_ms())];
        let mut writer = csv::Writer::from_writer(Vec::new());
        if with_head {
            let stamped = ["metric", "unit", "value", "commit", "rustc", "cpu", "cores", "date"];
            writer.write_record(COLUMNS.iter().chain(&stamped))?;
        }
        for Metric { name, unit, value } in &self.metrics {
            let number = [(*name).to_owned(), (*unit).to_owned(), format!("{value:.4}")];
            writer.write_record(head.iter().chain(&number).chain(&stamp))?;
        }
        writer.into_inner().map_err(|error| error.into_error().into())
    }
}

/// Three digits, or all of those before the point.
fn digits(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 || value == value.trunc() => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome() -> Outcome {
        let mut outcome = Outcome {
            question: "traffic",
            settings: vec![("protocol", "modern".into()), ("window", "1".into())],
            ..Outcome::default()
        };
        outcome.add("delivered", "1/s", 12_345.678);
        outcome
    }

    #[test]
    fn each_number_is_a_line_with_its_circumstances() {
        let labels = [("pool".to_owned(), "mutex".to_owned()), ("commit".to_owned(), "abc".to_owned())];
        let text = String::from_utf8(outcome().csv(&labels, true).unwrap()).unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let head = reader.headers().unwrap().clone();
        let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
        let field = |name: &str| rows[0].get(head.iter().position(|column| column == name).unwrap()).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (field("pool"), field("window"), field("metric"), field("value")),
            ("mutex", "1", "delivered", "12345.6780")
        );
        assert_eq!((field("commit"), field("group_size")), ("abc", ""));
        assert!(!field("date").is_empty() && !field("cpu").is_empty());
    }

    #[test]
    fn a_person_and_a_program_can_read_it() {
        let labels = [("pool".to_owned(), "mutex".to_owned())];
        let table = outcome().table(&labels);
        assert!(table.contains("12346") && table.contains("mutex"), "{table}");
        let value = outcome().json(&labels);
        assert_eq!(value["metrics"]["delivered"]["unit"], "1/s");
        assert_eq!(value["settings"]["pool"], "mutex");
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        (1..=1000_u64).for_each(|value| histogram.record(value * 1_000_000).unwrap());
        let mut outcome = Outcome::default();
        outcome.add_latency(["p50", "p90", "p99", "p999", "max"], &histogram);
        let value = outcome.get("p50").unwrap();
        assert!((499.0..502.0).contains(&value), "{value}");
    }
}
