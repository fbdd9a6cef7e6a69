//! The load generator and the checker against a real node, and against one behind a proxy that breaks its promises.

mod node;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use chat_server::config::Delivery;
use chat_server::load::arguments::{Arguments, Task};
use chat_server::load::outcome::Outcome;
use chat_server::load::{Exit, Failure, idle, logins, run, start, traffic};
use clap::Parser;
use node::RunningNode;

fn arguments(address: SocketAddr, words: &str) -> Arguments {
    let address = address.to_string();
    let given = ["chat-load", "--server", &address].into_iter().chain(words.split_whitespace());
    Arguments::try_parse_from(given).unwrap()
}

fn measure(address: SocketAddr, words: &str) -> Result<Outcome, Failure> {
    let arguments = arguments(address, words);
    match &arguments.task {
        Task::Traffic(task) => traffic::run(&arguments.common, task),
        Task::Logins(task) => logins::run(&arguments.common, task),
        Task::Idle(task) => idle::run(&arguments.common, task),
        Task::Start(task) => start::run(&arguments.common, task),
        Task::Check(_) => panic!("it has no outcome"),
    }
}

/// It worked, nothing is wrong, and there is this number.
fn number(outcome: Result<Outcome, Failure>, name: &str) -> f64 {
    let outcome = outcome.unwrap();
    assert_eq!(outcome.problems, [""; 0]);
    outcome.get(name).unwrap_or_else(|| panic!("there is no {name} in {:?}", outcome.metrics))
}

#[test]
fn all_kinds_of_traffic_arrive() {
    let node = RunningNode::start(|_, _| {});
    let end = "--warmup 0 --duration 0.5 --lost-after 60";
    for (words, name) in [
        ("traffic --conversations 5", "latency_p50"),
        ("traffic --conversations 5 --wait ack", "answer_p50"),
        ("traffic --conversations 5 --window 16 --ack-every 3", "delivered"),
        ("traffic --conversations 3 --group-size 4", "delivered"),
        ("traffic --conversations 3 --rate 200 --threads 2", "latency_p99"),
        ("traffic --conversations 3 --protocol original", "latency_p50"),
    ] {
        let outcome = measure(node.address, &format!("{words} {end}"));
        assert!(number(outcome, name) > 0.0, "{words}");
    }
}

#[test]
fn what_is_passed_on_without_being_stored_arrives_too() {
    let node = RunningNode::start(|_, config| config.delivery = Delivery::Relay);
    let outcome = measure(node.address, "traffic --conversations 5 --warmup 0 --duration 0.5 --lost-after 60");
    assert!(number(outcome, "delivered") > 0.0);
}

#[test]
fn a_group_message_counts_once_for_each_recipient() {
    let node = RunningNode::start(|_, _| {});
    let outcome =
        measure(node.address, "traffic --conversations 1 --group-size 5 --warmup 0 --duration 1 --lost-after 60");
    let outcome = outcome.unwrap();
    // What is in flight at the end of the measured time makes the difference.
    let (accepted, delivered) = (outcome.get("accepted").unwrap(), outcome.get("delivered").unwrap());
    assert!((delivered - 4.0 * accepted).abs() <= 8.0, "{accepted} {delivered}");
}

#[test]
fn logins_by_password_and_by_token() {
    let node = RunningNode::start(|_, _| {});
    for words in ["logins", "logins --way resume", "logins --protocol original"] {
        let outcome = measure(node.address, &format!("{words} --in-flight 4 --duration 0.3"));
        assert!(number(outcome, "logins") > 0.0, "{words}");
    }
}

#[test]
fn idle_sessions_stay() {
    let node = RunningNode::start(|_, _| {});
    let words = format!("idle --sessions 50 --settle 0.1 --server-pid {}", std::process::id());
    assert_eq!(number(measure(node.address, &words), "closed"), 0.0);
    let failure = measure(node.address, "idle --sessions 50").unwrap_err();
    assert!(failure.to_string().contains("--server-pid"), "{failure}");
}

#[test]
fn a_node_is_started_answers_and_ends() {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let program = env!("CARGO_BIN_EXE_chat-server");
    let words = "--listen 127.0.0.1:0 --http off --database sqlite::memory: --bus local --node a --log warn";
    let outcome = measure(nowhere, &format!("start -- {program} {words}")).unwrap();
    assert_eq!(outcome.problems, [""; 0]);
    let [ready, first_answer] = ["ready", "first_answer"].map(|name| outcome.get(name).unwrap());
    assert!(0.0 < ready && ready < first_answer, "{ready} {first_answer}");
    assert!(outcome.get("stop").unwrap() > 0.0 && outcome.get("server_resident").unwrap() > 0.0);

    for (words, problem) in [
        (format!("start -- {program} --check-config"), "it ended before it listened"),
        ("start -- /nowhere/chat-server".to_owned(), "/nowhere/chat-server"),
        ("--protocol original start -- true".to_owned(), "leave out --protocol"),
        ("--patience 0.2 start -- sleep 60".to_owned(), "it does not listen: within 200ms"),
    ] {
        let failure = measure(nowhere, &words).unwrap_err().to_string();
        assert!(failure.contains(problem), "{failure}");
    }
}

#[test]
fn users_are_registered_once() {
    let node = RunningNode::start(|_, _| {});
    let file = std::env::temp_dir().join(format!("chat-load-users-{}.json", std::process::id()));
    let words = format!("--users {} logins --in-flight 2 --duration 0.1", file.display());
    assert!(number(measure(node.address, &words), "logins") > 0.0);
    let first = std::fs::read_to_string(&file).unwrap();
    assert!(number(measure(node.address, &words), "logins") > 0.0);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
    let more = words.replace("--in-flight 2", "--in-flight 3");
    assert!(number(measure(node.address, &more), "logins") > 0.0);
    let second = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert!(second.len() > first.len() && second.starts_with(first.trim_end_matches(']')), "{first} {second}");
}

#[test]
fn a_refused_message_is_a_problem() {
    let node = RunningNode::start(|_, config| config.max_frame_bytes = 1024);
    let outcome =
        measure(node.address, "traffic --conversations 1 --size 2000 --warmup 0 --duration 0.3 --lost-after 1");
    let outcome = outcome.unwrap();
    assert!(!outcome.problems.is_empty());
    assert_eq!(outcome.get("delivered"), Some(0.0));
}

/// Stands before a node and does something to one of its deliveries.
struct Saboteur(SocketAddr);

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    Nothing,
    /// Swallows it, also when it comes again.
    Swallow,
    /// Says something else.
    Alter,
    /// Holds it until after the next one for the same client.
    Delay,
    /// Sends it again under a sequence that does not exist.
    Invent,
}

impl Saboteur {
    fn before(node: SocketAddr, sabotage: Sabotage) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicUsize::new(0));
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(node)) else { return };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Both);
                });
                let seen = Arc::clone(&seen);
                thread::spawn(move || {
                    pass_on(&server, &client, sabotage, &seen);
                    let _ = client.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self(address)
    }
}

/// The delivery of all that is meddled with.
const VICTIM: usize = 25;

fn pass_on(mut server: &TcpStream, mut client: &TcpStream, sabotage: Sabotage, seen: &AtomicUsize) {
    static SWALLOWED: parking_lot::Mutex<Vec<Vec<u8>>> = parking_lot::Mutex::new(Vec::new());
    let (mut buffer, mut pending, mut held) = (vec![0; 16 * 1024], Vec::new(), None);
    while let Ok(count @ 1..) = server.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..count]);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let mut out = line.clone();
            if line.starts_with(b"{\"msgid\":6,") {
                let text = String::from_utf8(line.clone()).unwrap();
                let is_victim = seen.fetch_add(1, Ordering::Relaxed) == VICTIM;
                match sabotage {
                    Sabotage::Swallow if is_victim => {
                        SWALLOWED.lock().push(line);
                        continue;
                    }
                    Sabotage::Swallow if SWALLOWED.lock().contains(&line) => continue,
                    Sabotage::Alter if is_victim => out = text.replace("message", "massage").into_bytes(),
                    Sabotage::Delay if is_victim => {
                        held = Some(line);
                        continue;
                    }
                    Sabotage::Invent if is_victim => {
                        out.extend_from_slice(text.replace("\"seq\":", "\"seq\":9000").as_bytes());
                    }
                    _ => {
                        // Later messages of the same conversation are what makes it late.
                        if held.as_ref().is_some_and(|held| sender(held) == sender(&line)) {
                            out.extend(held.take().unwrap_or_default());
                        }
                    }
                }
            }
            if client.write_all(&out).is_err() {
                return;
            }
        }
    }
}

/// The part of a delivery that names the sender.
fn sender(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line).into_owned();
    Some(text.split("\"id\":").nth(1)?.split(',').next()?.to_owned())
}

/// Checks a node behind a saboteur; the kinds of the violations found.
fn check(sabotage: Sabotage) -> (Exit, String) {
    let node = RunningNode::start(|_, _| {});
    let saboteur = Saboteur::before(node.address, sabotage);
    let file = std::env::temp_dir().join(format!("chat-check-{sabotage:?}-{}", std::process::id()));
    // Three clients, so that every pair writes to each other often, and none that comes back and is told what was withheld.
    let words = format!(
        "check --clients 3 --groups 0 --duration 4 --rate 40 --churn 0 --quiet 0.5 --lease 20 --report {}",
        file.display()
    );
    let exit = run(&arguments(saboteur.0, &words)).unwrap();
    let report = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    (exit, report)
}

#[test]
fn a_server_that_keeps_its_promises_passes_the_check() {
    assert_eq!(check(Sabotage::Nothing), (Exit::Done, String::new()));
}

#[test]
fn a_delivery_that_never_arrives_is_found() {
    let (exit, report) = check(Sabotage::Swallow);
    assert!(exit == Exit::Broken && report.starts_with("not delivered: at user "), "{report}");
    assert_eq!(report.lines().count(), 1, "{report}");
}

#[test]
fn an_altered_delivery_is_found() {
    let (exit, report) = check(Sabotage::Alter);
    assert!(exit == Exit::Broken && report.starts_with("altered: at user "), "{report}");
}

#[test]
fn a_late_delivery_is_found() {
    let (exit, report) = check(Sabotage::Delay);
    assert!(exit == Exit::Broken && report.starts_with("delivered out of order: at user "), "{report}");
}

#[test]
fn an_invented_delivery_is_found() {
    let (exit, report) = check(Sabotage::Invent);
    assert!(exit == Exit::Broken && report.contains("delivered but not stored: at user "), "{report}");
}

#[test]
fn groups_and_restless_clients_pass_the_check() {
    let node = RunningNode::start(|_, _| {});
    let words = "check --clients 8 --groups 3 --duration 4 --rate 10 --churn 0.5 --quiet 0.5 --lease 20";
    assert_eq!(run(&arguments(node.address, words)).unwrap(), Exit::Done);
}
