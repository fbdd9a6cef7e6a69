//! Traffic while somebody else makes faults; afterwards the proof that nothing was lost.
//!
//! Every client sends to others and to groups, one message after the other, repeats each until it is acknowledged or its
//! time is up, and now and then drops its connection without a word. At the end everybody logs in anew, waits until nothing
//! comes any more, and the whole history is read. What was gathered goes to [`judge`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use super::arguments::{Check, Common, Protocol};
use super::judge::{Arrival, Conversation, Evidence, Message, Violation, judge};
use super::outcome::Outcome;
use super::people::{PASSWORD, Person, block_on, for_each, people};
use super::{Exit, Failure};
use crate::client::{Backoff, Client, ClientError, Credentials, Event, Events, Options};
use crate::protocol::answer::{ChatResult, CreateGroupResult, Done, HistoryResult, WhoResult};
use crate::protocol::command::{CreateGroup, GroupId, History, Who};
use crate::protocol::event::{Delivery, NoticeCode};
use crate::protocol::{Command, ErrorCode, MAX_HISTORY_PAGE, MAX_WHO, Target};

/// Users of a group.
const GROUP_MEMBERS: usize = 6;
/// The part of the messages that goes to groups, where there are any.
const GROUP_PART: f64 = 0.3;
/// How often somebody who might drop his connection thinks about it.
const CHURN_PERIOD: Duration = Duration::from_secs(1);
/// Users of a group that the watcher makes, so that he may know who of them is online.
const WATCHED_MEMBERS: usize = 50;
/// How often the watcher looks for ghosts.
const WATCH_PERIOD: Duration = Duration::from_millis(500);
/// Violations that are printed; the file of `--report` has all.
const MAX_PRINTED: usize = 20;

/// Checks, prints what was found, and says how it ended.
///
/// # Errors
///
/// When it could not be checked: nobody could log in at the beginning, the history could not be read.
pub fn run(common: &Common, task: &Check) -> Result<Exit, Failure> {
    if common.protocol == Protocol::Original {
        return Err(Failure::new("the original protocol acknowledges nothing, so there is nothing to check"));
    }
    let (evidence, counts) = block_on(gather(common, task))?;
    let violations = judge(&evidence);
    report(common, task, &evidence, &counts, &violations)?;
    Ok(if violations.is_empty() { Exit::Done } else { Exit::Broken })
}

/// What is told besides the violations.
#[derive(Debug, Default)]
struct Counts {
    /// Messages without an acknowledgement in time.
    uncertain: Cell<u64>,
    /// Acknowledgements that say: it had been stored before.
    duplicates: Cell<u64>,
    repeated: Cell<u64>,
    lost_connections: Cell<u64>,
    dropped_connections: Cell<u64>,
    /// How long new messages were sent.
    traffic: Cell<Duration>,
}

fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

fn report(
    common: &Common,
    task: &Check,
    evidence: &Evidence,
    counts: &Counts,
    violations: &[Violation],
) -> Result<(), Failure> {
    let mut outcome = Outcome { question: "check", ..Outcome::default() };
    outcome.settings = vec![
        ("clients", task.clients.to_string()),
        ("groups", task.groups.to_string()),
        ("duration_s", counts.traffic.get().as_secs().to_string()),
    ];
    outcome.add("acknowledged", "messages", evidence.acked.len() as f64);
    outcome.add("not acknowledged", "messages", counts.uncertain.get() as f64);
    outcome.add("acknowledged twice", "messages", counts.duplicates.get() as f64);
    outcome.add("stored", "messages", evidence.history.len() as f64);
    outcome.add("arrived", "deliveries", evidence.arrivals.len() as f64);
    outcome.add("of them repeated", "deliveries", counts.repeated.get() as f64);
    outcome.add("connections lost", "", counts.lost_connections.get() as f64);
    outcome.add("connections dropped", "", counts.dropped_connections.get() as f64);
    outcome.add("violations", "", violations.len() as f64);
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in violations {
        *kinds.entry(violation.kind()).or_default() += 1;
    }
    if common.json {
        let mut value = outcome.json(&common.labels);
        value["violations"] = json!(kinds);
        println!("{value}");
    } else {
        print!("{}", outcome.table(&common.labels));
    }
    for (kind, count) in &kinds {
        eprintln!("chat-load: {count} times: {kind}");
    }
    for violation in violations.iter().take(MAX_PRINTED) {
        eprintln!("chat-load: {violation}");
    }
    if let Some(file) = &task.report {
        let text: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
        fs::write(file, text).map_err(|error| Failure::of(file.display(), error))?;
    }
    Ok(())
}

/// What all clients of a check share.
struct Stage {
    task: Check,
    options: Options,
    people: Vec<Person>,
    /// Groups and their members.
    groups: Vec<(u32, Vec<u32>)>,
    /// The watcher's groups; the people enter them at the end.
    watched: Vec<u32>,
    evidence: RefCell<Evidence>,
    counts: Counts,
    is_over: Cell<bool>,
}

async fn gather(common: &Common, task: &Check) -> Result<(Evidence, Counts), Failure> {
    let mut people = people(common, task.clients as usize + 1).await?;
    let watcher = people.pop().expect("there is one more than clients");
    let options = Options {
        backoff: Backoff { first: Duration::from_millis(200), max: Duration::from_secs(3) },
        answer_timeout: task.send_limit,
        report_repeated: true,
        ..Options::to(common.servers.clone())
    };
    let groups = groups(task, &options, &people).await?;
    let watched = watched_groups(task, &options, &watcher, people.len()).await?;
    let mut evidence = Evidence::default();
    for (group, members) in &groups {
        evidence.members.insert(Conversation::Group(*group), members.clone());
    }
    let stage = Rc::new(Stage {
        task: task.clone(),
        options,
        people,
        groups,
        watched,
        evidence: RefCell::new(evidence),
        counts: Counts::default(),
        is_over: Cell::new(false),
    });
    eprintln!("chat-load: {} clients send for {} s or until an interrupt", task.clients, task.duration.as_secs_f64());
    let actors: Vec<JoinHandle<()>> =
        (0..stage.people.len()).map(|at| spawn_local(act(Rc::clone(&stage), at))).collect();
    let began = Instant::now();
    tokio::select! {
        () = sleep(task.duration) => {}
        () = interrupted() => {
            eprintln!("chat-load: the traffic ends early; the next interrupt ends the check");
            spawn_local(async {
                interrupted().await;
                process::exit(130);
            });
        }
    }
    stage.is_over.set(true);
    stage.counts.traffic.set(began.elapsed());
    eprintln!("chat-load: no more new messages; waiting for the answers to those on their way");
    for actor in actors {
        actor.await.map_err(|error| Failure::of("a client of the check", error))?;
    }
    eprintln!("chat-load: everybody logs in again and receives what is missing");
    let last: Vec<JoinHandle<Option<Client>>> =
        (0..stage.people.len()).map(|at| spawn_local(catch_up(Rc::clone(&stage), at))).collect();
    let mut clients = Vec::new();
    for catching_up in last {
        clients.push(catching_up.await.map_err(|error| Failure::of("a client of the check", error))?);
    }
    eprintln!("chat-load: reading the history");
    read_history(&stage, &clients).await?;
    eprintln!("chat-load: everybody leaves; looking for ghosts for up to {} s", task.lease.as_secs_f64());
    for (at, client) in clients.into_iter().enumerate() {
        // Every other one leaves without a word.
        if let Some(client) = client
            && at % 2 == 0
        {
            let _ = client.logout().await;
        }
    }
    watch(&stage, &watcher).await?;
    let stage = Rc::try_unwrap(stage).map_err(|_| Failure::new("a client of the check still runs"))?;
    Ok((stage.evidence.into_inner(), stage.counts))
}

/// Waits for SIGINT. Without the right to handle signals, for ever.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Makes the groups before anything goes wrong.
async fn groups(task: &Check, options: &Options, people: &[Person]) -> Result<Vec<(u32, Vec<u32>)>, Failure> {
    let failed = |error: ClientError| Failure::of("cannot make the groups", error);
    let run = fastrand::u32(..);
    // One after the other: a user may be in several groups, and a second login would displace the first.
    for_each(task.groups as usize, 1, |number| async move {
        let members: BTreeSet<usize> = (0..GROUP_MEMBERS).map(|at| (number * 3 + at * 7) % people.len()).collect();
        let mut group = None;
        for member in &members {
            let credentials = Credentials::id(people[*member].id, PASSWORD);
            let (client, _events) = log_in(options, credentials, task.settle).await.map_err(failed)?;
            match group {
                None => {
                    let groupname = format!("check-{run:08x}-{number}");
                    let create = Command::CreateGroup(CreateGroup { groupname, groupdesc: String::new() });
                    group = Some(client.request::<CreateGroupResult>(create).await.map_err(failed)?.groupid);
                }
                Some(groupid) => {
                    let join = Command::JoinGroup(GroupId { groupid });
                    client.request::<Done>(join).await.map_err(failed)?;
                }
            }
        }
        let members = members.into_iter().map(|member| people[member].id).collect();
        Ok((group.unwrap_or_default(), members))
    })
    .await
}

/// Makes the watcher's groups.
async fn watched_groups(task: &Check, options: &Options, watcher: &Person, people: usize) -> Result<Vec<u32>, Failure> {
    let failed = |error: ClientError| Failure::of("cannot make the watcher's groups", error);
    let run = fastrand::u32(..);
    let credentials = Credentials::id(watcher.id, PASSWORD);
    let (client, _events) = log_in(options, credentials, task.settle).await.map_err(failed)?;
    let mut groups = Vec::new();
    for number in 0..people.div_ceil(WATCHED_MEMBERS) {
        let groupname = format!("check-{run:08x}-watched-{number}");
        let create = Command::CreateGroup(CreateGroup { groupname, groupdesc: String::new() });
        groups.push(client.request::<CreateGroupResult>(create).await.map_err(failed)?.groupid);
    }
    Ok(groups)
}

/// Logs in, again and again until it works or the time is up.
async fn log_in(options: &Options, credentials: Credentials, limit: Duration) -> Result<(Client, Events), ClientError> {
    let until = Instant::now() + limit;
    let mut failures = 0;
    loop {
        // Not always the same node first.
        let mut options = options.clone();
        let turn = fastrand::usize(..options.addresses.len().max(1));
        options.addresses.rotate_left(turn);
        let left = until.saturating_duration_since(Instant::now());
        let attempt = timeout(left, Client::login(options.clone(), credentials.clone())).await;
        match attempt.unwrap_or(Err(ClientError::TimedOut(limit))) {
            Ok(logged_in) => return Ok(logged_in),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(ClientError::Refused(refusal)) if refusal.code == ErrorCode::BadCredentials => {
                return Err(ClientError::Refused(refusal));
            }
            Err(_) => sleep(options.backoff.delay(failures)).await,
        }
        failures += 1;
    }
}

/// A message until it is acknowledged.
struct Draft {
    to: Target,
    text: String,
    mid: String,
    until: Instant,
}

/// One client during the faults.
async fn act(stage: Rc<Stage>, at: usize) {
    let me = stage.people[at].id;
    let credentials = Credentials::id(me, PASSWORD);
    let between = Duration::from_secs_f64(1.0 / stage.task.rate.max(0.01));
    let mut number = 0;
    let mut draft: Option<Draft> = None;
    let mut next = Instant::now() + between.mul_f64(fastrand::f64());
    while !stage.is_over.get() || draft.is_some() {
        let Ok((client, mut events)) = log_in(&stage.options, credentials.clone(), stage.task.send_limit).await else {
            // Whether the message in hand was stored is not known; the end of the check asks whether one can log in.
            if draft.take().is_some() {
                count(&stage.counts.uncertain);
            }
            sleep(CHURN_PERIOD).await;
            continue;
        };
        let mut churn = Instant::now() + CHURN_PERIOD;
        'session: loop {
            if stage.is_over.get() && draft.is_none() {
                return;
            }
            if draft.is_none() && Instant::now() >= next {
                number += 1;
                next = Instant::now() + between;
                draft = Some(stage.draft(at, number));
            }
            // What there is to do: send, or wait until it is time to.
            let done = {
                let mut work = std::pin::pin!(async {
                    match &draft {
                        Some(draft) => Some(client.chat_as(draft.to, draft.text.clone(), draft.mid.clone()).await),
                        None => {
                            sleep(next.saturating_duration_since(Instant::now()).min(CHURN_PERIOD)).await;
                            None
                        }
                    }
                });
                loop {
                    tokio::select! {
                        biased;
                        event = events.next() => match event {
                            Some(event) => if !stage.happens(me, &event) { break 'session },
                            None => break 'session,
                        },
                        done = &mut work => break done,
                        () = sleep(churn.saturating_duration_since(Instant::now())) => {
                            churn = Instant::now() + CHURN_PERIOD;
                            if !stage.is_over.get() && fastrand::f64() < stage.task.churn {
                                count(&stage.counts.dropped_connections);
                                break 'session;
                            }
                        }
                    }
                }
            };
            if let Some(result) = done
                && let Some(sent) = draft.take()
                && !stage.is_sent(me, &sent, result)
                && Instant::now() < sent.until
            {
                draft = Some(sent);
                break 'session;
            }
        }
        if draft.as_ref().is_some_and(|draft| Instant::now() >= draft.until) {
            draft = None;
            count(&stage.counts.uncertain);
        }
    }
}

impl Stage {
    fn draft(&self, at: usize, number: u64) -> Draft {
        let me = &self.people[at];
        let own: Vec<u32> =
            self.groups.iter().filter(|(_, members)| members.contains(&me.id)).map(|(group, _)| *group).collect();
        let to = if !own.is_empty() && fastrand::f64() < GROUP_PART {
            Target::Group(own[fastrand::usize(..own.len())])
        } else {
            // Anybody but oneself.
            let other = (at + 1 + fastrand::usize(..self.people.len() - 1)) % self.people.len();
            Target::Peer(self.people[other].id)
        };
        if let Target::Peer(peer) = to {
            let members = vec![me.id, peer];
            self.evidence.borrow_mut().members.entry(Conversation::of(me.id, peer)).or_insert(members);
        }
        let mid = format!("{}-{number}", me.name);
        let text = format!("message {number} of {} \u{1F980} {}", me.name, "x".repeat(fastrand::usize(..200)));
        Draft { to, text, mid, until: Instant::now() + self.task.send_limit }
    }

    /// Takes note of an event. False if the session is over.
    fn happens(&self, me: u32, event: &Event) -> bool {
        match event {
            Event::Message { delivery, is_repeated } => {
                if *is_repeated {
                    count(&self.counts.repeated);
                }
                let message = message(delivery, me);
                self.evidence.borrow_mut().arrivals.push(Arrival { user: me, message });
            }
            Event::Disconnected { .. } => count(&self.counts.lost_connections),
            Event::Ended(_) => return false,
            _ => {}
        }
        true
    }

    /// Takes note of what became of a message. False if it is to be tried again.
    fn is_sent(&self, me: u32, draft: &Draft, result: Result<ChatResult, ClientError>) -> bool {
        match result {
            Ok(result) => {
                if result.duplicate {
                    count(&self.counts.duplicates);
                }
                let conversation = match draft.to {
                    Target::Peer(peer) => Conversation::of(me, peer),
                    Target::Group(group) => Conversation::Group(group),
                };
                let (mid, text) = (draft.mid.clone(), draft.text.clone());
                // Without a sequence it is sequence 0, which no history has: the server runs in the relay setting.
                let seq = result.seq.unwrap_or(0);
                self.evidence.borrow_mut().acked.push(Message { conversation, seq, sender: me, mid, text });
                true
            }
            Err(ClientError::Refused(refusal))
                if !refusal.code.is_retryable() && refusal.code != ErrorCode::NotLoggedIn =>
            {
                self.evidence.borrow_mut().refused.push((me, format!("{} ({})", refusal, refusal.code)));
                true
            }
            Err(_) if Instant::now() >= draft.until => {
                count(&self.counts.uncertain);
                true
            }
            Err(_) => false,
        }
    }
}

/// A delivery at `me`, or a message in `me`'s history.
fn message(delivery: &Delivery, me: u32) -> Message {
    let conversation = match (delivery.groupid, delivery.toid) {
        (Some(group), _) => Conversation::Group(group),
        (None, to) => Conversation::of(delivery.id, to.unwrap_or(me)),
    };
    Message {
        conversation,
        seq: delivery.seq.unwrap_or(0),
        sender: delivery.id,
        mid: delivery.mid.clone().unwrap_or_default(),
        text: delivery.msg.clone(),
    }
}

/// Logs in anew and takes in what comes until it is quiet. `None` if that was not possible.
async fn catch_up(stage: Rc<Stage>, at: usize) -> Option<Client> {
    let me = stage.people[at].id;
    let until = Instant::now() + stage.task.settle;
    let locked_out = |why: String| stage.evidence.borrow_mut().locked_out.push((me, why));
    let (client, mut events) = match log_in(&stage.options, Credentials::id(me, PASSWORD), stage.task.settle).await {
        Ok(logged_in) => logged_in,
        Err(error) => {
            locked_out(error.to_string());
            return None;
        }
    };
    let mut is_synced = false;
    let mut quiet_since = Instant::now();
    loop {
        let now = Instant::now();
        if now >= until {
            if !is_synced {
                locked_out("the server did not say that everything was sent".into());
            }
            break;
        }
        if is_synced && now >= quiet_since + stage.task.quiet {
            break;
        }
        match timeout(stage.task.quiet, events.next()).await {
            Err(_) => {}
            Ok(None) => {
                locked_out("the session ended".into());
                return None;
            }
            Ok(Some(event)) => {
                if matches!(event, Event::Message { .. }) {
                    quiet_since = Instant::now();
                }
                if let Event::Notice(notice) = &event {
                    is_synced |= notice.code == NoticeCode::Synced;
                }
                if !stage.happens(me, &event) {
                    locked_out("the session ended".into());
                    return None;
                }
            }
        }
    }
    let join = Command::JoinGroup(GroupId { groupid: stage.watched[at / WATCHED_MEMBERS] });
    match client.request::<Done>(join).await {
        Ok(Done {}) => {}
        Err(error) => {
            locked_out(format!("cannot be watched: {error}"));
            return None;
        }
    }
    // Nobody takes events any more, but the session has to live until the history was read.
    let counted = Rc::clone(&stage);
    spawn_local(async move {
        while let Some(event) = events.next().await {
            counted.happens(me, &event);
        }
    });
    Some(client)
}

async fn read_history(stage: &Stage, clients: &[Option<Client>]) -> Result<(), Failure> {
    let conversations = stage.evidence.borrow().members.clone();
    for (conversation, members) in conversations {
        // Any member who is there.
        let reader = clients.iter().flatten().find(|client| members.contains(&client.me().id));
        let Some(client) = reader else {
            return Err(Failure::new(format!("nobody is left to read the history of {conversation}")));
        };
        let me = client.me().id;
        let (peer, groupid) = match conversation {
            Conversation::Pair(one, other) => (Some(if one == me { other } else { one }), None),
            Conversation::Group(group) => (None, Some(group)),
        };
        let mut after = 0;
        loop {
            let (before, after_this, limit) = (None, Some(after), Some(MAX_HISTORY_PAGE));
            let page = Command::History(History { peer, groupid, before, after: after_this, limit });
            let page: HistoryResult = client
                .request(page)
                .await
                .map_err(|error| Failure::of(format!("the history of {conversation}"), error))?;
            let Some(last) = page.messages.last().and_then(|last| last.seq) else { break };
            if last <= after {
                return Err(Failure::new(format!("the history of {conversation} goes round at {last}")));
            }
            after = last;
            stage.evidence.borrow_mut().history.extend(page.messages.iter().map(|delivery| message(delivery, me)));
            if !page.more {
                break;
            }
        }
    }
    Ok(())
}

/// Who is shown as online although everybody has left?
async fn watch(stage: &Stage, watcher: &Person) -> Result<(), Failure> {
    let failed = |error: ClientError| Failure::of("the watcher", error);
    let until = Instant::now() + stage.task.lease;
    let credentials = Credentials::id(watcher.id, PASSWORD);
    let (client, _events) = log_in(&stage.options, credentials, stage.task.settle).await.map_err(failed)?;
    loop {
        let mut online = Vec::new();
        for some in stage.people.chunks(MAX_WHO) {
            let ids = some.iter().map(|person| person.id).collect();
            online.extend(client.request::<WhoResult>(Command::Who(Who { ids })).await.map_err(failed)?.online);
        }
        if online.is_empty() || Instant::now() >= until {
            stage.evidence.borrow_mut().online = online;
            let _ = client.logout().await;
            return Ok(());
        }
        sleep(WATCH_PERIOD).await;
    }
}
