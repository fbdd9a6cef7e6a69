//! Every contender under every workload, tiny: what the suites assume holds before they spend minutes on it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use benches::backend::mysql::{HOW_TO_GET_ONE, Mysql};
use benches::backend::sqlite::Sqlite;
use benches::backend::stub::{Hold, Stub, StubConnection};
use benches::backend::{Failure, Gauge};
use benches::contender::{Contender, Session, Visit, open_all};
use benches::contenders::{Entrant, enter};
use benches::drive::{Quota, dissect, observe, run};
use benches::measure::{Bench, Timed, visit_open};
use benches::workload::{Insert, Keep, Select, Touch, Work, stub_entrants};

/// The tests on one database take turns, since they count its connections.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Runs every kind of drive once and says how often connections must have been used.
struct EveryDrive<W> {
    work: W,
    threads: usize,
}

impl<W: Work<StubConnection>> Visit<StubConnection> for EveryDrive<W> {
    type Output = u64;

    fn visit<C: Contender<StubConnection>>(self, contender: &C) -> Result<u64, Failure> {
        let Self { work, threads } = self;
        let mut ops = 0;
        for quota in [Quota::Split(50), Quota::Shared(50), Quota::Dealt(50)] {
            let sample = run(contender, &work, threads, quota)?;
            assert_eq!(sample.ops, 50);
            ops += sample.ops;
        }
        let (sample, phases) = dissect(contender, &work, threads, 20)?;
        assert!(phases.acquire_ns + phases.work_ns + phases.checkin_ns > 0);
        ops += sample.ops;
        let observation = observe(contender, &work, threads, Duration::from_millis(2))?;
        assert_eq!(observation.waits.len(), observation.ops());
        assert!(observation.unfairness() >= 1.0);
        Ok(ops + observation.ops())
    }
}

fn drive_stub(entrant: Entrant, work: impl Work<StubConnection>, threads: usize, size: usize) {
    let label = entrant.row().label;
    let stub = Stub::new();
    let ops = visit_open(entrant, &stub, threads, size, EveryDrive { work, threads })
        .unwrap_or_else(|failure| panic!("{label}: {failure}"));
    assert_eq!(stub.uses(), ops, "{label}: connections were not used as often as operations were done");
}

#[test]
fn every_contender_serves_as_many_threads_as_connections() {
    for entrant in stub_entrants() {
        drive_stub(entrant, Touch, 1, 1);
        drive_stub(entrant, Touch, 1, 10);
        drive_stub(entrant, Touch, 4, 4);
    }
}

#[test]
fn every_pool_serves_more_threads_than_connections() {
    let holds = [Hold::None, Hold::Work(Duration::from_micros(1)), Hold::Query(Duration::from_micros(50))];
    for entrant in stub_entrants().into_iter().filter(|entrant| entrant.can_wait()) {
        for hold in holds {
            drive_stub(entrant, Keep(hold), 8, 2);
        }
    }
}

#[test]
fn every_contender_reads_and_writes_sqlite() {
    for entrant in stub_entrants() {
        let label = entrant.row().label;
        let _turn = turn();
        let sqlite = Sqlite::make(10).unwrap();
        let select = Select { table: Sqlite::TABLE.into(), rows: 10 };
        let timed = Timed { work: &select, threads: 2, quota: Quota::Split(30) };
        let sample = visit_open(entrant, &sqlite, 2, 2, timed).unwrap_or_else(|failure| panic!("{label}: {failure}"));
        assert_eq!(sample.ops, 30);
        let insert = Insert { table: Sqlite::TABLE.into() };
        let timed = Timed { work: &insert, threads: 2, quota: Quota::Shared(10) };
        visit_open(entrant, &sqlite, 2, 2, timed).unwrap_or_else(|failure| panic!("{label}: {failure}"));
        sqlite.expect_rows(20).unwrap_or_else(|failure| panic!("{label}: {failure}"));
    }
}

#[test]
fn every_contender_reads_and_writes_mariadb() {
    let Some(server) = Mysql::from_env().unwrap() else {
        eprintln!("skipped: no MariaDB; {HOW_TO_GET_ONE}");
        return;
    };
    let _turn = turn();
    let mut observer = server.observe().unwrap();
    let table = observer.make_table("test").unwrap();
    for entrant in Entrant::known() {
        let label = entrant.row().label;
        let mut bench = Bench { server: &server, observer: &mut observer, table: &table };
        let insert = Insert { table: table.name.clone() };
        let timed = Timed { work: &insert, threads: 3, quota: Quota::Split(20) };
        let sample = bench.insert(entrant, 3, 3, 20, timed).unwrap_or_else(|failure| panic!("{label}: {failure}"));
        assert_eq!(sample.ops, 20);
    }
    observer.empty(&table).unwrap();
    observer.fill(&table, 10).unwrap();
    for entrant in Entrant::known().filter(|entrant| entrant.can_wait()) {
        let label = entrant.row().label;
        let mut bench = Bench { server: &server, observer: &mut observer, table: &table };
        let select = Select { table: table.name.clone(), rows: 10 };
        let timed = Timed { work: &select, threads: 4, quota: Quota::Shared(40) };
        let sample = bench.read(entrant, 4, 2, timed).unwrap_or_else(|failure| panic!("{label}: {failure}"));
        assert_eq!(sample.ops, 40);
    }
    observer.drop_table(table).unwrap();
}

/// Which of three idle connections are lent to one thread.
struct Lent;

impl Visit<StubConnection> for Lent {
    type Output = usize;

    fn visit<C: Contender<StubConnection>>(self, contender: &C) -> Result<usize, Failure> {
        open_all(contender, 3)?;
        let mut session = contender.session()?;
        let lent: HashSet<usize> =
            (0..9).map(|_| session.with(|connection| connection.identity())).collect::<Result<_, _>>()?;
        Ok(lent.len())
    }
}

#[test]
fn rows_in_turns_lend_every_connection_and_the_others_one() {
    use Entrant::{
        BareMutex, BareMutexTurns, BareQueue, Bb8, Bb8Turns, Deadpool, DeadpoolTurns, LockFree, LockfreeCrate, Mutex,
        Slots,
    };
    let last_used = [BareMutex, Mutex, Slots, Deadpool, Bb8].map(|entrant| (entrant, 1));
    let in_turns =
        [BareMutexTurns, BareQueue, LockFree, LockfreeCrate, DeadpoolTurns, Bb8Turns].map(|entrant| (entrant, 3));
    for (entrant, expected) in last_used.into_iter().chain(in_turns) {
        let lent = enter(entrant, &Stub::new(), &Gauge::new(), 3, Lent);
        assert_eq!(lent.unwrap(), expected, "{}", entrant.row().label);
    }
}

/// Fails once, on the third operation.
struct Flaky;

impl Work<StubConnection> for Flaky {
    fn run(&self, _: &mut StubConnection, op: u64) -> Result<(), Failure> {
        if op == 2 { Err(Failure::new("the third operation failed")) } else { Ok(()) }
    }
}

struct Expecting(&'static str);

impl Visit<StubConnection> for Expecting {
    type Output = ();

    fn visit<C: Contender<StubConnection>>(self, contender: &C) -> Result<(), Failure> {
        let failure = run(contender, &Flaky, 2, Quota::Split(100)).unwrap_err().to_string();
        assert!(failure.contains(self.0), "{failure}");
        Ok(())
    }
}

#[test]
fn a_failing_operation_ends_the_run_with_its_reason() {
    for entrant in stub_entrants() {
        enter(entrant, &Stub::new(), &Gauge::new(), 2, Expecting("the third operation failed")).unwrap();
    }
}

struct HoldAll(usize);

impl Visit<StubConnection> for HoldAll {
    type Output = ();

    fn visit<C: Contender<StubConnection>>(self, contender: &C) -> Result<(), Failure> {
        open_all(contender, self.0)?;
        contender.session()?.with(|connection| connection.hold(Hold::None))
    }
}

#[test]
fn opening_all_opens_as_many_as_asked_for_and_no_more() {
    for entrant in stub_entrants().into_iter().filter(|entrant| entrant.can_wait()) {
        let gauge = Gauge::new();
        enter(entrant, &Stub::new(), &gauge, 7, HoldAll(7)).unwrap();
        assert_eq!((gauge.high_water(), gauge.connects()), (7, 7), "{}", entrant.row().label);
    }
}

#[test]
fn an_unusable_database_url_is_one_clear_line() {
    for (url, part) in [
        ("not a url", "DATABASE_URL"),
        ("postgres://user@host/db", "DATABASE_URL"),
        ("mysql://user:secret@127.0.0.1:1", "no database"),
    ] {
        let failure = Mysql::from_url(url).unwrap_err().to_string();
        assert!(failure.contains(part), "{failure}");
        assert!(!failure.contains("secret") && !failure.contains('\n'), "{failure}");
    }
    // Nobody listens on port 1.
    let failure = Mysql::from_url("mysql://user:secret@127.0.0.1:1/db").unwrap().observe().unwrap_err().to_string();
    assert!(failure.contains("user@127.0.0.1:1"), "{failure}");
    assert!(!failure.contains("secret") && !failure.contains('\n'), "{failure}");
}

#[test]
fn a_wrong_password_is_one_clear_line() {
    let Ok(url) = std::env::var("DATABASE_URL") else {
        eprintln!("skipped: no MariaDB; {HOW_TO_GET_ONE}");
        return;
    };
    let (scheme, rest) = url.split_once("://").unwrap();
    let (account, place) = rest.split_once('@').unwrap();
    let user = account.split(':').next().unwrap();
    let failure = Mysql::from_url(&format!("{scheme}://{user}:wrong%20one@{place}")).unwrap().observe().unwrap_err();
    let failure = failure.to_string();
    assert!(failure.contains("denied") && !failure.contains('\n'), "{failure}");
}
