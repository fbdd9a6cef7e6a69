//! MariaDB or MySQL, and the observer that counts the rows and the connections on the server.

use std::env;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder};
use pool::managers::mysql::{MysqlConnection, MysqlManager};
use r2d2_mysql::MySqlConnectionManager;

use super::{Backend, Counted, Failure, Gauge, Gauged};
use crate::contender::{AsRaw, Visit};
use crate::contenders::mysql_pool::MysqlPool;

/// The longest a connect may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest a statement may take before the run is given up.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest the first contact may take, the look-up of the host's name included.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// Said once instead of asked for at every connect; a server may allow less, our statements are far below either.
pub const MAX_ALLOWED_PACKET: usize = 16 << 20;
/// The longest to wait for the server to notice that connections were closed.
const QUIET_TIMEOUT: Duration = Duration::from_secs(5);

/// The variable that names the server.
pub const URL_VARIABLE: &str = "DATABASE_URL";
/// The variable that names the server's socket, for the suite `connect`.
pub const SOCKET_VARIABLE: &str = "DATABASE_SOCKET";
/// What to print when there is no server.
pub const HOW_TO_GET_ONE: &str = "set DATABASE_URL=mysql://user:password@host:port/database, or run scripts/bench, \
                                  which starts a private MariaDB";

/// A server that contenders connect to.
#[derive(Debug, Clone)]
pub struct Mysql {
    opts: Opts,
}

impl Mysql {
    /// The server that [`URL_VARIABLE`] names, or `None` when it is not set. Nothing is contacted.
    ///
    /// # Errors
    ///
    /// When the variable is not a MySQL URL with a database.
    pub fn from_env() -> Result<Option<Self>, Failure> {
        match env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Self::from_url(&url).map(Some),
            _ => Ok(None),
        }
    }

    /// The server at `url`, with the options that make connecting cheap and every wait finite, for all contenders.
    ///
    /// # Errors
    ///
    /// When it is not a MySQL URL with a database. The URL is not repeated, it may hold a password.
    pub fn from_url(url: &str) -> Result<Self, Failure> {
        let opts = Opts::from_url(url).map_err(|error| Failure::of(URL_VARIABLE, error))?;
        if opts.get_db_name().is_none_or(str::is_empty) {
            return Err(Failure::new(format!("{URL_VARIABLE}: no database is named; write mysql://…/database")));
        }
        Ok(Self { opts: tuned(OptsBuilder::from_opts(opts)).into() })
    }

    /// How contenders connect.
    pub fn opts(&self) -> &Opts {
        &self.opts
    }

    /// Opens the observer's connection.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached or does not let us in, within ten seconds.
    pub fn observe(&self) -> Result<Observer, Failure> {
        let (sender, receiver) = mpsc::channel();
        let opts = self.opts.clone();
        // On a thread of its own, since nothing bounds the look-up of a host's name.
        thread::spawn(move || sender.send(Conn::new(opts)));
        let contact = receiver.recv_timeout(PROBE_TIMEOUT).map_err(|_| format!("no answer in {PROBE_TIMEOUT:?}"));
        let conn = contact.and_then(|conn| conn.map_err(|error| plain(&error))).map_err(|problem| {
            let opts = &self.opts;
            let user = opts.get_user().unwrap_or("");
            let (host, port) = (opts.get_ip_or_hostname(), opts.get_tcp_port());
            Failure::new(format!("cannot use the database of {URL_VARIABLE} ({user}@{host}:{port}): {problem}"))
        })?;
        Ok(Observer { conn })
    }
}

/// An error without the name of its variant.
fn plain(error: &mysql::Error) -> String {
    match error {
        mysql::Error::MySqlError(error) => error.to_string(),
        mysql::Error::DriverError(error) => error.to_string(),
        mysql::Error::IoError(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// Options that every contender gets: see the traps in the methodology.
pub fn tuned(opts: OptsBuilder) -> OptsBuilder {
    opts.prefer_socket(false)
        .max_allowed_packet(Some(MAX_ALLOWED_PACKET))
        .tcp_connect_timeout(Some(CONNECT_TIMEOUT))
        .read_timeout(Some(STATEMENT_TIMEOUT))
        .write_timeout(Some(STATEMENT_TIMEOUT))
}

/// What the workloads ask of a connection. Ours come as [`MysqlConnection`], which looks at every statement to know
/// whether the session must be reset; used as a plain `Conn` it would be spared that, and our users are not.
pub trait Sql {
    /// Runs a statement and says how many rows it touched.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn execute(&mut self, statement: &str) -> mysql::Result<u64>;

    /// The first column of the first row.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    fn first(&mut self, query: &str) -> mysql::Result<Option<String>>;
}

impl Sql for Conn {
    fn execute(&mut self, statement: &str) -> mysql::Result<u64> {
        self.query_drop(statement)?;
        Ok(self.affected_rows())
    }

    fn first(&mut self, query: &str) -> mysql::Result<Option<String>> {
        self.query_first(query)
    }
}

impl Sql for MysqlConnection {
    fn execute(&mut self, statement: &str) -> mysql::Result<u64> {
        self.query_drop(statement)?;
        Ok(self.affected_rows())
    }

    fn first(&mut self, query: &str) -> mysql::Result<Option<String>> {
        self.query_first(query)
    }
}

impl AsRaw<dyn Sql> for MysqlConnection {
    fn as_raw(&mut self) -> &mut (dyn Sql + 'static) {
        self
    }
}

impl AsRaw<dyn Sql> for Conn {
    fn as_raw(&mut self) -> &mut (dyn Sql + 'static) {
        self
    }
}

/// r2d2_mysql's manager, counted.
#[derive(Debug)]
pub struct UsersR2d2 {
    manager: MySqlConnectionManager,
    gauge: Arc<Gauge>,
}

impl r2d2::ManageConnection for UsersR2d2 {
    type Connection = Counted<Conn>;
    type Error = mysql::Error;

    fn connect(&self) -> Result<Self::Connection, Self::Error> {
        let connection = self.manager.connect()?;
        Ok(Counted { connection, token: self.gauge.opened() })
    }

    fn is_valid(&self, counted: &mut Self::Connection) -> Result<(), Self::Error> {
        self.manager.is_valid(&mut counted.connection)
    }

    fn has_broken(&self, counted: &mut Self::Connection) -> bool {
        self.manager.has_broken(&mut counted.connection)
    }
}

impl Backend for Mysql {
    type Raw = dyn Sql;
    type Manager = MysqlManager;
    type R2d2 = UsersR2d2;

    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn manager(&self, gauge: &Arc<Gauge>) -> Gauged<MysqlManager> {
        Gauged::new(MysqlManager::new(self.opts.clone()), gauge)
    }

    fn r2d2_manager(&self, gauge: &Arc<Gauge>) -> UsersR2d2 {
        let manager = MySqlConnectionManager::new(OptsBuilder::from_opts(self.opts.clone()));
        UsersR2d2 { manager, gauge: Arc::clone(gauge) }
    }

    fn visit_driver_pool<V: Visit<dyn Sql>>(
        &self,
        size: usize,
        is_checked: bool,
        visit: V,
    ) -> Result<V::Output, Failure> {
        visit.visit(&MysqlPool::open(size, &self.opts, is_checked)?)
    }
}

/// Whether a commit waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// The log is written and flushed at every commit, the server's default.
    Durable,
    /// The log is written once a second: a crash loses a second, a commit costs next to nothing.
    Relaxed,
}

impl Flush {
    /// The name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Relaxed => "relaxed",
        }
    }

    /// The value of `innodb_flush_log_at_trx_commit`.
    #[must_use]
    pub fn setting(self) -> u64 {
        match self {
            Self::Durable => 1,
            Self::Relaxed => 0,
        }
    }
}

/// A connection of the lab's own: prepares tables, counts, and is never measured.
#[derive(Debug)]
pub struct Observer {
    conn: Conn,
}

impl Observer {
    fn ask<T: mysql::prelude::FromValue>(&mut self, query: &str) -> Result<T, Failure> {
        self.conn
            .query_first(query)
            .map_err(|error| Failure::of(query, error))?
            .ok_or_else(|| Failure::new(format!("{query}: no answer")))
    }

    /// Runs a statement.
    ///
    /// # Errors
    ///
    /// When the server refuses it.
    pub fn tell(&mut self, statement: &str) -> Result<(), Failure> {
        self.conn.query_drop(statement).map_err(|error| Failure::of(statement, error))
    }

    /// The server's name and version.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn version(&mut self) -> Result<String, Failure> {
        self.ask("SELECT VERSION()")
    }

    /// The path of the server's socket, on the server's machine.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn socket(&mut self) -> Result<String, Failure> {
        self.ask("SELECT @@socket")
    }

    /// Sets how commits are flushed, for the whole server. `false` when the account may not; then nothing changed.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or answers something else.
    pub fn set_flush(&mut self, flush: Flush) -> Result<bool, Failure> {
        let setting = flush.setting();
        if self.flush_setting()? != setting {
            // Refused without the right to; what it is afterwards decides.
            let _ = self.conn.query_drop(format!("SET GLOBAL innodb_flush_log_at_trx_commit = {setting}"));
        }
        Ok(self.flush_setting()? == setting)
    }

    /// The server's `innodb_flush_log_at_trx_commit`.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn flush_setting(&mut self) -> Result<u64, Failure> {
        self.ask("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit")
    }

    /// Puts back what [`flush_setting`](Self::flush_setting) had said, if the account may.
    pub fn restore_flush(&mut self, setting: u64) {
        let _ = self.conn.query_drop(format!("SET GLOBAL innodb_flush_log_at_trx_commit = {setting}"));
    }

    /// Lets `body` use tables that are made for it and dropped afterwards, and change the flushing, which is put back.
    ///
    /// # Errors
    ///
    /// The first failure: a table cannot be made, the body's, a table cannot be dropped.
    pub fn with_tables<const COUNT: usize>(
        &mut self,
        purposes: [&str; COUNT],
        body: impl FnOnce(&mut Self, &[Table; COUNT]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let setting = self.flush_setting()?;
        let tables = purposes.into_iter().map(|purpose| self.make_table(purpose)).collect::<Result<Vec<_>, _>>()?;
        let tables = tables.try_into().unwrap_or_else(|_| unreachable!("one for each purpose"));
        let outcome = body(self, &tables);
        self.restore_flush(setting);
        // Every table is dropped, whatever failed before; the first failure is the one to tell.
        tables.into_iter().fold(outcome, |outcome, table| outcome.and(self.drop_table(table)))
    }

    /// Makes the table of the seed's inserts, empty, under a name of this process.
    ///
    /// # Errors
    ///
    /// When the account may not make tables.
    pub fn make_table(&mut self, purpose: &str) -> Result<Table, Failure> {
        let name = format!("pool_bench_{purpose}_{}", std::process::id());
        self.tell(&format!("DROP TABLE IF EXISTS {name}"))?;
        self.tell(&format!(
            "CREATE TABLE {name} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(50) NOT NULL, \
             password VARCHAR(50) NOT NULL, state ENUM('online', 'offline') DEFAULT 'offline') ENGINE = InnoDB"
        ))?;
        Ok(Table { name })
    }

    /// Empties the table.
    ///
    /// # Errors
    ///
    /// When the server refuses to.
    pub fn empty(&mut self, table: &Table) -> Result<(), Failure> {
        self.tell(&format!("TRUNCATE TABLE {}", table.name))
    }

    /// Fills the table with `rows` rows, numbered from 1.
    ///
    /// # Errors
    ///
    /// When the server refuses to.
    pub fn fill(&mut self, table: &Table, rows: u64) -> Result<(), Failure> {
        let values: Vec<String> = (1..=rows).map(|id| format!("({id}, 'user{id}', 'password{id}')")).collect();
        self.tell(&format!("INSERT INTO {} (id, name, password) VALUES {}", table.name, values.join(", ")))
    }

    /// Fails unless the table has `rows` rows.
    ///
    /// # Errors
    ///
    /// When it has not, or the server does not answer.
    pub fn expect_rows(&mut self, table: &Table, rows: u64) -> Result<(), Failure> {
        let found: u64 = self.ask(&format!("SELECT COUNT(*) FROM {}", table.name))?;
        if found == rows {
            return Ok(());
        }
        Err(Failure::new(format!("{rows} rows were inserted, but {} has {found}", table.name)))
    }

    /// Drops the table.
    ///
    /// # Errors
    ///
    /// When the server refuses to.
    pub fn drop_table(&mut self, table: Table) -> Result<(), Failure> {
        self.tell(&format!("DROP TABLE IF EXISTS {}", table.name))
    }

    /// Connections of our account to our database beside this one, as the server counts them.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn connections(&mut self) -> Result<usize, Failure> {
        self.ask(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
             WHERE DB = DATABASE() AND USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AND ID <> CONNECTION_ID()",
        )
    }

    /// Makes the server forget how many connections it had at most. `false` when the account may not, or when others
    /// use the server, so that the number would not be ours.
    ///
    /// # Errors
    ///
    /// When the server does not answer.
    pub fn forget_high_water(&mut self) -> Result<bool, Failure> {
        let connected: u64 = self.status("Threads_connected")?;
        Ok(connected == 1 && self.conn.query_drop("FLUSH STATUS").is_ok())
    }

    /// Fails when the server had more than `limit` connections beside this one since it was made to forget.
    ///
    /// # Errors
    ///
    /// Then, and when the server does not answer.
    pub fn expect_high_water(&mut self, limit: usize) -> Result<(), Failure> {
        let high = self.status("Max_used_connections")?.saturating_sub(1);
        if high <= limit as u64 {
            return Ok(());
        }
        Err(Failure::new(format!("the server counted {high} connections at once, {limit} were allowed")))
    }

    fn status(&mut self, variable: &str) -> Result<u64, Failure> {
        let query = format!("SHOW GLOBAL STATUS LIKE '{variable}'");
        let row: Option<(String, u64)> = self.conn.query_first(&query).map_err(|error| Failure::of(&query, error))?;
        row.map(|(_, value)| value).ok_or_else(|| Failure::new(format!("{query}: no answer")))
    }

    /// Waits until the server has noticed that everybody else left.
    ///
    /// # Errors
    ///
    /// When connections are still there after five seconds.
    pub fn wait_until_quiet(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + QUIET_TIMEOUT;
        loop {
            let others = self.connections()?;
            if others == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!(
                    "the server still counts {others} connections to our database; does somebody else use it?"
                )));
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A table of this process.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
}
