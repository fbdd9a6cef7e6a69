//! The pool that comes with the mysql crate: as it comes (a ping at checkout, a session reset at checkin, which also
//! empties the statement cache), and without either.

use mysql::{Conn, Opts, OptsBuilder, PoolConstraints, PoolOpts, PooledConn};

use crate::backend::{ACQUIRE_TIMEOUT, Failure};
use crate::contender::{AsRaw, Contender, Session};

/// The driver's pool.
#[derive(Debug)]
pub struct MysqlPool(mysql::Pool);

impl MysqlPool {
    /// Opens `size` connections.
    ///
    /// # Errors
    ///
    /// When one of them could not be opened.
    pub fn open(size: usize, opts: &Opts, is_checked: bool) -> Result<Self, Failure> {
        let constraints = PoolConstraints::new(size, size)
            .ok_or_else(|| Failure::new(format!("mysql's pool does not take a size of {size}")))?;
        let pool_opts = PoolOpts::new()
            .with_constraints(constraints)
            .with_check_health(is_checked)
            .with_reset_connection(is_checked);
        mysql::Pool::new(OptsBuilder::from_opts(opts.clone()).pool_opts(pool_opts))
            .map(Self)
            .map_err(|error| Failure::of("mysql's pool", error))
    }
}

impl AsRaw<Conn> for PooledConn {
    fn as_raw(&mut self) -> &mut Conn {
        self.as_mut()
    }
}

impl Contender<Conn> for MysqlPool {
    type Session<'a> = &'a mysql::Pool;

    fn session(&self) -> Result<Self::Session<'_>, Failure> {
        Ok(&self.0)
    }
}

impl Session<Conn> for &mysql::Pool {
    fn with<T>(&mut self, work: impl FnOnce(&mut Conn) -> T) -> Result<T, Failure> {
        let mut connection = self.try_get_conn(ACQUIRE_TIMEOUT).map_err(|error| Failure::of("mysql's pool", error))?;
        Ok(work(connection.as_raw()))
    }
}
