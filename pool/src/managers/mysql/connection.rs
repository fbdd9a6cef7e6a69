//! A connection that notices when it can no longer be trusted.

use std::fmt;
use std::ops::{Deref, DerefMut};

use mysql::prelude::{AsStatement, FromRow, Queryable};
use mysql::{
    Binary, ChangeUserOpts, Conn, FromRowError, Params, QueryResult, Result, Statement, Text, TxOpts, from_row,
    from_row_opt,
};

use super::watch::Watch;

/// A [`mysql::Conn`](::mysql::Conn) that notes the errors of every call made through it.
///
/// After a read timeout the reply to a query may still arrive, and the driver would take it for the reply to the next
/// query, whoever asks it. So a connection that met an error of the socket, the driver or the codec refuses further
/// calls and is closed when it comes back to the pool, also when its holder ignored the error. What counts:
///
/// - Every method of [`Queryable`], whose rows are read to the end before it returns, and the methods below.
/// - Every method of the [`Transaction`] that [`start_transaction`](Self::start_transaction) returns.
/// - The rows of a [`QueryResult`], and what is done through a `&mut Conn` (by [`DerefMut`], so `&mut **guard`), are
///   the driver's own, and their errors are not seen here. But a timeout takes at least as long as the timeout is set
///   to: a connection that was out of sight for that long is closed when it comes back. Every other fatal error ends
///   the connection, which the check at the next checkout sees.
///
/// An error passed to [`Guard::run`](crate::Guard::run) counts in any case. What remains is a `QueryResult` that was
/// forgotten ([`std::mem::forget`]) half-read: the driver refuses the next call with "packets out of sync", and that
/// closes the connection.
///
/// A [`Statement`] belongs to the connection that prepared it. One that was prepared during another loan is refused
/// unless it is the same connection by chance; give the text instead, which each connection prepares once and keeps.
pub struct MysqlConnection {
    conn: Conn,
    watch: Watch,
}

impl MysqlConnection {
    pub(super) fn new(conn: Conn, watch: Watch) -> Self {
        Self { conn, watch }
    }

    pub(super) fn parts(&mut self) -> (&mut Conn, &mut Watch) {
        (&mut self.conn, &mut self.watch)
    }

    /// Whether a fatal error was noted. Such a connection refuses every call.
    pub fn is_broken(&self) -> bool {
        self.watch.is_broken()
    }

    /// Like [`Conn::start_transaction`], but the errors of the transaction are noted.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn start_transaction(&mut self, options: TxOpts) -> Result<Transaction<'_>> {
        self.watch.enter()?;
        // Some of the driver's own steps panic instead of returning an error.
        let armed = self.watch.arm();
        let started = self.conn.start_transaction(options);
        self.watch.disarm(armed);
        match started {
            Ok(transaction) => {
                self.watch.saw_transaction(true);
                Ok(Transaction { inner: Some(transaction), watch: &mut self.watch })
            }
            Err(error) => {
                self.watch.note(&error);
                self.watch.saw_change();
                Err(error)
            }
        }
    }

    /// Like [`Conn::ping`]. A reply proves that the server lives, not that it is the reply to this ping.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn ping(&mut self) -> Result<()> {
        self.watch.enter()?;
        let pinged = self.conn.ping();
        self.watch.noted(pinged)
    }

    /// Like [`Conn::select_db`]. The pool returns to the original database before the next use.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn select_db(&mut self, schema: &str) -> Result<()> {
        self.watch.enter()?;
        self.watch.saw_change();
        let selected = self.conn.select_db(schema);
        self.watch.noted(selected)
    }

    /// Like [`Conn::reset`]: rolls back, forgets session variables, temporary tables and prepared statements.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn reset(&mut self) -> Result<()> {
        self.watch.enter()?;
        self.watch.leave_sight(); // the driver swallows late errors of the init commands
        let reset = self.conn.reset();
        self.watch.noted(reset)
    }

    /// Like [`Conn::change_user`]. The connection will not go back to the pool: it belongs to somebody else now.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn change_user(&mut self, options: ChangeUserOpts) -> Result<()> {
        self.watch.enter()?;
        self.watch.distrust();
        let changed = self.conn.change_user(options);
        self.watch.noted(changed)
    }

    /// A new session for the same user, without a default database.
    pub(super) fn renew(&mut self) -> Result<()> {
        let renewed = self.conn.change_user(ChangeUserOpts::DEFAULT).and_then(|()| self.conn.reset());
        self.watch.noted(renewed)
    }

    /// The driver's connection, no longer watched.
    pub fn into_inner(self) -> Conn {
        self.conn
    }
}

impl Deref for MysqlConnection {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        &self.conn
    }
}

impl DerefMut for MysqlConnection {
    fn deref_mut(&mut self) -> &mut Conn {
        // A broken connection is handed out all the same, since this cannot fail; it will not go back to the pool.
        let _ = self.watch.enter();
        self.watch.hand_out();
        &mut self.conn
    }
}

impl fmt::Debug for MysqlConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the driver's `Debug`, which prints the password.
        f.debug_struct("MysqlConnection")
            .field("connection_id", &self.conn.connection_id())
            .field("watch", &self.watch)
            .finish()
    }
}

/// A transaction whose errors are noted. Rolled back when dropped.
///
/// What [`MysqlConnection::start_transaction`] returns; the methods are those of [`mysql::Transaction`].
pub struct Transaction<'a> {
    /// `None` once it is committed or rolled back.
    inner: Option<mysql::Transaction<'a>>,
    watch: &'a mut Watch,
}

impl<'a> Transaction<'a> {
    /// Makes the changes permanent.
    ///
    /// # Errors
    ///
    /// Those of the driver. After an error of the connection nobody knows whether the server has committed.
    pub fn commit(mut self) -> Result<()> {
        self.finish(mysql::Transaction::commit)
    }

    /// Undoes the changes. Dropping the transaction does the same and keeps the error to itself.
    ///
    /// # Errors
    ///
    /// Those of the driver.
    pub fn rollback(mut self) -> Result<()> {
        self.finish(mysql::Transaction::rollback)
    }

    /// Rows changed by the last statement.
    pub fn affected_rows(&self) -> u64 {
        self.inner.as_ref().map_or(0, mysql::Transaction::affected_rows)
    }

    /// The id which the last statement generated, if it did.
    pub fn last_insert_id(&self) -> Option<u64> {
        self.inner.as_ref().and_then(mysql::Transaction::last_insert_id)
    }

    /// Warnings of the last statement.
    pub fn warnings(&self) -> u16 {
        self.inner.as_ref().map_or(0, mysql::Transaction::warnings)
    }

    fn finish(&mut self, how: impl FnOnce(mysql::Transaction<'a>) -> Result<()>) -> Result<()> {
        let Some(inner) = self.inner.take() else { return Ok(()) };
        if let Err(error) = self.watch.enter() {
            // Dropping it sends a ROLLBACK down a connection that nobody will use again; harmless.
            drop(inner);
            return Err(error);
        }
        let finished = how(inner);
        if finished.is_ok() {
            self.watch.saw_transaction(false);
        }
        self.watch.noted(finished)
    }

    fn parts(&mut self) -> (&mut mysql::Transaction<'a>, &mut Watch) {
        (self.inner.as_mut().expect("only `finish` takes it, and that ends the transaction"), self.watch)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let _ = self.finish(mysql::Transaction::rollback);
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("watch", &self.watch).finish_non_exhaustive()
    }
}

/// `Queryable` for a type whose `parts` are the driver's `Queryable` and a `Watch`.
///
/// The trait's other methods (`query`, `query_map`, `exec`, `exec_map` and their `_opt` twins) call these.
macro_rules! watched_queryable {
    ($type:ty) => {
        impl Queryable for $type {
            fn query_iter<Q: AsRef<str>>(&mut self, query: Q) -> Result<QueryResult<'_, '_, '_, Text>> {
                let (inner, watch) = self.parts();
                watch.enter()?;
                watch.saw_statement(query.as_ref());
                watch.leave_sight();
                let reply = inner.query_iter(query);
                watch.noted(reply)
            }

            fn query_first<T: FromRow, Q: AsRef<str>>(&mut self, query: Q) -> Result<Option<T>> {
                self.read_text(query.as_ref(), |rows| rows.next().map(|row| row.map(from_row)).transpose())
            }

            fn query_first_opt<T: FromRow, Q: AsRef<str>>(
                &mut self,
                query: Q,
            ) -> Result<Option<std::result::Result<T, FromRowError>>> {
                self.read_text(query.as_ref(), |rows| rows.next().map(|row| row.map(from_row_opt)).transpose())
            }

            fn query_fold<T, F, Q, U>(&mut self, query: Q, init: U, mut fold: F) -> Result<U>
            where
                Q: AsRef<str>,
                T: FromRow,
                F: FnMut(U, T) -> U,
            {
                self.read_text(query.as_ref(), |rows| {
                    rows.try_fold(init, |folded, row| row.map(|row| fold(folded, from_row(row))))
                })
            }

            fn query_fold_opt<T, F, Q, U>(&mut self, query: Q, init: U, mut fold: F) -> Result<U>
            where
                Q: AsRef<str>,
                T: FromRow,
                F: FnMut(U, std::result::Result<T, FromRowError>) -> U,
            {
                self.read_text(query.as_ref(), |rows| {
                    rows.try_fold(init, |folded, row| row.map(|row| fold(folded, from_row_opt(row))))
                })
            }

            fn query_drop<Q: AsRef<str>>(&mut self, query: Q) -> Result<()> {
                self.read_text(query.as_ref(), |_| Ok(()))
            }

            fn prep<Q: AsRef<str>>(&mut self, query: Q) -> Result<Statement> {
                let (inner, watch) = self.parts();
                watch.enter()?;
                watch.saw_statement(query.as_ref());
                let prepared = inner.prep(query);
                watch.noted(prepared)
            }

            fn close(&mut self, statement: Statement) -> Result<()> {
                let (inner, watch) = self.parts();
                watch.enter()?;
                watch.check_origin(&statement)?;
                let closed = inner.close(statement);
                watch.noted(closed)
            }

            fn exec_iter<S, P>(&mut self, statement: S, params: P) -> Result<QueryResult<'_, '_, '_, Binary>>
            where
                S: AsStatement,
                P: Into<Params>,
            {
                let statement = statement.as_statement(self)?;
                let (inner, watch) = self.parts();
                watch.enter()?;
                watch.check_origin(&statement)?;
                watch.leave_sight();
                let reply = inner.exec_iter(&*statement, params);
                watch.noted(reply)
            }

            fn exec_batch<S, P, I>(&mut self, statement: S, params: I) -> Result<()>
            where
                S: AsStatement,
                P: Into<Params>,
                I: IntoIterator<Item = P>,
            {
                let statement = statement.as_statement(self)?;
                let (inner, watch) = self.parts();
                watch.enter()?;
                watch.check_origin(&statement)?;
                watch.leave_sight(); // the driver swallows the late errors of each batch
                let armed = watch.arm();
                let done = inner.exec_batch(&*statement, params);
                watch.disarm(armed);
                watch.noted(done)
            }

            fn exec_first<T, S, P>(&mut self, statement: S, params: P) -> Result<Option<T>>
            where
                S: AsStatement,
                P: Into<Params>,
                T: FromRow,
            {
                self.read_binary(statement, params, |rows| rows.next().map(|row| row.map(from_row)).transpose())
            }

            fn exec_first_opt<T, S, P>(
                &mut self,
                statement: S,
                params: P,
            ) -> Result<Option<std::result::Result<T, FromRowError>>>
            where
                S: AsStatement,
                P: Into<Params>,
                T: FromRow,
            {
                self.read_binary(statement, params, |rows| rows.next().map(|row| row.map(from_row_opt)).transpose())
            }

            fn exec_fold<T, S, P, U, F>(&mut self, statement: S, params: P, init: U, mut fold: F) -> Result<U>
            where
                S: AsStatement,
                P: Into<Params>,
                T: FromRow,
                F: FnMut(U, T) -> U,
            {
                self.read_binary(statement, params, |rows| {
                    rows.try_fold(init, |folded, row| row.map(|row| fold(folded, from_row(row))))
                })
            }

            fn exec_fold_opt<T, S, P, U, F>(&mut self, statement: S, params: P, init: U, mut fold: F) -> Result<U>
            where
                S: AsStatement,
                P: Into<Params>,
                T: FromRow,
                F: FnMut(U, std::result::Result<T, FromRowError>) -> U,
            {
                self.read_binary(statement, params, |rows| {
                    rows.try_fold(init, |folded, row| row.map(|row| fold(folded, from_row_opt(row))))
                })
            }

            fn exec_drop<S, P>(&mut self, statement: S, params: P) -> Result<()>
            where
                S: AsStatement,
                P: Into<Params>,
            {
                self.read_binary(statement, params, |_| Ok(()))
            }
        }

        impl $type {
            /// Runs a text query, takes something out of its reply, and reads the reply to its end.
            fn read_text<T>(
                &mut self,
                query: &str,
                take: impl FnOnce(&mut QueryResult<'_, '_, '_, Text>) -> Result<T>,
            ) -> Result<T> {
                let (inner, watch) = self.parts();
                watch.enter()?;
                watch.saw_statement(query);
                let armed = watch.arm();
                let taken = watch.read(inner.query_iter(query), take);
                watch.disarm(armed);
                taken
            }

            /// The same for a prepared statement; one given as text is prepared first, and seen by `prep`.
            fn read_binary<T>(
                &mut self,
                statement: impl AsStatement,
                params: impl Into<Params>,
                take: impl FnOnce(&mut QueryResult<'_, '_, '_, Binary>) -> Result<T>,
            ) -> Result<T> {
                let statement = statement.as_statement(self)?;
                let (inner, watch) = self.parts();
                watch.enter()?;
                watch.check_origin(&statement)?;
                let armed = watch.arm();
                let taken = watch.read(inner.exec_iter(&*statement, params), take);
                watch.disarm(armed);
                taken
            }
        }
    };
}

watched_queryable!(MysqlConnection);
watched_queryable!(Transaction<'_>);
