//! The faults that only a real server has, over a real server.

use std::thread;
use std::time::{Duration, Instant};

use super::{Question, questions};
use crate::conformance::lab::{AT_MOST, Caller, EVENTUALLY, SHORT, answer, get_all, give_back, refused, within};
use crate::conformance::server::proxy::Proxy;
use crate::conformance::server::{Server, Sql, validation};
use crate::conformance::subject::{Loan, Options, Shared};
use crate::conformance::subjects::Subject;
use crate::conformance::{Check, Finding, ensure};

pub(super) const QUESTIONS: &[Question] = questions!(Server:
    13 the_timeout_holds_when_the_server_is_slow_to_accept,
    16 the_error_says_that_the_servers_limit_is_reached,
    18 a_return_serves_a_waiter_while_the_servers_limit_is_reached,
    22 the_pool_recovers_from_a_link_that_is_cut,
    22 the_pool_recovers_from_a_half_open_link,
    22 the_pool_recovers_from_a_restart_of_the_server,
    24 killed_connections_are_replaced_without_an_error,
    24 connections_past_wait_timeout_are_replaced_without_an_error,
    25 the_next_holder_does_not_read_an_answer_that_came_late,
);

type Pool = Shared<Sql>;

fn options(subject: Subject, max_size: usize) -> Options {
    Options { max_size, validate: validation(subject), ..Options::default() }
}

fn query(loan: &mut Loan<Sql>, query: &str, when: &str) -> Check<String> {
    loan.connection().first(query).map_err(|error| Finding::Fails(format!("{when}: {query}: {error}")))
}

/// A loan before anything has happened. A busy machine may take longer for it than the check's short times allow, which
/// says nothing about the pool.
fn first(pool: &Pool) -> Check<Loan<Sql>> {
    let mut loan = None;
    within(EVENTUALLY * 2, "a connection before anything has happened", || {
        loan = answer(pool, "before").ok().and_then(Result::ok);
        loan.is_some()
    })?;
    loan.ok_or_else(|| Finding::Lab("no connection".to_owned()))
}

/// The server's numbers of `count` connections, which are idle afterwards.
fn numbers(pool: &Pool, count: usize) -> Check<Vec<String>> {
    let mut loans = (0..count).map(|_| first(pool)).collect::<Check<Vec<Loan<Sql>>>>()?;
    let numbers =
        loans.iter_mut().map(|loan| query(loan, "SELECT CONNECTION_ID()", "before")).collect::<Check<Vec<String>>>()?;
    for loan in loans {
        give_back(loan, "before")?;
    }
    Ok(numbers)
}

/// `count` connections can be held at the same time and work. A holder that meets an error gives back and asks again.
fn recovers(pool: &Pool, count: usize, when: &str) -> Check {
    let mut held: Vec<Loan<Sql>> = Vec::new();
    let mut last = String::new();
    let outcome = within(EVENTUALLY * 2, when, || {
        match answer(pool, when) {
            Ok(Ok(mut loan)) => match loan.connection().first("SELECT 'works'") {
                Ok(_) => held.push(loan),
                Err(error) => last = error,
            },
            Ok(Err(refusal)) => last = refusal.text,
            Err(finding) => last = finding.to_string(),
        }
        held.len() == count
    });
    outcome.map_err(|finding| {
        Finding::Fails(format!("{finding}: {} of {count} held, the last problem: {last}", held.len()))
    })
}

fn the_timeout_holds_when_the_server_is_slow_to_accept(subject: Subject, server: &Server) -> Check {
    let proxy = Proxy::start(server.address())?;
    let options = Options { acquire_timeout: SHORT * 3, ..options(subject, 2) };
    let pool = server.pool(subject, Some(proxy.port), &options, |opts| opts)?;
    proxy.delay(AT_MOST * 3 / 2);
    let since = Instant::now();
    drop(answer(&pool, "while the server takes its time to accept")?);
    let waited = since.elapsed();
    ensure!(waited < AT_MOST, "a caller with {:?} was kept {waited:?}", options.acquire_timeout);
    proxy.delay(Duration::ZERO);
    recovers(&pool, 2, "the server accepts again")
}

/// A pool of four, as a user to whom the server allows two connections.
struct Limited<'a> {
    pool: Pool,
    server: &'a Server,
    user: String,
}

/// Where a user may come from, by the names that a server may give to this machine.
const HOSTS: [&str; 3] = ["127.0.0.1", "localhost", "%"];

impl<'a> Limited<'a> {
    fn open(subject: Subject, server: &'a Server, acquire_timeout: Duration) -> Check<Self> {
        // One for each process, since several ask at the same time and one's connections linger after its end.
        let user = format!("limited_{}", std::process::id());
        let mut admin = server.admin()?;
        for host in HOSTS {
            admin.run(&format!(
                "CREATE OR REPLACE USER {user}@'{host}' IDENTIFIED BY 'limited' WITH MAX_USER_CONNECTIONS 2"
            ))?;
        }
        let options = Options { acquire_timeout, ..options(subject, 4) };
        let pool = server.pool(subject, None, &options, |opts| {
            // Asking for constants takes no rights.
            opts.user(Some(&user)).pass(Some("limited")).db_name(None::<String>)
        })?;
        Ok(Self { pool, server, user })
    }
}

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        let Ok(mut admin) = self.server.admin() else { return };
        for host in HOSTS {
            // A user that is left over is harmless.
            let _ = admin.run(&format!("DROP USER IF EXISTS {}@'{host}'", self.user));
        }
    }
}

fn the_error_says_that_the_servers_limit_is_reached(subject: Subject, server: &Server) -> Check {
    let limited = Limited::open(subject, server, SHORT * 6)?;
    let _loans = get_all(&limited.pool, 2, "up to the server's limit")?;
    let refusal = refused(&limited.pool, "a caller beyond the server's limit")?;
    ensure!(refusal.text.contains("max_user_connections"), "a caller was told \"{}\"", refusal.text);
    Ok(())
}

fn a_return_serves_a_waiter_while_the_servers_limit_is_reached(subject: Subject, server: &Server) -> Check {
    let limited = Limited::open(subject, server, EVENTUALLY)?;
    let mut loans = get_all(&limited.pool, 2, "up to the server's limit")?;
    let mut waiter = Caller::start(&limited.pool)?;
    thread::sleep(SHORT);
    give_back(loans.remove(0), "one of two")?;
    let mut served = waiter.served("a caller with seconds left, when a connection came back")?;
    query(&mut served, "SELECT 'works'", "the waiter").map(drop)
}

fn the_pool_recovers_from_a_link_that_is_cut(subject: Subject, server: &Server) -> Check {
    let proxy = Proxy::start(server.address())?;
    let options = Options { acquire_timeout: SHORT * 6, ..options(subject, 3) };
    let pool = server.pool(subject, Some(proxy.port), &options, |opts| opts)?;
    numbers(&pool, 3)?;
    proxy.refuse(true);
    proxy.cut();
    // Somebody notices.
    let _ = answer(&pool, "while the link is cut")?;
    proxy.refuse(false);
    recovers(&pool, 3, "the link is whole again")
}

fn the_pool_recovers_from_a_half_open_link(subject: Subject, server: &Server) -> Check {
    const READ_TIMEOUT: Duration = Duration::from_millis(600);
    let proxy = Proxy::start(server.address())?;
    let options = Options { acquire_timeout: Duration::from_millis(1500), ..options(subject, 2) };
    let pool = server.pool(subject, Some(proxy.port), &options, |opts| opts.read_timeout(Some(READ_TIMEOUT)))?;
    numbers(&pool, 2)?;
    proxy.swallow();
    recovers(&pool, 2, "old connections answer nothing, new ones work")
}

fn the_pool_recovers_from_a_restart_of_the_server(subject: Subject, _: &Server) -> Check {
    let server = Server::restartable()?;
    // The port is another one afterwards, where a real server would keep it.
    let proxy = Proxy::start(server.address())?;
    let options = Options { acquire_timeout: SHORT * 10, ..options(subject, 3) };
    let pool = server.pool(subject, Some(proxy.port), &options, |opts| opts)?;
    numbers(&pool, 3)?;
    let server = Server::restart()?;
    proxy.lead_to(server.address());
    recovers(&pool, 3, "the server is back")
}

fn killed_connections_are_replaced_without_an_error(subject: Subject, server: &Server) -> Check {
    let pool = server.pool(subject, None, &options(subject, 4), |opts| opts)?;
    let killed = numbers(&pool, 4)?;
    let mut admin = server.admin()?;
    for number in &killed {
        admin.run(&format!("KILL {number}"))?;
    }
    admin.wait_until_gone(&killed)?;
    replaced(&pool, &killed, "after KILL")
}

/// All can be held and work, at the first try, and none is an old one.
fn replaced(pool: &Pool, old: &[String], when: &str) -> Check {
    let mut loans = get_all(pool, old.len(), when)?;
    for loan in &mut loans {
        let number = query(loan, "SELECT CONNECTION_ID()", when)?;
        ensure!(!old.contains(&number), "{when}: connection {number} is still there");
    }
    Ok(())
}

fn connections_past_wait_timeout_are_replaced_without_an_error(subject: Subject, server: &Server) -> Check {
    let pool =
        server.pool(subject, None, &options(subject, 2), |opts| opts.init(vec!["SET SESSION wait_timeout = 1"]))?;
    let old = numbers(&pool, 2)?;
    server.admin()?.wait_until_gone(&old)?;
    replaced(&pool, &old, "after wait_timeout")
}

fn the_next_holder_does_not_read_an_answer_that_came_late(subject: Subject, server: &Server) -> Check {
    const READ_TIMEOUT: Duration = Duration::from_millis(500);
    for answer_comes in ["later than the next holder", "before the next holder"] {
        let pool = server.pool(subject, None, &options(subject, 1), |opts| opts.read_timeout(Some(READ_TIMEOUT)))?;
        let mut loan = first(&pool)?;
        let timed_out = loan.connection().first("SELECT 'of the first holder' FROM (SELECT SLEEP(1)) AS pause");
        ensure!(timed_out.is_err(), "the read did not time out");
        give_back(loan, "after a read timeout")?;
        if answer_comes == "before the next holder" {
            thread::sleep(Duration::from_millis(1300));
        }
        let mut last = String::new();
        within(EVENTUALLY, "a holder after a read timeout gets his answer", || {
            match answer(&pool, "after a read timeout") {
                Ok(Ok(mut loan)) => last = loan.connection().first("SELECT 'own'").unwrap_or_else(|error| error),
                Ok(Err(refusal)) => last = refusal.text,
                Err(finding) => last = finding.to_string(),
            }
            last == "own" || last == "of the first holder"
        })
        .map_err(|finding| Finding::Fails(format!("{finding}; the last problem: {last}")))?;
        ensure!(last == "own", "the answer came {answer_comes}, who read \"{last}\"");
    }
    Ok(())
}
