//! A real MariaDB, the proxy in front of it that delays, cuts and drops, and how the subjects connect to it.

pub mod proxy;

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use ::pool::Manager as _;
use ::r2d2::ManageConnection as _;
use mysql::prelude::Queryable;
use mysql::{Conn, Opts, OptsBuilder, PoolConstraints, PoolOpts, PooledConn};
use pool::managers::mysql::{MysqlConnection, MysqlManager};
use r2d2_mysql::MySqlConnectionManager;

use super::lab::EVENTUALLY;
use super::script::Fault;
use super::subject::{Answer, Kind, Lent, Loan, Options, Pooled, Refusal, Shared, Source, Validate};
use super::subjects::Subject;
use super::{Check, Finding, lacks, no_lab};
use crate::backend::Failure;
use crate::backend::mysql::Mysql;
use crate::contenders::Entrant;

/// How mysql's own pool is configured.
pub const MYSQL_POOL_CONFIGURATION: &str = "as it comes: a ping at checkout, a session reset at checkin; asked with \
    `try_get_conn`. It opens its connections itself, so only the checks over MariaDB can be put to it";

/// The variable that names the folder of a server that may be restarted, as `scripts/services --folder` takes it.
pub const RESTARTABLE_VARIABLE: &str = "CONFORMANCE_SERVICES";

/// The server, and the rights to do things to it.
#[derive(Debug)]
pub struct Server {
    opts: Opts,
}

/// A connection of a pool's, whoever made it.
pub enum Sql {
    /// By our manager.
    Ours(Box<MysqlConnection>),
    /// By r2d2_mysql.
    Users(Conn),
    /// By the driver's own pool.
    Driver(PooledConn),
    /// Lost in a validation that was given up.
    Gone,
}

impl Sql {
    /// The first column of the first row.
    ///
    /// # Errors
    ///
    /// The driver's, as text.
    pub fn first(&mut self, query: &str) -> Result<String, String> {
        let row: mysql::Result<Option<String>> = match self {
            Self::Ours(connection) => connection.query_first(query),
            Self::Users(connection) => connection.query_first(query),
            Self::Driver(connection) => connection.query_first(query),
            Self::Gone => return Err("the connection is gone".to_owned()),
        };
        row.map_err(|error| error.to_string())?.ok_or_else(|| "no row".to_owned())
    }
}

impl Server {
    /// The server that `DATABASE_URL` names, or `None` when it is not set.
    ///
    /// # Errors
    ///
    /// When the variable is not a MySQL URL.
    pub fn from_env() -> Result<Option<Self>, Failure> {
        Ok(Mysql::from_env()?.map(|server| Self { opts: server.opts().clone() }))
    }

    /// The server that may be restarted.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn restartable() -> Check<Self> {
        let Some(folder) = env::var_os(RESTARTABLE_VARIABLE).map(PathBuf::from) else {
            return lacks("no server that may be restarted: run scripts/conformance");
        };
        let path = folder.join("mariadb/environment");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Finding::Lab(format!("the server that may be restarted: {error}")))?;
        let url = text.lines().find_map(|line| line.strip_prefix("export DATABASE_URL='")?.strip_suffix('\''));
        let server = url.and_then(|url| Mysql::from_url(url).ok());
        let Some(server) = server else { return no_lab("the server that may be restarted says no address") };
        Ok(Self { opts: server.opts().clone() })
    }

    /// Stops the server that may be restarted and starts it again, on another port.
    ///
    /// # Errors
    ///
    /// When that does not work.
    pub fn restart() -> Check<Self> {
        for action in ["stop", "start"] {
            let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/services");
            let status = Command::new(script)
                .args([action, "mariadb", "--folder"])
                .arg(env::var_os(RESTARTABLE_VARIABLE).unwrap_or_default())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if !status.is_ok_and(|status| status.success()) {
                return no_lab(format!("the server does not {action}"));
            }
        }
        Self::restartable()
    }

    /// Its version.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn version(&self) -> Result<String, Failure> {
        let mut admin = Conn::new(self.opts.clone()).map_err(|error| Failure::of("MariaDB", error))?;
        let version = admin.query_first("SELECT VERSION()").map_err(|error| Failure::of("MariaDB", error))?;
        Ok(version.unwrap_or_default())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> (String, u16) {
        (self.opts.get_ip_or_hostname().into_owned(), self.opts.get_tcp_port())
    }

    /// A connection of the check's own, past the proxy.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn admin(&self) -> Check<Admin> {
        Conn::new(self.opts.clone()).map(Admin).map_err(|error| Finding::Lab(format!("the server: {error}")))
    }

    /// The subject's pool over this server, through `port` of this machine where one is given, with `tune`d options.
    ///
    /// # Errors
    ///
    /// When it has no such option, or cannot be built.
    pub fn pool(
        &self,
        subject: Subject,
        port: Option<u16>,
        options: &Options,
        tune: impl FnOnce(OptsBuilder) -> OptsBuilder,
    ) -> Check<Shared<Sql>> {
        let mut builder = OptsBuilder::from_opts(self.opts.clone()).prefer_socket(false);
        if let Some(port) = port {
            builder = builder.ip_or_hostname(Some("127.0.0.1")).tcp_port(port);
        }
        let opts = tune(builder);
        let answer = match subject.0 {
            Entrant::MysqlPool => driver_pool(opts, options),
            Entrant::R2d2 => subject.open(MariaDb::Users(Arc::new(MySqlConnectionManager::new(opts))), options)?,
            _ => subject.open(MariaDb::Ours(Arc::new(MysqlManager::new(Opts::from(opts)))), options)?,
        };
        answer.map_err(|refusal| Finding::Fails(format!("could not be built: {}", refusal.text)))
    }
}

/// The check's own connection.
pub struct Admin(Conn);

impl Admin {
    /// Runs a statement.
    ///
    /// # Errors
    ///
    /// The server's.
    pub fn run(&mut self, statement: &str) -> Check {
        self.0.query_drop(statement).map_err(|error| Finding::Lab(format!("{statement}: {error}")))
    }

    /// Waits until the server has ended these connections.
    ///
    /// # Errors
    ///
    /// When it does not within [`EVENTUALLY`].
    pub fn wait_until_gone(&mut self, connections: &[String]) -> Check {
        let query = format!(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE id IN ({}) AND command <> 'Killed'",
            connections.join(",")
        );
        let until = Instant::now() + EVENTUALLY * 2;
        loop {
            let left: Option<u64> =
                self.0.query_first(&query).map_err(|error| Finding::Lab(format!("the server: {error}")))?;
            if left == Some(0) {
                return Ok(());
            }
            if Instant::now() > until {
                return no_lab(format!("the server still has {} of the connections", left.unwrap_or_default()));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How a pool's connections are validated over MariaDB, to its advantage: each time, or with a peek each time and a ping
/// after half a minute where the pool has a window.
#[must_use]
pub fn validation(subject: Subject) -> Validate {
    if subject.is_ours() { Validate::AfterIdle(Duration::from_secs(30)) } else { Validate::Always }
}

/// How pools that let others connect do it here.
#[derive(Clone)]
pub enum MariaDb {
    /// With our manager for the driver, which peeks at the socket and remembers errors.
    Ours(Arc<MysqlManager>),
    /// With r2d2_mysql's, as r2d2's users have it.
    Users(Arc<MySqlConnectionManager>),
}

fn fault(error: &impl std::fmt::Display) -> Fault {
    Fault::new(error.to_string())
}

impl Source for MariaDb {
    type Connection = Sql;

    fn connect(&self) -> Result<Sql, Fault> {
        match self {
            Self::Ours(manager) => manager.connect().map(|c| Sql::Ours(Box::new(c))).map_err(|error| fault(&error)),
            Self::Users(manager) => manager.connect().map(Sql::Users).map_err(|error| fault(&error)),
        }
    }

    async fn connect_async(&self) -> Result<Sql, Fault> {
        let source = self.clone();
        // The driver blocks.
        tokio::task::spawn_blocking(move || source.connect()).await.map_err(|error| fault(&error))?
    }

    fn validate(&self, connection: &mut Sql) -> Result<(), Fault> {
        match (self, connection) {
            (Self::Ours(manager), Sql::Ours(connection)) => {
                if !manager.looks_alive(connection) {
                    return Err(Fault::new("the connection was closed by its peer"));
                }
                manager.is_valid(connection).map_err(|error| fault(&error))
            }
            (Self::Users(manager), Sql::Users(connection)) => {
                manager.is_valid(connection).map_err(|error| fault(&error))
            }
            _ => Err(Fault::new("the connection is gone")),
        }
    }

    async fn validate_async(&self, connection: &mut Sql) -> Result<(), Fault> {
        let source = self.clone();
        // A validation that is given up takes the connection with it.
        let mut taken = std::mem::replace(connection, Sql::Gone);
        let validating = tokio::task::spawn_blocking(move || {
            let result = source.validate(&mut taken);
            (taken, result)
        });
        let (taken, result) = validating.await.map_err(|error| fault(&error))?;
        *connection = taken;
        result
    }

    fn looks_alive(&self, connection: &mut Sql) -> bool {
        match (self, connection) {
            (Self::Ours(manager), Sql::Ours(connection)) => manager.looks_alive(connection),
            (_, connection) => !matches!(connection, Sql::Gone),
        }
    }

    fn has_broken(&self, connection: &mut Sql) -> bool {
        match (self, connection) {
            (Self::Ours(manager), Sql::Ours(connection)) => manager.has_broken(connection),
            (Self::Users(manager), Sql::Users(connection)) => manager.has_broken(connection),
            _ => true,
        }
    }

    fn is_dirty(&self, _: &mut Sql) -> bool {
        false
    }

    fn reset(&self, _: &mut Sql) -> Result<(), Fault> {
        Ok(())
    }

    async fn reset_async(&self, _: &mut Sql) -> Result<(), Fault> {
        Ok(())
    }

    fn hook(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// The driver's own pool.
struct DriverPool {
    pool: mysql::Pool,
    timeout: Duration,
}

/// Its guard, which goes back with its place.
struct DriverLoan(Sql);

impl Lent<Sql> for DriverLoan {
    fn connection(&mut self) -> &mut Sql {
        &mut self.0
    }
}

fn driver_pool(opts: OptsBuilder, options: &Options) -> Result<Shared<Sql>, Refusal> {
    let constraints = PoolConstraints::new(options.min_idle, options.max_size)
        .ok_or_else(|| Refusal::new(Kind::Other, "it does not take these sizes"))?;
    let opts = opts.pool_opts(PoolOpts::new().with_constraints(constraints));
    let pool = mysql::Pool::new(opts).map_err(|error| Refusal::of(Kind::Connect, &error))?;
    Ok(Arc::new(DriverPool { pool, timeout: options.acquire_timeout }))
}

impl Pooled<Sql> for DriverPool {
    fn get(&self) -> Answer<Sql> {
        match self.pool.try_get_conn(self.timeout) {
            Ok(connection) => Ok(Box::new(DriverLoan(Sql::Driver(connection))) as Loan<Sql>),
            Err(error @ mysql::Error::DriverError(mysql::DriverError::Timeout)) => {
                Err(Refusal::of(Kind::TimedOut, &error))
            }
            Err(error) => Err(Refusal::of(Kind::Connect, &error)),
        }
    }
}
