//! The program `chat-client` from outside: through pipes, and on a real terminal.

#[allow(dead_code, reason = "the other tests use the rest")]
mod scripted;

use std::io::{Read, Write};
use std::num::NonZero;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use chat_server::protocol::ErrorCode;
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};
use rexpect::process::PtyProcess;
use scripted::{Peer, Scripted};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// Longer than anything takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn program(server: &Scripted, arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_chat-client"));
    program.args(["--server", &server.address]).args(arguments).env_remove("CHATCLIENT_PASSWORD");
    program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    program
}

/// Starts the program with these lines on its standard input.
async fn start(mut program: Command, lines: &str) -> Child {
    let mut child = program.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may end before it has read everything.
    let _ = stdin.write_all(lines.as_bytes()).await;
    child
}

/// How it ended, what it printed, what it complained about.
async fn end(child: Child) -> (i32, String, String) {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn log_out(mut peer: Peer) {
    let logout = peer.expect(3).await;
    peer.answer(&logout, json!({})).await;
    assert!(peer.next().await.is_none());
}

#[tokio::test]
async fn commands_from_a_pipe_are_carried_out_one_after_another() {
    let server = Scripted::start().await;
    let mut program = program(&server, &["--user", "crab"]);
    program.env("CHATCLIENT_PASSWORD", "123456");
    let child = start(program, "# to a friend\nchat:7:hello: you\nfriends\nwait:1\n").await;
    let mut peer = server.greet().await;
    let login = peer.expect(1).await;
    assert_eq!((login["name"].as_str(), login["password"].as_str()), (Some("crab"), Some("123456")));
    peer.answer(&login, json!({"id": 1, "name": "crab", "token": "t", "token_until": 9, "displaced": false})).await;
    let chat = peer.expect(6).await;
    assert_eq!((chat["toid"].as_u64(), chat["msg"].as_str()), (Some(7), Some("hello: you")));
    peer.answer(&chat, json!({"seq": 41, "at": 9})).await;
    let friends = peer.expect(31).await;
    let fox = json!({"id": 7, "name": "fox", "state": "online", "relation": "friend"});
    peer.answer(&friends, json!({"friends": [fox]})).await;
    peer.deliver(42, "hello yourself").await;
    let ack = peer.expect(23).await;
    assert_eq!(ack["seq"], 42);
    log_out(peer).await;
    let (code, out, err) = end(child).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for line in ["logged in as crab (user id 1)", "number 41", "fox (7): online", "now fox (7): hello yourself"] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains("123456"));
}

#[tokio::test]
async fn a_refused_command_is_exit_code_1_and_the_commands_after_it_are_carried_out() {
    let server = Scripted::start().await;
    let folder = std::env::temp_dir().join(format!("chat-client-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (password, script) = (folder.join("password"), folder.join("script"));
    std::fs::write(&password, "123456\n").unwrap();
    std::fs::write(&script, "addgroup:9\ndance\nping\n").unwrap();
    let arguments =
        ["--user", "1", "--password-file", password.to_str().unwrap(), "--script", script.to_str().unwrap()];
    let child = start(program(&server, &arguments), "").await;
    let mut peer = server.log_in().await;
    let join = peer.expect(9).await;
    peer.refuse(&join, ErrorCode::UnknownGroup as u32, "there is no group 9").await;
    let ping = peer.expect(28).await;
    peer.answer(&ping, json!({})).await;
    log_out(peer).await;
    let (code, out, _) = end(child).await;
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(code, 1);
    assert!(out.contains("! there is no group 9") && out.contains("! there is no command"), "{out}");
}

#[tokio::test]
async fn the_exit_code_says_what_went_wrong() {
    let server = Scripted::start().await;
    let with_password = |arguments: &[&str]| {
        let mut program = program(&server, arguments);
        program.env("CHATCLIENT_PASSWORD", "123456");
        program
    };
    // No password and nobody to ask.
    let (code, _, err) = end(start(program(&server, &["--user", "crab"]), "").await).await;
    assert!(code == 2 && err.contains("CHATCLIENT_PASSWORD"), "{code} {err}");
    // A file that is not there.
    let (code, _, err) = end(start(with_password(&["--user", "crab", "--script", "/no/such"]), "").await).await;
    assert!(code == 2 && err.contains("/no/such"), "{code} {err}");
    // A wrong password.
    let child = start(with_password(&["--user", "crab"]), "").await;
    let mut peer = server.greet().await;
    let login = peer.expect(1).await;
    peer.refuse(&login, ErrorCode::BadCredentials as u32, "id or password is invalid!").await;
    let (code, _, err) = end(child).await;
    assert_eq!((code, err.as_str()), (3, "chat-client: id or password is invalid!\n"));
    // Displaced.
    let child = start(with_password(&["--user", "crab", "--linger", "60"]), "").await;
    let mut peer = server.log_in().await;
    peer.notice("displaced", None).await;
    let (code, out, _) = end(child).await;
    assert!(code == 5 && out.contains("logged in elsewhere"), "{code} {out}");
    // Nobody there.
    let nobody = with_password(&["--user", "crab"]);
    drop(server);
    let (code, _, err) = end(start(nobody, "").await).await;
    assert!(code == 4 && err.contains("cannot connect to 127.0.0.1:"), "{code} {err}");
}

#[tokio::test]
async fn the_menu_works_through_a_pipe_in_the_originals_protocol() {
    let server = Scripted::start().await;
    let lines = "2\nli si\n666666\n1\n13\n666666\nchat:15:hi\ncreategroup:crab:rust\nwait:2\nloginout\n3\n";
    let child = start(program(&server, &["--original"]), lines).await;
    let mut peer = server.accept().await;
    let register = peer.expect(4).await;
    assert_eq!((register["name"].as_str(), register["password"].as_str()), (Some("li si"), Some("666666")));
    peer.send(json!({"msgid": 5, "errno": 0, "id": 13})).await;
    let mut peer = server.accept().await;
    let login = peer.expect(1).await;
    assert_eq!(login["id"], 13);
    let offline = r#"{"id":15,"msg":"while you were away","msgid":6,"name":"fox","time":"t","toid":13}"#;
    let ack = json!({"msgid": 2, "errno": 0, "id": 13, "name": "li si", "offlinemsg": [offline]});
    peer.send(ack).await;
    let chat = peer.expect(6).await;
    let field = |field: &str| chat[field].clone();
    assert_eq!(
        (field("id"), field("name"), field("toid"), field("msg")),
        (json!(13), json!("li si"), json!(15), json!("hi"))
    );
    assert!(chat["time"].is_string(), "the original server needs it");
    let group = peer.expect(8).await;
    assert_eq!(group, json!({"msgid": 8, "id": 13, "groupname": "crab", "groupdesc": "rust"}));
    peer.deliver(1, "hello yourself").await;
    let logout = peer.expect(3).await;
    assert_eq!(logout["id"], 13);
    let (code, out, err) = end(child).await;
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for line in ["user id 13", "while you were away", "hello yourself"] {
        assert!(out.contains(line), "{line}: {out}");
    }
}

/// A program on a terminal of its own, and what the terminal shows.
struct Screen {
    process: PtyProcess,
    bytes: mpsc::Receiver<Vec<u8>>,
    shown: vt100::Parser,
    everything: Vec<u8>,
}

impl Screen {
    fn start(mut program: std::process::Command) -> Self {
        program.env("TERM", "xterm");
        let process = PtyProcess::new(program).unwrap();
        // A terminal that does not know its size has 24 lines of 80, the line editor says.
        let (rows, columns) = (NonZero::new(24).unwrap(), NonZero::new(80).unwrap());
        let shown = vt100::Parser::new(rows, columns, 0);
        let (sender, bytes) = mpsc::channel();
        let mut reader = process.get_file_handle().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the terminal's end: the program has left.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self { process, bytes, shown, everything: Vec::new() }
    }

    fn type_in(&self, text: &str) {
        self.process.get_file_handle().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// The lines of the screen, once they are as wanted.
    fn wait(&mut self, what: &str, is_wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let lines: Vec<String> = self.shown.screen().rows(0, 80).map(|row| row.trim_end().to_owned()).collect();
            if is_wanted(&lines) {
                return lines;
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => {
                    self.shown.process(&bytes);
                    self.everything.extend_from_slice(&bytes);
                }
                Err(_) => panic!("the screen never showed {what}:\n{}", lines.join("\n")),
            }
        }
    }
}

/// The place of the first line that is so.
fn line(lines: &[String], is_so: impl Fn(&str) -> bool) -> Option<usize> {
    lines.iter().position(|line| is_so(line))
}

/// Whether what is typed is shown, and taken line by line.
fn modes(screen: &Screen) -> (bool, bool) {
    let flags = tcgetattr(screen.process.get_file_handle().unwrap()).unwrap().local_flags;
    (flags.contains(LocalFlags::ECHO), flags.contains(LocalFlags::ICANON))
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGHUP, 129), (Signal::SIGINT, 130)] {
        // At the line editor SIGINT is what Ctrl-C is: the end of the questions.
        for is_secret in [false, true].into_iter().filter(|is_secret| *is_secret || signal != Signal::SIGINT) {
            // The test's terminal shows nothing by itself, unlike a person's.
            let mut program = std::process::Command::new("sh");
            program.args(["-c", "stty sane && exec \"$0\"", env!("CARGO_BIN_EXE_chat-client")]);
            let mut screen = Screen::start(program);
            screen.wait("the menu", |lines| lines.iter().any(|line| line.starts_with("choice:")));
            if is_secret {
                screen.type_in("1\r");
                screen.wait("the question for the user", |lines| lines.iter().any(|line| line.starts_with("id or")));
                screen.type_in("crab\r");
                screen.wait("that for the password", |lines| lines.iter().any(|line| line.starts_with("password:")));
            }
            // A question may be on the screen before the terminal is prepared for its answer.
            let until = Instant::now() + PATIENCE;
            while modes(&screen) == (true, true) {
                assert!(Instant::now() < until, "the line editor and secrets change the terminal");
                std::thread::sleep(Duration::from_millis(1));
            }
            screen.process.signal(signal).unwrap();
            let status = format!("{:?}", screen.process.wait().unwrap());
            assert!(status.contains(&format!(", {code})")), "{signal}, secret {is_secret}: {status}");
            assert_eq!(modes(&screen), (true, true), "{signal}, secret {is_secret}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_arrives_while_a_line_is_typed_stands_above_it_and_the_line_stays() {
    let server = Scripted::start().await;
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_chat-client"));
    program.args(["--server", &server.address]).env_remove("CHATCLIENT_PASSWORD");
    let (mut screen, mut peer) = {
        let mut screen = Screen::start(program);
        screen.wait("the menu", |lines| lines.iter().any(|line| line.starts_with("choice:")));
        screen.type_in("1\r");
        screen.wait("the question for the user", |lines| lines.iter().any(|line| line.starts_with("id or name:")));
        screen.type_in("crab\r");
        screen.wait("the question for the password", |lines| lines.iter().any(|line| line.starts_with("password:")));
        screen.type_in("s3cret\r");
        let mut peer = server.greet().await;
        let login = peer.expect(1).await;
        assert_eq!((&login["name"], &login["password"]), (&Value::from("crab"), &Value::from("s3cret")));
        let me = json!({"id": 1, "name": "crab", "token": "t", "token_until": 9, "displaced": false});
        peer.answer(&login, me).await;
        (screen, peer)
    };
    let tokio = tokio::runtime::Handle::current();
    // The screen blocks, so it has this thread, and the server's script goes to the runtime.
    tokio::task::block_in_place(|| {
        screen.wait("the prompt", |lines| lines.iter().any(|line| line == "crab>"));
        screen.type_in("chat:7:hel");
        screen.wait("what was typed", |lines| lines.iter().any(|line| line == "crab> chat:7:hel"));
        tokio.block_on(peer.deliver(1, "an interruption"));
        let lines = screen.wait("the message above the line", |lines| {
            let message = line(lines, |line| line.ends_with("fox (7): an interruption"));
            let typed = line(lines, |line| line == "crab> chat:7:hel");
            matches!((message, typed), (Some(message), Some(typed)) if message + 1 == typed)
        });
        let (row, column) = screen.shown.screen().cursor_position();
        assert_eq!(lines[row as usize], "crab> chat:7:hel", "the cursor is in the line");
        assert_eq!(column as usize, "crab> chat:7:hel".len(), "and where it was");
        screen.type_in("lo\r");
        let chat = tokio.block_on(async {
            let ack = peer.expect(23).await;
            assert_eq!(ack["seq"], 1);
            let chat = peer.expect(6).await;
            peer.answer(&chat, json!({"seq": 2, "at": 9})).await;
            chat
        });
        assert_eq!(chat["msg"], "hello");
        screen.wait("the answer", |lines| lines.iter().any(|line| line.starts_with("sent, number 2")));
        screen.type_in("quit\r");
        tokio.block_on(log_out(peer));
        let status = screen.process.wait().unwrap();
        assert!(format!("{status:?}").contains("Exited"), "{status:?}");
        let everything = String::from_utf8_lossy(&screen.everything);
        assert!(!everything.contains("s3cret"), "a password is never shown");
    });
}
