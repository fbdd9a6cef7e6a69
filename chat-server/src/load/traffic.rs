//! Messages, as many as come back (closed loop) or as many as were asked for (open loop).
//!
//! In closed loop a conversation has `window` messages in flight; the next one is sent when one has arrived at all its
//! recipients (or was answered). In open loop messages have a time at which they are due, and latency counts from then,
//! not from when the generator got round to sending: a server that stalls delays all that were due meanwhile, and all of
//! them count.
//!
//! Both ends of a conversation are in one thread, so nothing is shared between threads until the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{interval, sleep};

use super::arguments::{Common, Protocol, Traffic, Wait, Way};
use super::link::{Frame, Link};
use super::outcome::Outcome;
use super::people::{Person, block_on, command, for_each, log_in, people};
use super::{Failure, process};
use crate::client::clock;
use crate::protocol::{ErrorCode, msgid};

/// The longest latency that is told apart from longer ones.
const MAX_LATENCY: Duration = Duration::from_secs(600);
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

/// What was counted.
struct Tally {
    /// All messages sent, all that were stored or passed on, all arrivals.
    sent: u64,
    accepted: u64,
    delivered: u64,
    /// Arrivals that the messages sent should lead to.
    expected: u64,
    /// Arrivals and answers within the measured time.
    delivered_in_time: u64,
    accepted_in_time: u64,
    /// Recipients that did not get a message.
    lost: u64,
    /// Arrivals of what had arrived, or of what should have arrived earlier.
    repeated: u64,
    /// Due in open loop and not sent, because too much was in flight.
    held_back: u64,
    refused: BTreeMap<u32, u64>,
    /// Connections that ended, and the notices before.
    closed: u64,
    notices: BTreeMap<String, u64>,
    latency: Histogram<u64>,
    answer: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        let histogram = || {
            Histogram::new_with_bounds(1000, nanos(MAX_LATENCY), 3).map_err(|error| Failure::of("a histogram", error))
        };
        Ok(Self {
            sent: 0,
            accepted: 0,
            delivered: 0,
            expected: 0,
            delivered_in_time: 0,
            accepted_in_time: 0,
            lost: 0,
            repeated: 0,
            held_back: 0,
            refused: BTreeMap::new(),
            closed: 0,
            notices: BTreeMap::new(),
            latency: histogram()?,
            answer: histogram()?,
        })
    }

    fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.expected += other.expected;
        self.delivered_in_time += other.delivered_in_time;
        self.accepted_in_time += other.accepted_in_time;
        self.lost += other.lost;
        self.repeated += other.repeated;
        self.held_back += other.held_back;
        self.closed += other.closed;
        for (errno, count) in &other.refused {
            *self.refused.entry(*errno).or_default() += count;
        }
        for (code, count) in &other.notices {
            *self.notices.entry(code.clone()).or_default() += count;
        }
        let failed = |error| Failure::of("a histogram", format!("{error:?}"));
        self.latency.add(&other.latency).map_err(failed)?;
        self.answer.add(&other.answer).map_err(failed)
    }
}

/// The processes' costs in the measured time.
struct Cost {
    server: f64,
    own: f64,
    resident: u64,
}

fn outcome(common: &Common, task: &Traffic, tally: &Tally, cost: Cost) -> Outcome {
    let mut outcome = Outcome { question: "traffic", ..Outcome::default() };
    let (kind, window, rate) = match task.rate {
        Some(rate) => ("open", String::new(), rate.to_string()),
        None => ("closed", task.window.to_string(), String::new()),
    };
    outcome.settings = vec![
        ("protocol", common.protocol.name().to_owned()),
        ("conversations", task.conversations.to_string()),
        ("group_size", task.group_size.to_string()),
        ("loop", kind.to_owned()),
        ("window", window),
        ("rate", rate),
        ("size", task.size.to_string()),
        ("duration_s", task.duration.as_secs_f64().to_string()),
    ];
    let seconds = task.duration.as_secs_f64().max(f64::MIN_POSITIVE);
    outcome.add("sent", "messages", tally.sent as f64);
    if common.protocol == Protocol::Modern {
        outcome.add("accepted", "1/s", tally.accepted_in_time as f64 / seconds);
    }
    outcome.add("delivered", "1/s", tally.delivered_in_time as f64 / seconds);
    outcome.add_latency(["latency_p50", "latency_p90", "latency_p99", "latency_p999", "latency_max"], &tally.latency);
    outcome.add_latency(["answer_p50", "answer_p90", "answer_p99", "answer_p999", "answer_max"], &tally.answer);
    let delivered = tally.delivered_in_time.max(1) as f64;
    if !common.server_pids.is_empty() {
        outcome.add("server_cpu", "us/message", cost.server * 1e6 / delivered);
        outcome.add("server_cores", "cores", cost.server / seconds);
        outcome.add("server_resident", "MiB", cost.resident as f64 / f64::from(1 << 20));
    }
    outcome.add("generator_cpu", "us/message", cost.own * 1e6 / delivered);
    outcome.add("lost", "deliveries", tally.lost as f64);
    outcome.add("repeated", "deliveries", tally.repeated as f64);
    outcome.add("refused", "messages", tally.refused.values().sum::<u64>() as f64);
    if task.rate.is_some() {
        outcome.add("held_back", "messages", tally.held_back as f64);
    }
    if tally.lost > 0 && !task.allow_loss {
        outcome.problems.push(format!("{} deliveries were lost", tally.lost));
    }
    if tally.repeated > 0 && !task.allow_loss {
        outcome.problems.push(format!("{} deliveries came twice or out of order", tally.repeated));
    }
    for (errno, count) in &tally.refused {
        let name = ErrorCode::from_number(*errno).map_or("unknown", ErrorCode::name);
        outcome.problems.push(format!("{count} messages were refused with {errno} ({name})"));
    }
    if tally.closed > 0 {
        let notices: Vec<String> = tally.notices.iter().map(|(code, count)| format!("{code} {count} times")).collect();
        let said = if notices.is_empty() { "nothing".to_owned() } else { notices.join(", ") };
        outcome.problems.push(format!("{} connections ended, the server said {said}", tally.closed));
    }
    outcome
}

/// One thread's conversations.
struct Shard {
    task: Traffic,
    clock: Arc<Clock>,
    threads: usize,
    conversations: Vec<Rc<RefCell<Conversation>>>,
    tally: Rc<RefCell<Tally>>,
}

/// A sender and its recipients.
struct Conversation {
    number: usize,
    /// What tells this run's messages from others', and roughly when it began, in milliseconds since 1970.
    run: u32,
    began_ms: u64,
    protocol: Protocol,
    wait: Option<Wait>,
    sender: Rc<Link>,
    recipients: Vec<Recipient>,
    /// The frame up to the request's id, from there to the text, and behind the text.
    parts: [String; 3],
    size: usize,
    next: u64,
    /// Messages that are not done with, the oldest first, their numbers without gaps.
    in_flight: VecDeque<Sent>,
    /// Requests without an answer.
    asked: VecDeque<(u64, u64, u64)>,
    /// Messages that count for the window.
    flying: u32,
    frame: Vec<u8>,
    is_sending: bool,
}

struct Recipient {
    link: Rc<Link>,
    /// `"peer":7` or `"groupid":3`
    target: String,
    /// The number of the last message that arrived, counted from 1.
    last: u64,
    seq: u64,
    unacknowledged: u32,
}

struct Sent {
    due: u64,
    /// Recipients that have not got it.
    missing: u32,
    has_landed: bool,
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
                    link.pump(|bytes| {
                        let Ok(frame) = serde_json::from_slice::<Frame<'_>>(bytes) else { return };
                        let mut tally = tally.borrow_mut();
                        let now = clock.now();
                        let mut moment = Moment { now, window: &window, tally: &mut tally };
                        conversation.borrow_mut().receives(at, &frame, &mut moment, ack_every);
                    })
                    .await;
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
                conversation.recipients.iter_mut().for_each(Recipient::acknowledge);
            }
            while may_send && conversation.wait.is_some() && conversation.flying < self.task.window {
                if !conversation.send(now, &mut tally) {
                    break;
                }
            }
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
                        conversations[at].borrow_mut().send(time, &mut tally);
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

/// Now, and where it counts.
struct Moment<'a> {
    now: u64,
    window: &'a std::ops::Range<u64>,
    tally: &'a mut Tally,
}

impl Conversation {
    /// Sends the next message, which is due at `due`. False when that is not possible any more.
    fn send(&mut self, due: u64, tally: &mut Tally) -> bool {
        if !self.is_sending || self.sender.is_closed() {
            return false;
        }
        let (number, message) = (self.number, self.next);
        self.next += 1;
        self.frame.clear();
        let [head, middle, tail] = &self.parts;
        let frame = &mut self.frame;
        frame.extend_from_slice(head.as_bytes());
        // Writing to memory does not fail.
        if self.protocol == Protocol::Modern {
            let rid = self.sender.rid();
            let (ms, run) = (self.began_ms + due / 1_000_000, self.run);
            let _ = write!(frame, "{rid}{middle}{ms:012x}-{run:08x}-{number}-{message}\",\"msg\":\"");
            self.asked.push_back((rid, message, due));
        }
        let text = frame.len();
        let _ = write!(frame, "{number} {message} {due} ");
        frame.resize(text + self.size.max(frame.len() - text), b'x');
        frame.extend_from_slice(tail.as_bytes());
        self.in_flight.push_back(Sent { due, missing: self.recipients.len() as u32, has_landed: false });
        self.flying += 1;
        tally.sent += 1;
        tally.expected += self.recipients.len() as u64;
        self.sender.send(&self.frame);
        true
    }

    /// The sent message of that number, if it is not done with.
    fn sent(&mut self, message: u64) -> Option<&mut Sent> {
        let oldest = self.next - self.in_flight.len() as u64;
        self.in_flight.get_mut(usize::try_from(message.checked_sub(oldest)?).ok()?)
    }

    /// A message counts no more for the window; the next one may be sent.
    fn lands(&mut self, message: u64, moment: &mut Moment<'_>, may_send: bool) {
        let Some(sent) = self.sent(message) else { return };
        if std::mem::replace(&mut sent.has_landed, true) {
            return;
        }
        self.flying -= 1;
        if self.wait.is_some() && may_send {
            self.send(moment.now, moment.tally);
        }
    }

    fn forget_the_done(&mut self) {
        while self.in_flight.front().is_some_and(|sent| sent.missing == 0 && sent.has_landed) {
            self.in_flight.pop_front();
        }
    }

    /// A frame for the connection of that number: 0 is the sender's.
    fn receives(&mut self, at: usize, frame: &Frame<'_>, moment: &mut Moment<'_>, ack_every: u32) {
        match (frame.msgid, at) {
            (msgid::CHAT | msgid::GROUP_CHAT, 1..) => self.arrives(at - 1, frame, moment, ack_every),
            (msgid::ANSWER, 0) => self.is_answered(frame, moment),
            (msgid::PING, _) => {
                let link = if at == 0 { &self.sender } else { &self.recipients[at - 1].link };
                link.send(format!("{{\"msgid\":{}}}\n", msgid::PONG).as_bytes());
            }
            (msgid::NOTICE, _) => {
                if let Some(code) = frame.code.filter(|code| *code != "synced") {
                    *moment.tally.notices.entry(code.to_owned()).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn arrives(&mut self, at: usize, frame: &Frame<'_>, moment: &mut Moment<'_>, ack_every: u32) {
        let Some((number, message, due)) = frame.msg.and_then(read) else { return };
        if number != self.number as u64 || message >= self.next {
            return; // of an earlier run
        }
        let recipient = &mut self.recipients[at];
        if let Some(seq) = frame.seq {
            recipient.seq = recipient.seq.max(seq);
            recipient.unacknowledged += 1;
            if recipient.unacknowledged >= ack_every {
                recipient.acknowledge();
            }
        }
        if message <= recipient.last {
            moment.tally.repeated += 1;
            return;
        }
        recipient.last = message;
        moment.tally.delivered += 1;
        if moment.window.contains(&moment.now) {
            moment.tally.delivered_in_time += 1;
        }
        if moment.window.contains(&due) {
            moment.tally.latency.saturating_record(moment.now.saturating_sub(due));
        }
        let Some(sent) = self.sent(message) else { return };
        sent.missing = sent.missing.saturating_sub(1);
        if sent.missing == 0 && (self.wait != Some(Wait::Ack)) {
            self.lands(message, moment, true);
        }
        self.forget_the_done();
    }

    fn is_answered(&mut self, frame: &Frame<'_>, moment: &mut Moment<'_>) {
        let Some(rid) = frame.rid else { return };
        // Answers come in the order of the requests.
        while let Some((asked, message, due)) = self.asked.pop_front() {
            if asked != rid {
                continue;
            }
            if frame.errno == 0 {
                moment.tally.accepted += 1;
                if moment.window.contains(&moment.now) {
                    moment.tally.accepted_in_time += 1;
                }
                if moment.window.contains(&due) {
                    moment.tally.answer.saturating_record(moment.now.saturating_sub(due));
                }
                if self.wait == Some(Wait::Ack) {
                    self.lands(message, moment, true);
                }
            } else {
                *moment.tally.refused.entry(frame.errno).or_default() += 1;
                if let Some(sent) = self.sent(message) {
                    sent.missing = 0;
                }
                // The tick sends the next one: a server that refuses should not be asked at once.
                self.lands(message, moment, false);
            }
            break;
        }
        self.forget_the_done();
    }

    /// What was due before `before` and has not arrived is lost; `everything` if no more is to come.
    fn give_up(&mut self, before: u64, everything: bool, tally: &mut Tally) {
        for sent in &mut self.in_flight {
            if sent.due >= before && !everything {
                break;
            }
            tally.lost += u64::from(std::mem::take(&mut sent.missing));
            if !std::mem::replace(&mut sent.has_landed, true) {
                self.flying -= 1;
            }
        }
        self.forget_the_done();
    }
}

impl Recipient {
    fn acknowledge(&mut self) {
        if self.unacknowledged > 0 {
            self.unacknowledged = 0;
            let (id, target, seq) = (msgid::ACK, &self.target, self.seq);
            self.link.send(format!("{{\"msgid\":{id},{target},\"seq\":{seq}}}\n").as_bytes());
        }
    }
}

/// The numbers at the beginning of a text: the conversation's, the message's, when it was due.
fn read(text: &str) -> Option<(u64, u64, u64)> {
    let mut numbers = text.splitn(4, ' ');
    let mut number = || numbers.next()?.parse().ok();
    Some((number()?, number()?, number()?))
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

    #[test]
    fn a_text_carries_its_numbers() {
        assert_eq!(read("3 17 123456 xxxx"), Some((3, 17, 123_456)));
        assert_eq!(read("hello"), None);
    }
}
