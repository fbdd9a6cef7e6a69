//! From samples to `reports/data/*.csv`, cell by cell, so that a crash keeps what was finished.

use std::path::{Path, PathBuf};
use std::{env, fs};

use serde::Deserialize;

use crate::backend::Failure;
use crate::record::Record;
use crate::stamp::Stamp;

/// The variable that sends data, charts and report somewhere else than into `reports`.
pub const REPORTS_VARIABLE: &str = "BENCH_REPORTS";

/// Where the data, the charts and the report are.
#[must_use]
pub fn reports_folder() -> PathBuf {
    match env::var_os(REPORTS_VARIABLE) {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("../reports"),
    }
}

/// The records of one suite, on disk after every cell.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    records: Vec<Record>,
}

impl Store {
    /// The records of `suite` that a run under `stamp` may continue. Records of another commit, machine, compiler or
    /// run length are left out, and vanish from the disk when the first new cell is written: a table never mixes them.
    ///
    /// # Errors
    ///
    /// When there is a file that cannot be read.
    pub fn open(reports: &Path, suite: &str, stamp: &Stamp) -> Result<Self, Failure> {
        let path = reports.join("data").join(format!("{suite}.csv"));
        let mut records = if path.exists() { read(&path)? } else { Vec::new() };
        records.retain(|record| record.stamp().is_comparable(stamp));
        Ok(Self { path, records })
    }

    /// Writes `new`, in place of older answers to the same questions.
    ///
    /// # Errors
    ///
    /// When the file cannot be written; the old one is whole then.
    pub fn write(&mut self, new: Vec<Record>) -> Result<(), Failure> {
        self.records.retain(|old| !new.iter().any(|record| record.is_same_question(old)));
        self.records.extend(new);
        write(&self.path, &self.records)
    }
}

/// Reads a file of records.
///
/// # Errors
///
/// When it cannot be read or a line is not a record.
pub fn read(path: &Path) -> Result<Vec<Record>, Failure> {
    let failed = |error: csv::Error| Failure::of(path.display(), error);
    csv::Reader::from_path(path).map_err(failed)?.deserialize().collect::<Result<_, _>>().map_err(failed)
}

/// Writes a file of records as a whole or not at all.
///
/// # Errors
///
/// When it cannot be written.
pub fn write(path: &Path, records: &[Record]) -> Result<(), Failure> {
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
    fs::rename(&partial, path).map_err(|error| failed(&error))
}

/// Reads every suite's records; none where nothing was measured yet.
///
/// # Errors
///
/// When a file cannot be read.
pub fn read_all(reports: &Path) -> Result<Vec<Record>, Failure> {
    let folder = reports.join("data");
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let failed = |error: std::io::Error| Failure::of(folder.display(), error);
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // The answers of the conformance checks lie there, too, and are no measurements.
        let is_answers = path.file_name().is_some_and(|name| name == crate::conformance::table::DATA);
        if !is_answers && path.extension().is_some_and(|extension| extension == "csv") {
            paths.push(path);
        }
    }
    paths.sort();
    let mut records = Vec::new();
    for path in paths {
        records.extend(read(&path)?);
    }
    Ok(records)
}

/// Criterion's samples of one benchmark.
#[derive(Debug, Deserialize)]
struct CriterionSample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// Where criterion puts its files: beside the program that runs.
#[must_use]
pub fn criterion_folder() -> PathBuf {
    let target = env::current_exe().ok().and_then(|program| Some(program.parent()?.parent()?.parent()?.to_owned()));
    target.unwrap_or_else(|| PathBuf::from("target")).join("criterion")
}

/// Criterion's samples of a benchmark, in nanoseconds per iteration, and removes them, so that they are not taken twice.
/// `None` when it measured nothing, as when the benchmark was filtered out.
///
/// The samples and not criterion's estimates, because the mean and the slope that it reports are moved far by a single
/// preemption, and a median is not.
///
/// # Errors
///
/// When the file is not what criterion 0.8 writes.
pub fn take_criterion_samples(
    folder: &Path,
    group: &str,
    function: &str,
    value: &str,
) -> Result<Option<Vec<f64>>, Failure> {
    let path = folder.join(group).join(function).join(value).join("new/sample.json");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    let sample: CriterionSample = serde_json::from_str(&text).map_err(|error| Failure::of(path.display(), error))?;
    if sample.iters.len() != sample.times.len() || sample.iters.is_empty() {
        return Err(Failure::of(path.display(), "as many times as iteration counts were expected"));
    }
    fs::remove_file(&path).map_err(|error| Failure::of(path.display(), error))?;
    Ok(Some(sample.times.iter().zip(&sample.iters).map(|(time, iters)| time / iters).collect()))
}
