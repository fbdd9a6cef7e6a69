//! Messages, as many as come back (closed loop) or as many as were asked for (open loop).
//!
//! In closed loop a conversation has `window` messages in flight; the next one is sent when one has arrived at all its
//! recipients (or was answered). In open loop messages have a time at which they are due, and latency counts from then,
//! not from when the generator got round to sending: a server that stalls delays all that were due meanwhile, and all of
//! them count.
//!
//! Both ends of a conversation are in one thread, so nothing is shared between threads until the end.

mod conversation;
mod tally;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{interval, sleep};

use self::conversation::{Conversation, Moment, Recipient};
use self::tally::{Cost, Tally, outcome};
use super::arguments::{Common, Protocol, Traffic, Wait, Way};
use super::link::{Frame, Link};
use super::outcome::Outcome;
use super::people::{Person, block_on, command, for_each, log_in, people};
use super::{Failure, process};
use crate::client::clock;
use crate::protocol::msgid;

/// How often acknowledgements are flushed and lost messages are looked for.
const TICK: Duration = Duration::from_millis(200);
/// The pacer of the open loop does not wake more often than this; messages that were due meanwhile are sent together.
const PACE: Duration = Duration::from_micros(100);
/// Deliveries of a thread that are due in open loop. Beyond this, those that are due are not sent but counted.
const MAX_IN_FLIGHT: usize = 1_000_000;

/// Measures.
///
/// # Errors
///
/// When the users cannot be registered or logged in, or a server's process is not there.
pub fn run(common: &Common, task: &Traffic) -> Result<Outcome, Failure> {
    let is_original = common.protocol == Protocol::Original;
    if is_original && (task.group_size > 0 || task.wait == Wait::Ack) {
        return Err(Failure::new("the original protocol answers nothing, so there are no --wait ack and no groups"));
    }
    if task.group_size == 1 {
        return Err(Failure::new("a group of one has nobody to receive anything"));
    }
    let members = task.group_size.max(2) as usize;
    let everybody = block_on(people(common, task.conversations as usize * members))?;
    let threads = task.threads.min(task.conversations) as usize;
    let (ready, are_ready) = mpsc::channel();
    let clock = Arc::new(Clock::default());
    let mut go = Vec::new();
    let mut shards = Vec::new();
    for (at, share) in shares(everybody, members, threads).into_iter().enumerate() {
        let (start, started) = mpsc::channel::<()>();
        let (common, task, clock, ready) = (common.clone(), task.clone(), Arc::clone(&clock), ready.clone());
        go.push(start);
        shards.push(thread::spawn(move || {
            block_on(async {
                let prepared = Shard::prepare(common, task, Arc::clone(&clock), share, threads).await;
                let shard = match prepared {
                    Ok(shard) => shard,
                    Err(failure) => {
                        let _ = ready.send(Err(Failure::of(format!("thread {at}"), &failure)));
                        return Err(failure);
                    }
                };
                let _ = ready.send(Ok(()));
                // Everybody is logged in before anybody sends. If another thread failed, nobody says go.
                started.recv().map_err(|_| Failure::new("another thread failed"))?;
                Ok(shard.run().await)
            })
        }));
    }
    drop(ready);
    for ready in are_ready.iter().take(threads) {
        ready?;
    }
    clock.start.get_or_init(Instant::now);
    for start in go {
        let _ = start.send(());
    }

    thread::sleep(task.warmup);
    let (server, own) = (process::cpu_s(&common.server_pids)?, process::own_cpu_s()?);
    thread::sleep(task.duration);
    let (server, own) = (process::cpu_s(&common.server_pids)? - server, process::own_cpu_s()? - own);
    let resident = process::resident_bytes(&common.server_pids)?;
    clock.is_over.store(true, Ordering::Relaxed);
    let mut tally = Tally::new()?;
    for shard in shards {
        tally.add(&shard.join().map_err(|_| Failure::new("a thread of the generator panicked"))??)?;
    }
    Ok(outcome(common, task, &tally, Cost { server, own, resident }))
}

/// The users of each thread, in whole conversations.
fn shares(people: Vec<Person>, members: usize, threads: usize) -> Vec<Vec<Vec<Person>>> {
    let mut shares = vec![Vec::new(); threads];
    for (at, conversation) in people.chunks(members).enumerate() {
        shares[at % threads].push(conversation.to_vec());
    }
    shares
}

/// When it began and whether it is over.
#[derive(Debug, Default)]
struct Clock {
    start: OnceLock<Instant>,
    is_over: AtomicBool,
}

impl Clock {
    fn now(&self) -> u64 {
        self.start.get().map_or(0, |start| nanos(start.elapsed()))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One thread's conversations.
struct Shard {
    task: Traffic,
    clock: Arc<Clock>,
    threads: usize,
    conversations: Vec<Rc<RefCell<Conversation>>>,
    tally: Rc<RefCell<Tally>>,
}

impl Shard {
    async fn prepare(
        common: Common,
        task: Traffic,
        clock: Arc<Clock>,
        share: Vec<Vec<Person>>,
        threads: usize,
    ) -> Result<Self, Failure> {
        let at_once = common.prepare.div_ceil(threads as u32);
        let members = share.first().map_or(0, Vec::len);
        let users = for_each(share.len() * members, at_once, |at| {
            let (person, common) = (&share[at / members][at % members], &common);
            async move { log_in(common, at % members, person, Way::Password, "").await }
        })
        .await?;
        let run = fastrand::u32(..);
        let began_ms = clock::now_ms();
        let conversations = for_each(share.len(), at_once, |number| {
            let (users, common, task) = (&users[number * members..][..members], &common, &task);
            async move {
                let sender = &users[0];
                let (kind, to, target) = if task.group_size > 0 {
                    let fields = format!("\"groupname\":\"{}-{run:08x}\",\"groupdesc\":\"\"", sender.person.name);
                    let created = command(sender, common, msgid::CREATE_GROUP, &fields).await?;
                    #[derive(Deserialize)]
                    struct Created {
                        groupid: u32,
                    }
                    let group: Created =
                        serde_json::from_str(&created).map_err(|error| Failure::of("the new group", error))?;
                    let group = format!("\"groupid\":{}", group.groupid);
                    for member in &users[1..] {
                        command(member, common, msgid::JOIN_GROUP, &group).await?;
                    }
                    (msgid::GROUP_CHAT, group.clone(), group)
                } else {
                    let to = format!("\"toid\":{}", users[1].person.id);
                    (msgid::CHAT, to, format!("\"peer\":{}", sender.person.id))
                };
                let recipients = users[1..].iter().map(|user| Recipient {
                    link: Rc::clone(&user.link),
                    target: target.clone(),
                    last: 0,
                    seq: 0,
                    unacknowledged: 0,
                });
                let parts = match common.protocol {
                    Protocol::Modern => {
                        // The message's id goes on with the time, as the protocol recommends and a client does.
                        [format!("{{\"msgid\":{kind},{to},\"rid\":"), ",\"mid\":\"".into(), "\"}\n".into()]
                    }
                    // As the original client writes it: the keys in alphabetical order, a NUL behind.
                    Protocol::Original => [
                        format!("{{\"id\":{},\"msg\":\"", sender.person.id),
                        String::new(),
                        format!(
                            "\",\"msgid\":{kind},\"name\":\"{}\",\"time\":\"2026-11-23 10:00:00\",{to}}}\0",
                            sender.person.name
                        ),
                    ],
                };
                Ok(Rc::new(RefCell::new(Conversation {
                    number,
                    run,
                    began_ms,
                    protocol: common.protocol,
                    wait: task.rate.is_none().then_some(task.wait),
                    sender: Rc::clone(&sender.link),
                    recipients: recipients.collect(),
                    parts,
                    size: task.size as usize,
                    next: 1,
                    in_flight: VecDeque::new(),
                    asked: VecDeque::new(),
                    flying: 0,
                    frame: Vec::new(),
                    is_sending: true,
                })))
            }
        })
        .await?;
        let tally = Rc::new(RefCell::new(Tally::new()?));
        Ok(Self { task, clock, threads, conversations, tally })
    }

    async fn run(self) -> Tally {
        let window = self.task.warmup..self.task.warmup + self.task.duration;
        let window = nanos(window.start)..nanos(window.end);
        for conversation in &self.conversations {
            let links: Vec<Rc<Link>> = {
                let conversation = conversation.borrow();
                let recipients = conversation.recipients.iter().map(|recipient| Rc::clone(&recipient.link));
                std::iter::once(Rc::clone(&conversation.sender)).chain(recipients).collect()
            };
            for (at, link) in links.into_iter().enumerate() {
                let (conversation, tally) = (Rc::clone(conversation), Rc::clone(&self.tally));
                let (clock, window, ack_every) = (Arc::clone(&self.clock), window.clone(), self.task.ack_every);
                spawn_local(async move {
                    let handle = |bytes: &[u8]| {
                        let Ok(frame) = serde_json::from_slice::<Frame<'_>>(bytes) else { return };
                        let mut tally = tally.borrow_mut();
                        let now = clock.now();
                        let mut moment = Moment { now, window: &window, tally: &mut tally };
                        conversation.borrow_mut().receives(at, &frame, &mut moment, ack_every);
                    };
                    link.pump_reads(handle, || conversation.borrow().flush(at)).await;
                    if !clock.is_over.load(Ordering::Relaxed) {
                        tally.borrow_mut().closed += 1;
                    }
                });
            }
        }
        let pacer = self.task.rate.map(|rate| self.pace(rate / self.threads as f64));
        if self.task.rate.is_none() {
            for conversation in &self.conversations {
                let mut conversation = conversation.borrow_mut();
                for _ in 0..self.task.window {
                    conversation.send(self.clock.now(), &mut self.tally.borrow_mut());
                }
                conversation.flush(0);
            }
        }
        let mut ticks = interval(TICK);
        while !self.clock.is_over.load(Ordering::Relaxed) {
            ticks.tick().await;
            self.tick(self.clock.now(), true);
        }
        for conversation in &self.conversations {
            conversation.borrow_mut().is_sending = false;
        }
        drop(pacer);
        // What is in flight arrives, or is lost.
        let until = Instant::now() + self.task.lost_after + TICK;
        while Instant::now() < until && self.conversations.iter().any(|one| !one.borrow().in_flight.is_empty()) {
            sleep(Duration::from_millis(20)).await;
            self.tick(self.clock.now(), false);
        }
        self.tick(u64::MAX, false);
        std::mem::replace(&mut *self.tally.borrow_mut(), Tally::new().expect("it could be made before"))
    }

    /// Flushes acknowledgements, gives lost messages up, and in closed loop puts new ones in their place.
    fn tick(&self, now: u64, may_send: bool) {
        let mut tally = self.tally.borrow_mut();
        let lost_before = now.saturating_sub(nanos(self.task.lost_after));
        for conversation in &self.conversations {
            let mut conversation = conversation.borrow_mut();
            conversation.give_up(lost_before, now == u64::MAX, &mut tally);
            if conversation.protocol == Protocol::Modern {
                for recipient in &mut conversation.recipients {
                    recipient.acknowledge();
                    recipient.link.flush();
                }
            }
            while may_send && conversation.wait.is_some() && conversation.flying < self.task.window {
                if !conversation.send(now, &mut tally) {
                    break;
                }
            }
            conversation.flush(0);
        }
    }

    /// Sends so many messages per second, each at its time, the conversations in turn.
    fn pace(&self, rate: f64) -> Pacer {
        let (due, ring, stop) =
            (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let between = 1e9 / rate.max(f64::MIN_POSITIVE);
        let thread = thread::spawn({
            let (due, ring, stop, clock) =
                (Arc::clone(&due), Arc::clone(&ring), Arc::clone(&stop), Arc::clone(&self.clock));
            move || {
                let begin = clock.now();
                while !stop.load(Ordering::Relaxed) {
                    // The number that are due by now, and the time of the next one.
                    let count = ((clock.now() - begin) as f64 / between) as u64 + 1;
                    if due.swap(count, Ordering::Relaxed) < count {
                        ring.notify_one();
                    }
                    let next = begin + (count as f64 * between) as u64;
                    thread::sleep(Duration::from_nanos(next.saturating_sub(clock.now())).clamp(PACE, TICK));
                }
            }
        });
        let (clock, tally) = (Arc::clone(&self.clock), Rc::clone(&self.tally));
        let conversations = self.conversations.clone();
        let begin = clock.now();
        spawn_local(async move {
            let mut sent = 0;
            loop {
                ring.notified().await;
                let mut tally = tally.borrow_mut();
                let in_flight = tally.expected.saturating_sub(tally.delivered + tally.lost);
                while sent < due.load(Ordering::Relaxed) {
                    let time = begin + (sent as f64 * between) as u64;
                    if in_flight as usize > MAX_IN_FLIGHT {
                        tally.held_back += 1;
                    } else {
                        let at = sent as usize % conversations.len();
                        let mut conversation = conversations[at].borrow_mut();
                        conversation.send(time, &mut tally);
                        conversation.flush(0);
                    }
                    sent += 1;
                }
            }
        });
        Pacer { stop, thread: Some(thread) }
    }
}

/// The thread of the open loop's clock.
struct Pacer {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_conversations_go_to_the_threads_in_turn() {
        let people: Vec<Person> = (0..6).map(|id| Person { id, name: String::new() }).collect();
        let shares = shares(people, 2, 2);
        let ids = |share: &Vec<Vec<Person>>| share.iter().flatten().map(|person| person.id).collect::<Vec<_>>();
        assert_eq!((ids(&shares[0]), ids(&shares[1])), (vec![0, 1, 4, 5], vec![2, 3]));
    }
}
