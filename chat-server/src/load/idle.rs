//! Memory of sessions that do nothing: the server's memory with and without them.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::sleep;

use super::arguments::{Common, Idle, Protocol, Way};
use super::link::{Frame, Link};
use super::outcome::Outcome;
use super::people::{block_on, for_each, log_in, people};
use super::{Failure, process};
use crate::protocol::msgid;

/// Sessions that were there before the first reading, so that what the server needs once is not counted as theirs.
const WARM_SESSIONS: usize = 32;

/// Measures.
///
/// # Errors
///
/// When the users cannot be registered or logged in, or a server's process is not there or not given.
pub fn run(common: &Common, task: &Idle) -> Result<Outcome, Failure> {
    if common.server_pids.is_empty() {
        return Err(Failure::new("whose memory? Give --server-pid"));
    }
    block_on(async {
        let sessions = task.sessions as usize;
        let people = people(common, WARM_SESSIONS + sessions).await?;
        let open = |first: usize| {
            let people = &people;
            move |at: usize| async move {
                let user = log_in(common, at, &people[first + at], Way::Password, "").await?;
                keep(common.protocol, Rc::clone(&user.link));
                Ok(user.link)
            }
        };
        let warm = for_each(WARM_SESSIONS, common.prepare, open(0)).await?;
        sleep(task.settle).await;
        let before = process::resident_bytes(&common.server_pids)?;
        let cpu = process::cpu_s(&common.server_pids)?;
        let links = for_each(sessions, common.prepare, open(WARM_SESSIONS)).await?;
        let login_cpu = process::cpu_s(&common.server_pids)? - cpu;
        sleep(task.settle).await;
        let after = process::resident_bytes(&common.server_pids)?;
        let cpu = process::cpu_s(&common.server_pids)?;
        sleep(task.settle.max(Duration::from_secs(1))).await;
        let idle_cpu = process::cpu_s(&common.server_pids)? - cpu;
        let closed = links.iter().chain(&warm).filter(|link| link.is_closed()).count();

        let mut outcome = Outcome { question: "idle", ..Outcome::default() };
        outcome.settings =
            vec![("protocol", common.protocol.name().to_owned()), ("sessions", task.sessions.to_string())];
        outcome.add("per_session", "B", (after as f64 - before as f64) / sessions as f64);
        outcome.add("server_resident_before", "MiB", before as f64 / f64::from(1 << 20));
        outcome.add("server_resident", "MiB", after as f64 / f64::from(1 << 20));
        outcome.add("login_cpu", "us/login", login_cpu * 1e6 / sessions as f64);
        outcome.add("idle_cpu", "cores", idle_cpu / task.settle.max(Duration::from_secs(1)).as_secs_f64());
        outcome.add("closed", "sessions", closed as f64);
        if closed > 0 {
            outcome.problems.push(format!("{closed} sessions did not stay"));
        }
        Ok(outcome)
    })
}

/// Answers PING, and nothing else.
fn keep(protocol: Protocol, link: Rc<Link>) {
    spawn_local(async move {
        let pump = link.pump(|bytes| {
            let is_ping = serde_json::from_slice::<Frame<'_>>(bytes).is_ok_and(|frame| frame.msgid == msgid::PING);
            if protocol == Protocol::Modern && is_ping {
                link.send(format!("{{\"msgid\":{}}}\n", msgid::PONG).as_bytes());
            }
        });
        pump.await;
    });
}
