// A program written for r2d2 0.8. It is included twice, once where `r2d2` is r2d2 and once where it is our module, and
// mentions every public item there is. `outcome` says what it saw; both must say the same.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use r2d2::event::{self, AcquireEvent, CheckinEvent, CheckoutEvent, ReleaseEvent, TimeoutEvent};
use r2d2::{
    Builder, CustomizeConnection, Error, Extensions, HandleError, HandleEvent, LoggingErrorHandler, ManageConnection,
    NopConnectionCustomizer, NopErrorHandler, NopEventHandler, Pool, PooledConnection, State,
};

/// An error that stays on its thread, which r2d2 does not mind.
#[derive(Debug)]
pub struct Refused(std::rc::Rc<str>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Refused {}

#[derive(Debug)]
pub struct Session {
    customized: bool,
    broken: bool,
    valid: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Server {
    connects_to_refuse: Arc<AtomicU32>,
}

impl r2d2::ManageConnection for Server {
    type Connection = Session;
    type Error = Refused;

    fn connect(&self) -> Result<Session, Refused> {
        let refuse = |left: u32| left.checked_sub(1);
        match self.connects_to_refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, refuse) {
            Ok(_) => Err(Refused("no room".into())),
            Err(_) => Ok(Session { customized: false, broken: false, valid: true }),
        }
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), Refused> {
        if session.valid { Ok(()) } else { Err(Refused("gone away".into())) }
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        session.broken
    }
}

type Log = Arc<Mutex<Vec<String>>>;

/// Hears everything: as the handler of events and of errors and as the customizer.
#[derive(Debug, Clone, Default)]
struct Everything {
    log: Log,
    first: Arc<Mutex<Option<u64>>>,
}

impl Everything {
    fn say(&self, line: impl Into<String>) {
        self.log.lock().unwrap().push(line.into());
    }

    /// Ids are counted from the first that was seen.
    fn number(&self, id: u64) -> u64 {
        id - *self.first.lock().unwrap().get_or_insert(id)
    }
}

impl HandleEvent for Everything {
    fn handle_acquire(&self, event: AcquireEvent) {
        self.say(format!("{} acquired", self.number(event.connection_id())));
    }

    fn handle_release(&self, event: ReleaseEvent) {
        let _: Duration = event.age();
        self.say(format!("{} released", self.number(event.connection_id())));
    }

    fn handle_checkout(&self, event: CheckoutEvent) {
        let _: Duration = event.duration();
        self.say(format!("{} checked out", self.number(event.connection_id())));
    }

    fn handle_timeout(&self, event: TimeoutEvent) {
        self.say(format!("timed out after {:?}", event.timeout()));
    }

    fn handle_checkin(&self, event: CheckinEvent) {
        let _: Duration = event.duration();
        self.say(format!("{} checked in", self.number(event.connection_id())));
    }
}

impl HandleError<Refused> for Everything {
    fn handle_error(&self, error: Refused) {
        self.say(format!("error: {error}"));
    }
}

impl CustomizeConnection<Session, Refused> for Everything {
    fn on_acquire(&self, session: &mut Session) -> Result<(), Refused> {
        session.customized = true;
        Ok(())
    }

    fn on_release(&self, session: Session) {
        self.say(format!("closed, broken: {}, valid: {}", session.broken, session.valid));
    }
}

/// Whatever a program may do with a pool's type.
struct Service {
    pool: Pool<Server>,
}

fn borrow_and_return(pool: &r2d2::Pool<Server>) -> Result<r2d2::PooledConnection<Server>, r2d2::Error> {
    pool.get()
}

fn generic<M: ManageConnection>(pool: &Pool<M>) -> Result<(), Box<dyn StdError + Send + Sync>> {
    drop(pool.get()?);
    Ok(())
}

fn spread<M>(pool: Pool<M>)
where
    M: ManageConnection,
{
    let threads = (0..4).map(|_| {
        let pool = pool.clone();
        thread::spawn(move || drop(pool.get().unwrap()))
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().unwrap();
    }
}

fn is_send_and_sync<T: Send + Sync + 'static>() {}
fn is_send<T: Send + 'static>() {}

fn the_options(said: &mut Vec<String>) {
    let defaults = Builder::<Server>::default();
    said.push(format!("{defaults:?}"));
    said.push(format!("{:?}", Builder::<Server>::new()));

    let threads = Arc::new(scheduled_thread_pool::ScheduledThreadPool::new(2));
    let pool: Pool<Server> = Pool::builder()
        .max_size(3)
        .min_idle(Some(1))
        .thread_pool(threads)
        .test_on_check_out(false)
        .max_lifetime(Some(Duration::from_secs(100)))
        .idle_timeout(None)
        .connection_timeout(Duration::from_secs(20))
        .error_handler(Box::new(LoggingErrorHandler))
        .event_handler(Box::new(NopEventHandler))
        .connection_customizer(Box::new(NopConnectionCustomizer))
        .build(Server::default())
        .unwrap();
    said.push(format!("{} {:?} {}", pool.max_size(), pool.min_idle(), pool.test_on_check_out()));
    said.push(format!("{:?} {:?} {:?}", pool.max_lifetime(), pool.idle_timeout(), pool.connection_timeout()));
    said.push(format!("{pool:?}"));
    let state: State = pool.state();
    said.push(format!("{state:?} {} {}", state.connections, state.idle_connections));

    let panic_of = |attempt: &dyn Fn()| {
        let panic = catch_unwind(AssertUnwindSafe(attempt)).unwrap_err();
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap();
        // The values follow on lines of their own.
        text.lines().next().unwrap().to_owned()
    };
    let new = Builder::<Server>::new;
    said.push(panic_of(&|| drop(new().max_size(0))));
    said.push(panic_of(&|| drop(new().max_lifetime(Some(Duration::ZERO)))));
    said.push(panic_of(&|| drop(new().idle_timeout(Some(Duration::ZERO)))));
    said.push(panic_of(&|| drop(new().connection_timeout(Duration::ZERO))));
    said.push(panic_of(&|| drop(new().max_size(2).min_idle(Some(3)).build(Server::default()))));
    said.push(panic_of(&|| drop(new().max_size(2).min_idle(Some(3)).build_unchecked(Server::default()))));
}

fn a_life(said: &mut Vec<String>) {
    let everything = Everything::default();
    let pool = r2d2::Builder::new()
        .max_size(1)
        .event_handler(Box::new(everything.clone()))
        .error_handler(Box::new(everything.clone()))
        .connection_customizer(Box::new(everything.clone()))
        .build(Server::default())
        .unwrap();

    let mut session: PooledConnection<Server> = pool.get().unwrap();
    said.push(format!("{session:?}"));
    assert!(session.customized);
    PooledConnection::extensions_mut(&mut session).insert(7_u8);
    said.push(format!("busy: {} {}", pool.try_get().is_none(), pool.get_timeout(Duration::from_millis(3)).is_err()));
    drop(session);

    let session = pool.try_get().unwrap();
    let extensions: &Extensions = PooledConnection::extensions(&session);
    said.push(format!("kept: {:?}", extensions.get::<u8>()));
    drop(session);

    pool.get().unwrap().broken = true; // released when it comes back
    let mut session = pool.get().unwrap();
    said.push(format!("not kept: {:?}", PooledConnection::extensions(&session).get::<u8>()));
    session.valid = false; // released when it is to be lent again
    drop(session);
    let session = pool.get().unwrap();
    said.push(format!("{:?}", pool.state()));
    let elsewhere = thread::spawn(move || session.valid);
    said.push(format!("sent: {}", elsewhere.join().unwrap()));

    // Whether the release or the connect that makes up for it is heard first is not said; the order of each
    // connection is.
    let log = everything.log.lock().unwrap();
    for number in 0..3 {
        said.extend(log.iter().filter(|line| line.starts_with(&format!("{number} "))).cloned());
    }
    said.extend(log.iter().filter(|line| !line.starts_with(|first: char| first.is_ascii_digit())).cloned());
}

fn failing(said: &mut Vec<String>) {
    let server = Server::default();
    server.connects_to_refuse.store(u32::MAX, Ordering::SeqCst);
    let builder = || {
        Pool::builder()
            .max_size(1)
            .connection_timeout(Duration::from_millis(50))
            .error_handler(Box::new(NopErrorHandler))
    };
    let error: Error = builder().build(server.clone()).unwrap_err();
    said.push(format!("{error} / {error:?} / {}", error.source().is_none()));
    #[allow(deprecated)]
    said.push(error.description().to_owned());

    let pool = builder().build_unchecked(server.clone());
    said.push(pool.get().unwrap_err().to_string());
    said.push(format!("{:?} {}", pool.state(), pool.try_get().is_none()));
    let as_io: io::Error = io::Error::other(pool.get_timeout(Duration::from_millis(60)).map(drop).unwrap_err());
    said.push(as_io.kind().to_string());

    server.connects_to_refuse.store(0, Ordering::SeqCst);
    let until = Instant::now() + Duration::from_secs(20);
    while pool.get_timeout(Duration::from_millis(500)).is_err() {
        assert!(Instant::now() < until, "the server is there again and nobody notices");
    }
    said.push(format!("{:?}", pool.state()));
}

fn waiting(said: &mut Vec<String>) {
    let pool = Pool::builder().max_size(2).build(Server::default()).unwrap();
    let both = [pool.get().unwrap(), pool.get().unwrap()];
    let (waits, is_waiting) = mpsc::channel();
    let waiter = {
        let service = Service { pool: pool.clone() };
        thread::spawn(move || {
            waits.send(()).unwrap();
            borrow_and_return(&service.pool).map(drop).is_ok()
        })
    };
    is_waiting.recv().unwrap();
    drop(both);
    said.push(format!("served: {}", waiter.join().unwrap()));
    generic(&pool).unwrap();
    spread(pool.clone());
    said.push(format!("{:?}", pool.state()));
    drop(Pool::new(Server::default()).unwrap());
}

fn extensions(said: &mut Vec<String>) {
    let mut extensions = Extensions::new();
    assert!(Extensions::default().get::<u8>().is_none());
    said.push(format!("{:?} {:?}", extensions.insert(1_u8), extensions.insert(2_u8)));
    *extensions.get_mut::<u8>().unwrap() += 1;
    said.push(format!("{:?} {:?}", extensions.get::<u8>().copied(), extensions.remove::<u8>()));
    extensions.insert(4_u16);
    extensions.clear();
    said.push(format!("{:?}", extensions.get::<u16>()));
}

#[derive(Debug)]
struct Defaults;

// Every method of these has a default.
impl event::HandleEvent for Defaults {}
impl CustomizeConnection<Session, Refused> for Defaults {}

fn defaults(said: &mut Vec<String>) {
    let handler: Box<dyn event::HandleEvent> = Box::new(event::NopEventHandler);
    let errors: Box<dyn HandleError<Refused>> = Box::new(NopErrorHandler);
    errors.handle_error(Refused("nothing".into()));
    said.push(format!("{handler:?} {errors:?} {:?} {NopConnectionCustomizer:?}", LoggingErrorHandler.clone()));
    let pool = Pool::builder()
        .max_size(1)
        .event_handler(Box::new(Defaults))
        .connection_customizer(Box::new(Defaults))
        .build(Server::default())
        .unwrap();
    pool.get().unwrap().broken = true;
    said.push(format!("{}", pool.get().unwrap().broken));
}

/// What the program saw.
pub fn outcome() -> Vec<String> {
    is_send_and_sync::<Pool<Server>>();
    is_send_and_sync::<Error>();
    is_send_and_sync::<Extensions>();
    is_send::<PooledConnection<Server>>();
    is_send::<Builder<Server>>();
    is_send_and_sync::<event::AcquireEvent>();
    let mut said = Vec::new();
    the_options(&mut said);
    a_life(&mut said);
    failing(&mut said);
    waiting(&mut said);
    extensions(&mut said);
    defaults(&mut said);
    said
}
