//! Cells in rounds, so that what drifts on the machine hits all contenders alike, each round in another order, so
//! that what a contender leaves behind does not always hit the same one.

use std::cell::RefCell;
use std::sync::Arc;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, SamplingMode, Throughput};

use crate::backend::mysql::{Mysql, Observer, Sql, Table};
use crate::backend::stub::{Stub, StubConnection};
use crate::backend::{Backend, Failure, Gauge};
use crate::collect::{criterion_folder, take_criterion_samples};
use crate::contender::{Contender, Visit, open_all};
use crate::contenders::{Entrant, enter};
use crate::drive::{Quota, Sample, run};
use crate::profile::Profile;
use crate::record::{Cell, NS_PER_OP, OPS_PER_S, Spread};
use crate::suite::Suite;
use crate::workload::Work;

/// Which share of a run's operations each thread gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// The same; see [`Quota::Split`].
    Even,
    /// As it comes; see [`Quota::Shared`].
    Open,
    /// As it comes, in large portions; see [`Quota::Dealt`].
    Dealt,
}

impl Share {
    fn of(self, ops: u64) -> Quota {
        match self {
            Self::Even => Quota::Split(ops),
            Self::Open => Quota::Shared(ops),
            Self::Dealt => Quota::Dealt(ops),
        }
    }
}

/// The most connections that an entrant may have open.
#[must_use]
pub fn limit(entrant: Entrant, threads: usize, size: usize) -> usize {
    match entrant {
        Entrant::NoPool | Entrant::PerThread | Entrant::Limit => threads,
        _ => size,
    }
}

/// Fails when more connections were open than allowed.
///
/// # Errors
///
/// Then.
pub fn expect_limit(entrant: Entrant, gauge: &Gauge, threads: usize, size: usize) -> Result<(), Failure> {
    let (high, limit) = (gauge.high_water(), limit(entrant, threads, size));
    if high <= limit {
        return Ok(());
    }
    let label = entrant.row().label;
    Err(Failure::new(format!("{label} had {high} connections open, {limit} were allowed")))
}

/// One contender's turn under criterion, for the visit that knows its type.
pub struct Turn<'a, 'c> {
    group: &'a mut BenchmarkGroup<'c, WallTime>,
    id: BenchmarkId,
    unit: u64,
    /// The cell.
    pub cell: &'a Cell,
}

impl Turn<'_, '_> {
    /// Measures; `sample` does so many operations. Returns how many were done in all.
    pub fn measure(self, mut sample: impl FnMut(u64) -> Result<Sample, Failure>) -> u64 {
        let Self { group, id, unit, cell } = self;
        let ops = RefCell::new(0);
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|iterations| match sample(iterations * unit) {
                Ok(sample) => {
                    *ops.borrow_mut() += sample.ops;
                    sample.elapsed
                }
                // Criterion has no way to hear of it, and stubs do not fail: a contender is broken.
                Err(failure) => panic!("{}: {failure}", cell.name()),
            });
        });
        ops.into_inner()
    }
}

/// Measures cells of stubs with criterion and finishes them. They are alike but for the contender; an iteration is `unit`
/// operations; `enter` builds a contender over the stub and lets it have its [`Turn`].
///
/// # Errors
///
/// When a contender fails or did not do what it should have.
pub fn criterion_block(
    suite: &mut Suite,
    cells: &[Cell],
    unit: u64,
    mut enter: impl FnMut(Entrant, &Stub, &Arc<Gauge>, Turn<'_, '_>) -> Result<u64, Failure>,
) -> Result<(), Failure> {
    let cells: Vec<(&Cell, Entrant)> =
        cells.iter().filter(|cell| suite.wants(cell)).filter_map(|cell| Some((cell, cell.entrant()?))).collect();
    let mut samples = vec![Vec::new(); cells.len()];
    let mut ops = vec![0; cells.len()];
    for round in 0..suite.profile().rounds() {
        let mut criterion = suite.criterion();
        for place in order(cells.len(), round) {
            let (cell, entrant) = &cells[place];
            let Cell { suite: name, workload, contender, threads, size, .. } = cell;
            let group_name = format!("{name}-{workload}").replace(' ', "-");
            let value = format!("{threads}-on-{size}");
            let mut group = criterion.benchmark_group(&group_name);
            group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(unit));
            let (stub, gauge) = (Stub::new(), Gauge::new());
            let id = BenchmarkId::new(contender, &value);
            let done = enter(*entrant, &stub, &gauge, Turn { group: &mut group, id, unit, cell })?;
            group.finish();
            expect_limit(*entrant, &gauge, *threads, *size)?;
            if stub.uses() != done {
                let problem = format!("{done} operations used connections only {} times", stub.uses());
                return Err(Failure::new(problem).during(cell.name()));
            }
            ops[place] += done;
            if let Some(new) = take_criterion_samples(&criterion_folder(), &group_name, contender, &value)? {
                #[expect(clippy::cast_precision_loss)]
                samples[place].extend(new.into_iter().map(|ns| ns / unit as f64));
            }
        }
    }
    for (place, (cell, _)) in cells.iter().enumerate() {
        if let Some(spread) = Spread::of(&samples[place]) {
            suite.finish(cell, &[(NS_PER_OP, spread), (OPS_PER_S, spread.map(|ns| 1e9 / ns))], ops[place])?;
        } else if suite.profile() == Profile::Smoke {
            suite.finish(cell, &[], ops[place])?;
        }
    }
    Ok(())
}

/// [`criterion_block`] for cycles on threads.
///
/// # Errors
///
/// When a contender fails or did not do what it should have.
pub fn stub_block<W: Work<StubConnection>>(
    suite: &mut Suite,
    cells: &[Cell],
    work: &W,
    share: Share,
) -> Result<(), Failure> {
    // A batch for every thread, so that even one iteration is work for all.
    let unit = work.batch() * cells.iter().map(|cell| cell.threads).max().unwrap_or(1) as u64;
    criterion_block(suite, cells, unit, |entrant, stub, gauge, turn| {
        enter(entrant, stub, gauge, turn.cell.size, Cycles { turn, work, share })
    })
}

/// Cycles on threads as a visit.
struct Cycles<'a, 'c, W> {
    turn: Turn<'a, 'c>,
    work: &'a W,
    share: Share,
}

impl<W: Work<StubConnection>> Visit<StubConnection> for Cycles<'_, '_, W> {
    type Output = u64;

    fn visit<C: Contender<StubConnection>>(self, contender: &C) -> Result<u64, Failure> {
        let Self { turn, work, share } = self;
        let (threads, size) = (turn.cell.threads, turn.cell.size);
        if contender.is_pool() {
            open_all(contender, size)?;
        }
        Ok(turn.measure(|ops| run(contender, work, threads, share.of(ops))))
    }
}

/// The order of so many cells in a round, after Williams (1949): 0 1 -1 2 -2 …, in each round one further. Beginning one
/// further alone would change everybody's place and leave him behind the same one. So in as many rounds as there are cells
/// each has every place once, and follows no other twice (when the cells are odd in number, none three times).
fn order(cells: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..cells).map(move |place| {
        let aside = place.div_ceil(2);
        let first = if place % 2 == 1 { aside } else { cells - aside };
        (first + round) % cells
    })
}

/// Takes `rounds` samples of every cell in turn; the cells are finished by the caller.
///
/// # Errors
///
/// The first failure.
pub fn in_rounds<T>(
    cells: &[Cell],
    rounds: usize,
    mut sample: impl FnMut(&Cell) -> Result<T, Failure>,
) -> Result<Vec<Vec<T>>, Failure> {
    let mut samples: Vec<Vec<T>> = cells.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        for place in order(cells.len(), round) {
            let cell = &cells[place];
            samples[place].push(sample(cell).map_err(|failure| failure.during(cell.name()))?);
        }
    }
    Ok(samples)
}

/// A server, its observer and a table: what a cell on MariaDB needs.
#[derive(Debug)]
pub struct Bench<'a> {
    /// What the contenders connect to.
    pub server: &'a Mysql,
    /// Who counts.
    pub observer: &'a mut Observer,
    /// Where the rows go.
    pub table: &'a Table,
}

impl Bench<'_> {
    /// Gives `visit` an open contender on an empty table, and checks afterwards that there are `rows` rows and never
    /// were too many connections.
    ///
    /// # Errors
    ///
    /// When the visit fails or a count is wrong.
    pub fn insert<V: Visit<dyn Sql>>(
        &mut self,
        entrant: Entrant,
        threads: usize,
        size: usize,
        rows: u64,
        visit: V,
    ) -> Result<V::Output, Failure> {
        self.observer.empty(self.table)?;
        let output = self.read(entrant, threads, size, visit)?;
        self.observer.expect_rows(self.table, rows)?;
        Ok(output)
    }

    /// Gives `visit` an open contender, and checks afterwards that there never were too many connections.
    ///
    /// # Errors
    ///
    /// When the visit fails or a count is wrong.
    pub fn read<V: Visit<dyn Sql>>(
        &mut self,
        entrant: Entrant,
        threads: usize,
        size: usize,
        visit: V,
    ) -> Result<V::Output, Failure> {
        self.observer.wait_until_quiet()?;
        let is_counting = self.observer.forget_high_water()?;
        let gauge = Gauge::new();
        let output = enter(entrant, self.server, &gauge, size, Opened { size, visit })?;
        expect_limit(entrant, &gauge, threads, size)?;
        // A server may see a connection end after the next one began, so it is not asked about connects per operation.
        if is_counting && entrant != Entrant::NoPool {
            self.observer.expect_high_water(limit(entrant, threads, size))?;
        }
        Ok(output)
    }
}

/// A visit to a pool whose connections are all open.
struct Opened<V> {
    size: usize,
    visit: V,
}

impl<R: ?Sized, V: Visit<R>> Visit<R> for Opened<V> {
    type Output = V::Output;

    fn visit<C: Contender<R>>(self, contender: &C) -> Result<V::Output, Failure> {
        if contender.is_pool() {
            open_all(contender, self.size)?;
        }
        self.visit.visit(contender)
    }
}

/// One timed run as a visit.
#[derive(Debug)]
pub struct Timed<'a, W> {
    /// What is done.
    pub work: &'a W,
    /// By how many.
    pub threads: usize,
    /// How often.
    pub quota: Quota,
}

impl<R: ?Sized, W: Work<R>> Visit<R> for Timed<'_, W> {
    type Output = Sample;

    fn visit<C: Contender<R>>(self, contender: &C) -> Result<Sample, Failure> {
        run(contender, self.work, self.threads, self.quota)
    }
}

/// Gives `visit` an open contender of any backend that needs no care.
///
/// # Errors
///
/// When the visit fails or there were too many connections.
pub fn visit_open<B: Backend, V: Visit<B::Raw>>(
    entrant: Entrant,
    backend: &B,
    threads: usize,
    size: usize,
    visit: V,
) -> Result<V::Output, Failure> {
    let gauge = Gauge::new();
    let output = enter(entrant, backend, &gauge, size, Opened { size, visit })?;
    expect_limit(entrant, &gauge, threads, size)?;
    Ok(output)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn cells(count: usize) -> Vec<Cell> {
        let cell = |place: usize| Cell {
            suite: "suite".into(),
            workload: "workload".into(),
            backend: "stub".into(),
            flush: String::new(),
            contender: place.to_string(),
            threads: 1,
            size: 1,
            hold_us: 0,
            rows: 0,
        };
        (0..count).map(cell).collect()
    }

    #[test]
    fn nobody_always_follows_the_same_contender_or_always_has_the_same_place() {
        for count in [1, 2, 7, 11, 14, 15] {
            let cells = cells(count);
            let mut calls = Vec::new();
            let samples = in_rounds(&cells, count, |cell| {
                calls.push(cell.contender.clone());
                Ok(cell.contender.clone())
            })
            .unwrap();
            for (cell, samples) in cells.iter().zip(&samples) {
                assert_eq!(*samples, vec![cell.contender.clone(); count], "each cell has its own samples, one a round");
            }
            let (mut places, mut pairs) = (BTreeMap::new(), BTreeMap::new());
            for round in calls.chunks(count) {
                for (place, contender) in round.iter().enumerate() {
                    *places.entry((place, contender)).or_insert(0) += 1;
                }
                for pair in round.windows(2) {
                    *pairs.entry((&pair[0], &pair[1])).or_insert(0) += 1;
                }
            }
            assert!(places.values().all(|times| *times == 1), "{count} cells: {places:?}");
            assert!(pairs.values().all(|times| *times <= 1 + count % 2), "{count} cells: {pairs:?}");
        }
    }
}
