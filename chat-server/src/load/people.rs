//! The users of a run: registered if they are not, remembered in a file for the next run, logged in.

use std::cell::{Cell, RefCell};
use std::fs;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::Failure;
use super::arguments::{Common, Protocol, Way};
use super::link::Link;
use crate::protocol::answer::{Answer, LoginResult};
use crate::protocol::{ErrorCode, msgid};

/// Every user's password.
pub const PASSWORD: &str = "chat-load";
/// Registrations on one connection, so that none is so old that the server ends it for not logging in.
const REGISTRATIONS_PER_LINK: usize = 20;

/// How long a refused request rests when the server does not say.
const RETRY: Duration = Duration::from_millis(20);

/// A registered user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: String,
}

/// Runs `future` on a runtime of this thread's own.
///
/// # Errors
///
/// When there is no runtime, and what `future` returns.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::of("no runtime", error))?;
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Does `work` for each of `0..count`, `common.prepare` of them at the same time; the results in order.
///
/// # Errors
///
/// The first failure.
pub async fn for_each<T: 'static, F: Future<Output = Result<T, Failure>>>(
    count: usize,
    at_once: u32,
    work: impl Fn(usize) -> F,
) -> Result<Vec<T>, Failure> {
    let next = Cell::new(0);
    let results: RefCell<Vec<Option<T>>> = RefCell::new((0..count).map(|_| None).collect());
    let workers = (0..at_once.min(count as u32)).map(|_| async {
        while next.get() < count {
            let at = next.replace(next.get() + 1);
            let result = work(at).await?;
            results.borrow_mut()[at] = Some(result);
        }
        Ok(())
    });
    futures_util::future::try_join_all(workers).await?;
    Ok(results.into_inner().into_iter().flatten().collect())
}

/// So many users, registered.
///
/// # Errors
///
/// When one cannot be registered, or the file cannot be read or written.
pub async fn people(common: &Common, count: usize) -> Result<Vec<Person>, Failure> {
    let mut people = match &common.users {
        Some(file) if file.exists() => read(file)?,
        _ => Vec::new(),
    };
    if people.len() < count {
        let prefix = common.prefix.clone().unwrap_or_else(|| format!("load-{:08x}", fastrand::u32(..)));
        let missing = count - people.len();
        let first = people.len();
        // One connection for several registrations, one after the other.
        let blocks = missing.div_ceil(REGISTRATIONS_PER_LINK);
        let registered = for_each(blocks, common.prepare, |block| {
            let from = first + block * REGISTRATIONS_PER_LINK;
            let names = (from..(from + REGISTRATIONS_PER_LINK).min(count)).map(|n| format!("{prefix}-{n}"));
            register(common, names.collect::<Vec<_>>())
        });
        people.extend(registered.await?.into_iter().flatten());
        if let Some(file) = &common.users {
            write(file, &people)?;
        }
    }
    people.truncate(count);
    Ok(people)
}

fn read(file: &Path) -> Result<Vec<Person>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::of(file.display(), error))?;
    serde_json::from_str(&text).map_err(|error| Failure::of(file.display(), error))
}

fn write(file: &Path, people: &[Person]) -> Result<(), Failure> {
    let text = serde_json::to_string(people).expect("names and numbers are always JSON");
    fs::write(file, text).map_err(|error| Failure::of(file.display(), error))
}

async fn register(common: &Common, names: Vec<String>) -> Result<Vec<Person>, Failure> {
    let link = Link::connect(&common.servers[0], common.protocol, common.patience).await?;
    let mut people = Vec::new();
    for name in names {
        let frame = |rid| {
            let rid = if common.protocol == Protocol::Modern { format!("\"rid\":{rid},") } else { String::new() };
            let id = msgid::REGISTER;
            format!("{{\"msgid\":{id},{rid}\"name\":\"{name}\",\"password\":\"{PASSWORD}\"}}")
        };
        let id = answered(&link, common, frame, msgid::REGISTER_ACK).await.map_err(|error| {
            Failure::of(format!("cannot register {name} (give --prefix or --users if it exists already)"), error)
        })?;
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let Registered { id } = serde_json::from_str(&id).map_err(|error| Failure::of("a registration", error))?;
        people.push(Person { id, name });
    }
    Ok(people)
}

/// Asks until the server does not refuse for lack of time; the result of the modern answer, or the original's whole answer.
async fn answered(
    link: &Link,
    common: &Common,
    frame: impl Fn(u64) -> String,
    original_answer: i64,
) -> Result<String, Failure> {
    let until = Instant::now() + common.patience;
    loop {
        let rid = link.rid();
        let mut bytes = frame(rid).into_bytes();
        bytes.push(link.terminator());
        let is_modern = common.protocol == Protocol::Modern;
        let answer = link
            .ask(&bytes, common.patience, |frame| match is_modern {
                // An answer to nothing that could be read is an answer, too: the server closes next.
                true => {
                    frame.msgid == msgid::ANSWER
                        && (frame.rid == Some(rid) || (frame.rid.is_none() && frame.errno != 0))
                }
                false => frame.msgid == original_answer,
            })
            .await?;
        if !is_modern {
            #[derive(Deserialize)]
            struct Errno {
                #[serde(default)]
                errno: u32,
                #[serde(default)]
                errmsg: String,
            }
            let errno: Errno = serde_json::from_slice(&answer).map_err(|error| Failure::of("an answer", error))?;
            if errno.errno == 0 {
                return Ok(String::from_utf8_lossy(&answer).into_owned());
            }
            let is_retryable = ErrorCode::from_number(errno.errno).is_some_and(ErrorCode::is_retryable);
            if !is_retryable || Instant::now() >= until {
                return Err(Failure::of(format!("refused with errno {}", errno.errno), errno.errmsg));
            }
            sleep(RETRY).await;
            continue;
        }
        let answer: Answer = serde_json::from_slice(&answer).map_err(|error| Failure::of("an answer", error))?;
        if answer.errno == 0 {
            return Ok(answer.result.map_or_else(|| "{}".to_owned(), |result| result.get().to_owned()));
        }
        let is_retryable = ErrorCode::from_number(answer.errno).is_some_and(ErrorCode::is_retryable);
        if !is_retryable || Instant::now() >= until {
            let name = answer.error.unwrap_or_default();
            return Err(Failure::of(format!("refused ({name})"), answer.errmsg.unwrap_or_default()));
        }
        sleep(answer.retry_ms.map_or(RETRY, Duration::from_millis).clamp(RETRY / 20, RETRY * 50)).await;
    }
}

/// A user who is logged in.
#[derive(Debug)]
pub struct LoggedIn {
    /// The connection.
    pub link: Rc<Link>,
    /// Who.
    pub person: Person,
    /// Logs in again; empty in the original protocol.
    pub token: String,
}

/// Connects to the server of that number (counted round the list) and logs in.
///
/// # Errors
///
/// When there is no connection or the login is refused.
pub async fn log_in(
    common: &Common,
    server: usize,
    person: &Person,
    way: Way,
    token: &str,
) -> Result<LoggedIn, Failure> {
    let address = &common.servers[server % common.servers.len()];
    let failed = |error: Failure| Failure::of(format!("cannot log in {} at {address}", person.name), error);
    let link = Link::connect(address, common.protocol, common.patience).await?;
    let id = person.id;
    let frame = |rid| match (common.protocol, way) {
        (Protocol::Original, _) => format!("{{\"id\":{id},\"msgid\":1,\"password\":\"{PASSWORD}\"}}"),
        (Protocol::Modern, Way::Password) => {
            format!("{{\"msgid\":1,\"rid\":{rid},\"id\":{id},\"password\":\"{PASSWORD}\"}}")
        }
        (Protocol::Modern, Way::Resume) => {
            format!("{{\"msgid\":{},\"rid\":{rid},\"token\":\"{token}\"}}", msgid::RESUME)
        }
    };
    let result = answered(&link, common, frame, msgid::LOGIN_ACK).await.map_err(failed)?;
    let token = match common.protocol {
        Protocol::Original => String::new(),
        Protocol::Modern => {
            let login: LoginResult =
                serde_json::from_str(&result).map_err(|error| failed(Failure::of("the answer", error)))?;
            login.token
        }
    };
    Ok(LoggedIn { link, person: person.clone(), token })
}

/// Sends a command of the modern protocol and gives its result.
///
/// # Errors
///
/// When it is refused or not answered.
pub async fn command(user: &LoggedIn, common: &Common, msgid: i64, fields: &str) -> Result<String, Failure> {
    answered(&user.link, common, |rid| format!("{{\"msgid\":{msgid},\"rid\":{rid},{fields}}}"), 0).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_for_each_and_the_results_keep_their_order() {
        let (running, most) = (Cell::new(0), Cell::new(0));
        let done = block_on(for_each(20, 4, |at| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                tokio::task::yield_now().await;
                running.set(running.get() - 1);
                Ok(at * 2)
            }
        }));
        assert_eq!(done.unwrap(), (0..20).map(|at| at * 2).collect::<Vec<_>>());
        assert_eq!(most.get(), 4, "as many at once as allowed");
    }

    #[test]
    fn the_first_failure_is_the_result() {
        let failed =
            block_on(for_each(10, 2, |at| async move { if at == 3 { Err(Failure::new("three")) } else { Ok(at) } }));
        assert_eq!(failed.unwrap_err().to_string(), "three");
    }
}
