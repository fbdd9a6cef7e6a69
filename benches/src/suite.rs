//! What all suites share: the command line, progress, the way out, and the place where finished cells go.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Instant;
use std::{env, fs};

use criterion::{BenchmarkFilter, Criterion};

use crate::backend::Failure;
use crate::backend::mysql::{HOW_TO_GET_ONE, Mysql, Observer};
use crate::collect::{Store, criterion_folder, reports_folder};
use crate::profile::Profile;
use crate::record::{Cell, Course, Metric, Record, Spread};
use crate::stamp::Stamp;

/// Criterion's options that take a value, so that the value is not taken for a filter.
const OPTIONS_WITH_VALUE: [&str; 18] = [
    "-c",
    "--color",
    "--colour",
    "-s",
    "--save-baseline",
    "-b",
    "--baseline",
    "--baseline-lenient",
    "--load-baseline",
    "--sample-size",
    "--warm-up-time",
    "--measurement-time",
    "--nresamples",
    "--noise-threshold",
    "--confidence-level",
    "--significance-level",
    "--profile-time",
    "--output-format",
];

/// A suite that runs.
#[derive(Debug)]
pub struct Suite {
    name: &'static str,
    started: Instant,
    profile: Profile,
    filter: Option<String>,
    is_list: bool,
    stamp: Stamp,
    store: Option<Store>,
    finished: usize,
    server: String,
}

/// Runs a suite as a program.
pub fn run(name: &'static str, body: impl FnOnce(&mut Suite) -> Result<(), Failure>) -> ExitCode {
    let mut suite = match Suite::from_args(name) {
        Ok(suite) => suite,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            return ExitCode::FAILURE;
        }
    };
    match body(&mut suite) {
        Ok(()) => {
            if !suite.is_list {
                let Suite { finished, profile, started, .. } = suite;
                say(&format!("{name}: {finished} cells, {} run, {:.0?}", profile.name(), started.elapsed()));
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let kept = match (&suite.store, suite.finished) {
                (Some(_), cells @ 1..) => format!(" ({cells} cells were finished before and are kept)"),
                _ => String::new(),
            };
            eprintln!("{name} stopped: {failure}{kept}");
            ExitCode::FAILURE
        }
    }
}

fn say(line: &str) {
    // Who reads only the first lines has what was asked for.
    let _ = writeln!(io::stdout(), "{line}");
}

impl Suite {
    fn from_args(name: &'static str) -> Result<Self, Failure> {
        let mut filter = None;
        let (mut is_bench, mut is_test, mut is_list) = (false, false, false);
        let mut arguments = env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bench" => is_bench = true,
                "--test" => is_test = true,
                "--list" => is_list = true,
                option if OPTIONS_WITH_VALUE.contains(&option) => drop(arguments.next()),
                option if option.starts_with('-') => {}
                text => filter = Some(text.to_owned()),
            }
        }
        // Like criterion: without `--bench` it is `cargo test` that runs us.
        let profile = if is_test || !is_bench { Profile::Smoke } else { Profile::from_env()? };
        let stamp = Stamp::now(profile.name());
        let store = match profile {
            Profile::Smoke => None,
            _ if is_list => None,
            _ => Some(Store::open(&reports_folder(), name, &stamp)?),
        };
        Ok(Self {
            name,
            started: Instant::now(),
            profile,
            filter,
            is_list,
            stamp,
            store,
            finished: 0,
            server: String::new(),
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// How much to measure.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Prints a line of progress.
    pub fn say(&self, line: &str) {
        if !self.is_list {
            say(&format!("{} [{:>4.0?}]: {line}", self.name, self.started.elapsed()));
        }
    }

    /// Prints a line of progress unless none of `cells` was asked for.
    pub fn announce(&self, cells: &[Cell], line: &str) {
        if cells.iter().any(|cell| self.is_chosen(cell)) {
            self.say(line);
        }
    }

    fn is_chosen(&self, cell: &Cell) -> bool {
        self.filter.as_ref().is_none_or(|filter| cell.name().contains(filter))
    }

    /// Whether a cell was asked for. Prints its name when names were asked for, and wants none of them then.
    pub fn wants(&self, cell: &Cell) -> bool {
        let is_chosen = self.is_chosen(cell);
        if is_chosen && self.is_list {
            say(&format!("{}: benchmark", cell.name()));
        }
        is_chosen && !self.is_list
    }

    /// The server, if there is one, and its observer. Says what is skipped when there is none.
    ///
    /// # Errors
    ///
    /// When there should be one, but it cannot be used.
    pub fn server(&mut self, what: &str) -> Result<Option<(Mysql, Observer)>, Failure> {
        let Some(server) = Mysql::from_env()? else {
            self.say(&format!("skipped {what}: no MariaDB; {HOW_TO_GET_ONE}"));
            return Ok(None);
        };
        let mut observer = server.observe()?;
        self.server = observer.version()?;
        Ok(Some((server, observer)))
    }

    /// A cell is finished: keeps what was measured.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(&mut self, cell: &Cell, metrics: &[(Metric, Spread)], ops: u64) -> Result<(), Failure> {
        self.finished += 1;
        let Some(store) = &mut self.store else { return Ok(()) };
        let server = if cell.backend == "mariadb" { self.server.as_str() } else { "" };
        let record = |&(metric, spread): &(Metric, Spread)| Record::new(cell, metric, spread, ops, server, &self.stamp);
        store.write(metrics.iter().map(record).collect())
    }

    /// The same with metrics that were followed over time.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish_with_courses(
        &mut self,
        cell: &Cell,
        metrics: &[(Metric, Spread)],
        courses: &[(Metric, Course)],
        ops: u64,
    ) -> Result<(), Failure> {
        self.finish(cell, metrics, ops)?;
        let Some(store) = &mut self.store else { return Ok(()) };
        let record = |(metric, course): &(Metric, Course)| {
            let spread = Spread::of(&course.values)?;
            Some(Record::new(cell, *metric, spread, ops, "", &self.stamp).with_course(course))
        };
        store.write(courses.iter().filter_map(record).collect())
    }

    /// Criterion, set up for one round. A new one each round, since it gives the same name only once.
    pub fn criterion(&self) -> Criterion {
        let folder = criterion_folder();
        // A first run has no such folder, and criterion warns about it.
        let _ = fs::create_dir_all(&folder);
        Criterion::default()
            .output_directory(&folder)
            .without_plots()
            .sample_size(10)
            .warm_up_time(self.profile.warm_up())
            .measurement_time(self.profile.measurement())
            // Criterion's own estimates are only printed; ours come from its samples.
            .nresamples(1_001)
            .configure_from_args()
            .with_benchmark_filter(BenchmarkFilter::AcceptAll)
    }
}
