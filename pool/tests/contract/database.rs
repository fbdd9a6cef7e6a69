//! A database that does what a test tells it to, and keeps count.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pool::Manager;

use super::support::EVENTUALLY;

/// A question that the pool asks its manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    Connect,
    Validate,
    Reset,
    Close,
    LooksAlive,
    HasBroken,
    IsDirty,
    IsFatal,
    IsTransient,
    OnConnect,
    OnAcquire,
    OnCheckin,
    OnRelease,
}

/// What the database does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    Works,
    Fails,
    /// Fails in a way that trying again cannot mend.
    FailsForGood,
    Panics,
    /// Answers when it is told to do something else, or [`let_through`](Database::let_through).
    Hangs,
}

/// An error of this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub call: Call,
    pub is_transient: bool,
    pub is_fatal: bool,
}

impl Fault {
    /// An error of the holder's own work that leaves the connection usable, or not.
    pub fn of_work(is_fatal: bool) -> Self {
        Self { call: Call::IsFatal, is_transient: true, is_fatal }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the database refuses to {:?}", self.call)
    }
}

impl std::error::Error for Fault {}

/// How many connections there are, as the database sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inside `connect`.
    pub connecting: usize,
    /// Opened and not closed yet; those inside `close` are open until it returns.
    pub open: usize,
    pub opened: usize,
    /// The most there have ever been, opening or open.
    pub most: usize,
}

/// Looks in on every call.
type Observer = Arc<dyn Fn(Call) + Send + Sync>;

#[derive(Default)]
struct Desk {
    behaviour: Option<Behaviour>,
    asked: usize,
    inside: usize,
    /// Hanging calls that may go on.
    passes: usize,
    asked_at: Vec<Instant>,
}

#[derive(Default)]
struct Ledger {
    desks: HashMap<Call, Desk>,
    counts: Counts,
    observer: Option<Observer>,
    /// What happened to connections, in order.
    log: Vec<(Call, u64)>,
    /// How old connections were when the pool closed them.
    lived: Vec<Duration>,
    /// Connections up to this one are dead.
    dead_up_to: u64,
    /// Only a round trip notices.
    dead_silently: bool,
}

#[derive(Default)]
struct Inner {
    ledger: Mutex<Ledger>,
    changed: Condvar,
}

/// A handle to the database; also the pool's manager.
#[derive(Clone, Default)]
pub struct Database(Arc<Inner>);

/// A connection to it.
pub struct Connection {
    pub id: u64,
    pub is_broken: bool,
    pub is_dirty: bool,
    in_use: AtomicBool,
    opened_at: Instant,
    database: Database,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.id)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.database.ledger().counts.open -= 1;
        self.database.0.changed.notify_all();
    }
}

impl Connection {
    /// Uses the connection; fails if somebody else does.
    pub fn used<T>(&self, work: impl FnOnce() -> T) -> T {
        assert!(!self.in_use.swap(true, Ordering::AcqRel), "connection {} has two holders", self.id);
        let result = work();
        assert!(self.in_use.swap(false, Ordering::AcqRel), "connection {} has two holders", self.id);
        result
    }
}

impl Database {
    pub fn new() -> Self {
        Self::default()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// From now on; calls that hang go on with the new behaviour.
    pub fn on(&self, call: Call, behaviour: Behaviour) {
        self.ledger().desks.entry(call).or_default().behaviour = Some(behaviour);
        self.0.changed.notify_all();
    }

    /// Lets some of the calls that hang succeed.
    pub fn let_through(&self, call: Call, calls: usize) {
        self.ledger().desks.entry(call).or_default().passes += calls;
        self.0.changed.notify_all();
    }

    /// Calls so far.
    pub fn asked(&self, call: Call) -> usize {
        self.ledger().desks.get(&call).map_or(0, |desk| desk.asked)
    }

    /// When each call came.
    pub fn asked_at(&self, call: Call) -> Vec<Instant> {
        self.ledger().desks.get(&call).map_or_else(Vec::new, |desk| desk.asked_at.clone())
    }

    /// Calls that have not returned.
    pub fn inside(&self, call: Call) -> usize {
        self.ledger().desks.get(&call).map_or(0, |desk| desk.inside)
    }

    #[track_caller]
    pub fn wait_until_inside(&self, call: Call, calls: usize) {
        self.wait(&format!("{calls} inside {call:?}"), |ledger| {
            ledger.desks.get(&call).is_some_and(|desk| desk.inside >= calls)
        });
    }

    #[track_caller]
    pub fn wait_until_asked(&self, call: Call, calls: usize) {
        self.wait(&format!("{call:?} asked {calls} times"), |ledger| {
            ledger.desks.get(&call).is_some_and(|desk| desk.asked >= calls)
        });
    }

    #[track_caller]
    pub fn wait_until_open(&self, connections: usize) {
        self.wait(&format!("{connections} open connections"), |ledger| ledger.counts.open == connections);
    }

    #[track_caller]
    fn wait(&self, what: &str, mut holds: impl FnMut(&Ledger) -> bool) {
        let ledger = self.ledger();
        let (ledger, waited) =
            self.0.changed.wait_timeout_while(ledger, EVENTUALLY, |ledger| !holds(ledger)).expect("no poison");
        drop(ledger);
        assert!(!waited.timed_out(), "it did not happen within {EVENTUALLY:?}: {what}");
    }

    pub fn counts(&self) -> Counts {
        self.ledger().counts
    }

    pub fn log(&self) -> Vec<(Call, u64)> {
        self.ledger().log.clone()
    }

    pub fn lived(&self) -> Vec<Duration> {
        self.ledger().lived.clone()
    }

    /// Looks in on every call from now on; it may use the pool.
    pub fn observe(&self, observer: impl Fn(Call) + Send + Sync + 'static) {
        self.ledger().observer = Some(Arc::new(observer));
    }

    pub fn stop_observing(&self) {
        self.ledger().observer = None;
    }

    /// Every connection that is open now is dead, as a look at the socket would show.
    pub fn kill_connections(&self) {
        let mut ledger = self.ledger();
        (ledger.dead_up_to, ledger.dead_silently) = (ledger.counts.opened as u64, false);
    }

    /// The same, but only a round trip would show it.
    pub fn kill_connections_silently(&self) {
        let mut ledger = self.ledger();
        (ledger.dead_up_to, ledger.dead_silently) = (ledger.counts.opened as u64, true);
    }

    /// A call comes, is counted, and gets its answer.
    fn answer(&self, call: Call, connection: u64) -> Result<(), Fault> {
        let observer = {
            let mut ledger = self.ledger();
            ledger.log.push((call, connection));
            let desk = ledger.desks.entry(call).or_default();
            desk.asked += 1;
            desk.inside += 1;
            desk.asked_at.push(Instant::now());
            ledger.observer.clone()
        };
        self.0.changed.notify_all();
        if let Some(observer) = observer {
            observer(call);
        }
        let mut ledger = self.ledger();
        let behaviour = loop {
            let desk = ledger.desks.entry(call).or_default();
            match desk.behaviour.unwrap_or(Behaviour::Works) {
                Behaviour::Hangs if desk.passes > 0 => {
                    desk.passes -= 1;
                    break Behaviour::Works;
                }
                Behaviour::Hangs => ledger = self.0.changed.wait(ledger).expect("no poison"),
                behaviour => break behaviour,
            }
        };
        ledger.desks.entry(call).or_default().inside -= 1;
        drop(ledger);
        self.0.changed.notify_all();
        match behaviour {
            Behaviour::Works | Behaviour::Hangs => Ok(()),
            Behaviour::Fails => Err(Fault { call, is_transient: true, is_fatal: true }),
            Behaviour::FailsForGood => Err(Fault { call, is_transient: false, is_fatal: true }),
            Behaviour::Panics => panic!("{call:?} was told to panic"),
        }
    }

    /// A hook that asks the database for its answer.
    pub fn hook(&self, call: Call) -> impl Fn(&mut Connection) -> Result<(), Fault> + Send + Sync + 'static {
        let database = self.clone();
        move |connection| database.answer(call, connection.id)
    }

    /// The same, for a hook that has no answer to give.
    pub fn farewell(&self) -> impl Fn(&mut Connection) + Send + Sync + 'static {
        let database = self.clone();
        move |connection| {
            // Nobody could be told.
            let _ = database.answer(Call::OnRelease, connection.id);
        }
    }

    /// What happened to a connection, in order.
    pub fn log_of(&self, connection: u64) -> Vec<Call> {
        self.log().into_iter().filter(|(_, id)| *id == connection).map(|(call, _)| call).collect()
    }

    fn is_dead(&self, connection: u64, on_round_trip: bool) -> bool {
        let ledger = self.ledger();
        connection <= ledger.dead_up_to && (on_round_trip || !ledger.dead_silently)
    }
}

/// Takes a connect that ends in any way off the count.
struct Connecting<'a>(&'a Database);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.ledger().counts.connecting -= 1;
    }
}

impl Manager for Database {
    type Connection = Connection;
    type Error = Fault;

    fn connect(&self) -> Result<Connection, Fault> {
        {
            let mut ledger = self.ledger();
            let counts = &mut ledger.counts;
            counts.connecting += 1;
            counts.most = counts.most.max(counts.connecting + counts.open);
        }
        let connecting = Connecting(self);
        self.answer(Call::Connect, 0)?;
        let id = {
            let mut ledger = self.ledger();
            // In one step, or another connect that begins in between would count this one twice.
            std::mem::forget(connecting);
            ledger.counts.connecting -= 1;
            ledger.counts.open += 1;
            ledger.counts.opened += 1;
            ledger.counts.opened as u64
        };
        self.0.changed.notify_all();
        Ok(Connection {
            id,
            is_broken: false,
            is_dirty: false,
            in_use: AtomicBool::new(false),
            opened_at: Instant::now(),
            database: self.clone(),
        })
    }

    fn is_valid(&self, connection: &mut Connection) -> Result<(), Fault> {
        connection.used(|| self.answer(Call::Validate, connection.id))?;
        match self.is_dead(connection.id, true) {
            true => Err(Fault { call: Call::Validate, is_transient: true, is_fatal: true }),
            false => Ok(()),
        }
    }

    fn looks_alive(&self, connection: &mut Connection) -> bool {
        self.answer(Call::LooksAlive, connection.id).is_ok() && !self.is_dead(connection.id, false)
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        self.answer(Call::HasBroken, connection.id).is_err() || connection.is_broken
    }

    fn is_fatal(&self, error: &Fault) -> bool {
        self.answer(Call::IsFatal, 0).is_err() || error.is_fatal
    }

    fn is_transient(&self, error: &Fault) -> bool {
        self.answer(Call::IsTransient, 0).is_ok() && error.is_transient
    }

    fn is_dirty(&self, connection: &mut Connection) -> bool {
        self.answer(Call::IsDirty, connection.id).is_err() || connection.is_dirty
    }

    fn reset(&self, connection: &mut Connection) -> Result<(), Fault> {
        connection.used(|| self.answer(Call::Reset, connection.id))?;
        connection.is_dirty = false;
        Ok(())
    }

    fn close(&self, connection: Connection) {
        self.ledger().lived.push(connection.opened_at.elapsed());
        // An error here has nobody to go to.
        let _ = self.answer(Call::Close, connection.id);
        drop(connection);
    }
}
