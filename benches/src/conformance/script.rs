//! A database that does what a check tells it to, and keeps count.
//!
//! It has two doors, one that blocks and one that is awaited, so that a connect that hangs costs an async pool a pending
//! future and not a thread of its runtime.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::lab::{EVENTUALLY, eventually};
use super::subject::Source;
use super::{Check, fails};

/// A question that a pool asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// Open a connection.
    Connect,
    /// Does it still work? With a round trip.
    Validate,
    /// Is it known to be broken? Without one.
    HasBroken,
    /// Bring it back to the state it was opened in.
    Reset,
    /// A hook of the program's, at checkout where the pool has one there, else after connecting.
    Hook,
    /// The end of a connection.
    Close,
}

/// What the database does when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers.
    Works,
    /// Answers with an error.
    Fails,
    /// Panics.
    Panics,
    /// Does not answer before it is told to do something else, or [let through](Database::let_through).
    Hangs,
}

/// An error of this database, and of the real one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(String);

/// What every message of the scripted database's contains.
pub const REFUSAL: &str = "the database refuses to";

impl Fault {
    /// An error that says `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn of(call: Call) -> Self {
        Self(format!("{REFUSAL} {call:?}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Fault {}

// fast_pool asks for this one.
impl From<&str> for Fault {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// How many connections there are, as the database sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Inside `connect`.
    pub connecting: usize,
    /// Opened and not closed yet; those inside `close` are open until it returns.
    pub open: usize,
    /// Ever opened.
    pub opened: usize,
    /// The most there have ever been, opening or open.
    pub most: usize,
}

#[derive(Default)]
struct Desk {
    always: Option<Behaviour>,
    /// For the next calls, before `always`.
    next: VecDeque<Behaviour>,
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
    /// How old connections were when they were closed, and when that was.
    lived: Vec<(Duration, Instant)>,
    /// Connections up to this one are dead, which only a round trip shows.
    dead_up_to: u64,
    /// How often a connection was used by two holders at once.
    shared_uses: usize,
}

struct Inner {
    ledger: Mutex<Ledger>,
    changed: Condvar,
    version: watch::Sender<u64>,
}

/// A handle to the database.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

/// A connection to it.
pub struct Connection {
    /// The first is 1.
    pub id: u64,
    /// Set by a holder who saw an error; heard by whatever the pool asks at checkin or checkout.
    pub is_broken: bool,
    /// Set by a holder who changed the session; cleared by a reset.
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
        self.database.ledger().lived.push((self.opened_at.elapsed(), Instant::now()));
        // An error has nobody to go to.
        let _ = self.database.answer(Call::Close);
        self.database.ledger().counts.open -= 1;
        self.database.changed();
    }
}

impl Connection {
    /// Uses the connection; the database notes if somebody else does at the same time.
    pub fn used<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.in_use.swap(true, Ordering::AcqRel) {
            self.database.ledger().shared_uses += 1;
        }
        let result = work();
        self.in_use.store(false, Ordering::Release);
        result
    }
}

/// A call that has come and has no answer yet. Dropping it is leaving.
struct Ticket<'a> {
    database: &'a Database,
    call: Call,
    once: Option<Behaviour>,
}

impl Ticket<'_> {
    fn answer(&self, ledger: &mut Ledger) -> Option<Behaviour> {
        let desk = ledger.desks.entry(self.call).or_default();
        match self.once.or(desk.always).unwrap_or(Behaviour::Works) {
            Behaviour::Hangs if desk.passes > 0 => {
                desk.passes -= 1;
                Some(Behaviour::Works)
            }
            Behaviour::Hangs => None,
            behaviour => Some(behaviour),
        }
    }

    fn told(&self, behaviour: Behaviour) -> Result<(), Fault> {
        match behaviour {
            Behaviour::Works | Behaviour::Hangs => Ok(()),
            Behaviour::Fails => Err(Fault::of(self.call)),
            Behaviour::Panics => panic!("{:?} was told to panic", self.call),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.database.ledger().desks.entry(self.call).or_default().inside -= 1;
        self.database.changed();
    }
}

impl Default for Database {
    fn default() -> Self {
        let inner = Inner { ledger: Mutex::default(), changed: Condvar::new(), version: watch::channel(0).0 };
        Self(Arc::new(inner))
    }
}

impl Database {
    /// A database that works.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.0.changed.notify_all();
        self.0.version.send_modify(|version| *version += 1);
    }

    /// From now on; calls that hang go on with the new behaviour.
    pub fn on(&self, call: Call, behaviour: Behaviour) {
        self.ledger().desks.entry(call).or_default().always = Some(behaviour);
        self.changed();
    }

    /// For the next `calls` only, whatever they are otherwise.
    pub fn next(&self, call: Call, calls: usize, behaviour: Behaviour) {
        self.ledger().desks.entry(call).or_default().next.extend((0..calls).map(|_| behaviour));
    }

    /// Forgets what was said about the next calls.
    pub fn clear_next(&self, call: Call) {
        self.ledger().desks.entry(call).or_default().next.clear();
    }

    /// Lets some of the calls that hang succeed.
    pub fn let_through(&self, call: Call, calls: usize) {
        self.ledger().desks.entry(call).or_default().passes += calls;
        self.changed();
    }

    /// Calls so far.
    #[must_use]
    pub fn asked(&self, call: Call) -> usize {
        self.ledger().desks.get(&call).map_or(0, |desk| desk.asked)
    }

    /// When each call came.
    #[must_use]
    pub fn asked_at(&self, call: Call) -> Vec<Instant> {
        self.ledger().desks.get(&call).map_or_else(Vec::new, |desk| desk.asked_at.clone())
    }

    /// Calls that have no answer yet.
    #[must_use]
    pub fn inside(&self, call: Call) -> usize {
        self.ledger().desks.get(&call).map_or(0, |desk| desk.inside)
    }

    /// The connections.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.ledger().counts
    }

    /// How old each connection was when the pool closed it, and when that was.
    #[must_use]
    pub fn lived(&self) -> Vec<(Duration, Instant)> {
        self.ledger().lived.clone()
    }

    /// How often a connection was used by two holders at once.
    #[must_use]
    pub fn shared_uses(&self) -> usize {
        self.ledger().shared_uses
    }

    /// Every connection that is open now is dead; only a round trip shows it.
    pub fn kill_connections(&self) {
        let mut ledger = self.ledger();
        ledger.dead_up_to = ledger.counts.opened as u64;
    }

    /// Waits until so many calls have no answer yet.
    ///
    /// # Errors
    ///
    /// When that does not happen.
    pub fn wait_until_inside(&self, call: Call, calls: usize) -> Check {
        eventually(&format!("{calls} inside {call:?}"), || self.inside(call) >= calls)
    }

    /// Waits until so many calls have come.
    ///
    /// # Errors
    ///
    /// When that does not happen.
    pub fn wait_until_asked(&self, call: Call, calls: usize) -> Check {
        eventually(&format!("{call:?} asked {calls} times"), || self.asked(call) >= calls)
    }

    /// Waits until so many connections are open, `within` a bound of its own.
    ///
    /// # Errors
    ///
    /// When that does not happen.
    pub fn wait_until_open(&self, within: Duration, holds: impl Fn(usize) -> bool, what: &str) -> Check {
        let since = Instant::now();
        while !holds(self.counts().open) {
            if since.elapsed() > within {
                return fails(format!("{what}: after {within:?} {} connections are open", self.counts().open));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn enter(&self, call: Call) -> Ticket<'_> {
        let once = {
            let mut ledger = self.ledger();
            let desk = ledger.desks.entry(call).or_default();
            desk.asked += 1;
            desk.inside += 1;
            desk.asked_at.push(Instant::now());
            desk.next.pop_front()
        };
        self.changed();
        Ticket { database: self, call, once }
    }

    fn answer(&self, call: Call) -> Result<(), Fault> {
        let ticket = self.enter(call);
        let mut ledger = self.ledger();
        let behaviour = loop {
            if let Some(behaviour) = ticket.answer(&mut ledger) {
                break behaviour;
            }
            ledger = self.0.changed.wait(ledger).unwrap_or_else(PoisonError::into_inner);
        };
        drop(ledger);
        ticket.told(behaviour)
    }

    async fn answer_async(&self, call: Call) -> Result<(), Fault> {
        let ticket = self.enter(call);
        let mut version = self.0.version.subscribe();
        loop {
            version.mark_unchanged();
            let answer = ticket.answer(&mut self.ledger());
            if let Some(behaviour) = answer {
                return ticket.told(behaviour);
            }
            // The sender lives as long as `self`.
            let _ = version.changed().await;
        }
    }

    fn begin_connect(&self) -> Connecting<'_> {
        let mut ledger = self.ledger();
        let counts = &mut ledger.counts;
        counts.connecting += 1;
        counts.most = counts.most.max(counts.connecting + counts.open);
        drop(ledger);
        Connecting(self)
    }

    /// A connection that the check itself opens.
    #[must_use]
    pub fn open(&self) -> Connection {
        self.begin_connect().opened()
    }

    fn health(&self, connection: &Connection) -> Result<(), Fault> {
        match connection.is_broken || connection.id <= self.ledger().dead_up_to {
            true => Err(Fault::of(Call::Validate)),
            false => Ok(()),
        }
    }
}

/// Takes a connect that ends in any way off the count.
struct Connecting<'a>(&'a Database);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.ledger().counts.connecting -= 1;
    }
}

impl Connecting<'_> {
    fn opened(self) -> Connection {
        let database = self.0.clone();
        // In one step, or another connect that begins in between would count this one twice.
        std::mem::forget(self);
        let id = {
            let mut ledger = database.ledger();
            ledger.counts.connecting -= 1;
            ledger.counts.open += 1;
            ledger.counts.opened += 1;
            ledger.counts.opened as u64
        };
        database.changed();
        Connection {
            id,
            is_broken: false,
            is_dirty: false,
            in_use: AtomicBool::new(false),
            opened_at: Instant::now(),
            database,
        }
    }
}

impl Source for Database {
    type Connection = Connection;

    fn connect(&self) -> Result<Connection, Fault> {
        let connecting = self.begin_connect();
        self.answer(Call::Connect)?;
        Ok(connecting.opened())
    }

    async fn connect_async(&self) -> Result<Connection, Fault> {
        let connecting = self.begin_connect();
        self.answer_async(Call::Connect).await?;
        Ok(connecting.opened())
    }

    fn validate(&self, connection: &mut Connection) -> Result<(), Fault> {
        self.answer(Call::Validate)?;
        self.health(connection)
    }

    async fn validate_async(&self, connection: &mut Connection) -> Result<(), Fault> {
        self.answer_async(Call::Validate).await?;
        self.health(connection)
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        self.answer(Call::HasBroken).is_err() || connection.is_broken
    }

    fn is_dirty(&self, connection: &mut Connection) -> bool {
        connection.is_dirty
    }

    fn reset(&self, connection: &mut Connection) -> Result<(), Fault> {
        self.answer(Call::Reset)?;
        connection.is_dirty = false;
        Ok(())
    }

    async fn reset_async(&self, connection: &mut Connection) -> Result<(), Fault> {
        self.answer_async(Call::Reset).await?;
        connection.is_dirty = false;
        Ok(())
    }

    fn hook(&self) -> Result<(), Fault> {
        self.answer(Call::Hook)
    }
}

impl Database {
    /// Waits until nothing is being opened or asked, for at most [`EVENTUALLY`].
    ///
    /// # Errors
    ///
    /// When that does not happen.
    pub fn wait_until_quiet(&self) -> Check {
        eventually(&format!("the pool asks nothing any more, within {EVENTUALLY:?}"), || {
            self.ledger().desks.values().all(|desk| desk.inside == 0)
        })
    }
}
