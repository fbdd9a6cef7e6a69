//! The program from outside: what it prints, how it stops, how it fails.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use chat_server::store::Store;
use tempfile::TempDir;

/// A folder to start the program in, deleted when dropped.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::with_prefix("chat-server-").expect("the temporary folder is writable"))
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_chat-server"));
        program.args(arguments).current_dir(self.0.path()).stdin(Stdio::null()).env_remove("DATABASE_URL");
        program.env("CHAT_LISTEN", "127.0.0.1:0").env("CHAT_HTTP", "off");
        program
    }
}

/// A server that runs; killed when dropped.
struct Running {
    child: Child,
    /// What it printed before it listened.
    out: String,
    address: String,
}

impl Running {
    /// Starts the program and waits until it listens.
    fn start(mut program: Command) -> Self {
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut out = String::new();
        let address = loop {
            let Some(line) = lines.next() else {
                let mut err = String::new();
                let _ = child.stderr.take().expect("it is piped").read_to_string(&mut err);
                panic!("it ended: {out}{err}");
            };
            let line = line.expect("it is text");
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.to_owned();
            }
            out += &(line + "\n");
        };
        assert!(out.starts_with(&format!("pool {} of at most ", Store::POOL)), "{out}");
        Self { child, out, address }
    }

    /// Asks it to stop, and waits. Returns what it logged.
    fn stop(mut self) -> String {
        let killed =
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().expect("kill is there");
        assert!(killed.success());
        let mut log = String::new();
        self.child.stderr.take().expect("it is piped").read_to_string(&mut log).expect("it is text");
        assert!(self.child.wait().expect("it ends").success(), "{log}");
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// It fails with exit code 1 and, after what it may have logged, one line that contains `words`.
fn fails(output: &Output, words: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    let mut lines = err.trim_end().lines();
    let last = lines.next_back().unwrap_or_default();
    assert!(last.starts_with("chat-server: ") && last.contains(words), "{err}");
    assert!(lines.all(|line| line.contains(" WARN ")), "{err}");
}

/// The server that `scripts/test` starts.
fn server() -> Option<String> {
    let url = std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var_os("REQUIRE_DATABASE").is_none(), "REQUIRE_DATABASE is set, DATABASE_URL is not");
        println!("skipped: DATABASE_URL is not set; scripts/test starts a server and sets it");
    }
    url
}

#[test]
fn it_needs_nothing_serves_clients_and_stops_when_asked() {
    let folder = Folder::new();
    let server = Running::start(folder.program(&[]));
    assert!(server.out.contains("database sqlite:chat.db\nSQLite 3."), "{}", server.out);
    assert!(folder.0.path().join("chat.db").exists());
    let mut client = TcpStream::connect(&server.address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.write_all(b"{\"msgid\":4,\"name\":\"ada\",\"password\":\"hunter2\"}\0").unwrap();
    let mut answer = [0; 1024];
    let bytes = client.read(&mut answer).unwrap();
    assert_eq!(std::str::from_utf8(&answer[..bytes]).unwrap(), r#"{"errno":0,"id":1,"msgid":5}"#);
    let log = server.stop();
    assert!(log.contains("ready") && log.contains("stopped") && !log.contains("hunter2"), "{log}");
}

#[test]
fn it_runs_in_memory() {
    let folder = Folder::new();
    let server = Running::start(folder.program(&["--database", "sqlite::memory:", "--log-format", "json"]));
    assert!(server.out.contains("database sqlite::memory:\nSQLite 3."), "{}", server.out);
    let log = server.stop();
    assert!(log.lines().all(|line| line.starts_with("{\"timestamp\":")), "{log}");
}

#[test]
fn it_runs_on_mysql() {
    let Some(url) = server() else { return };
    let folder = Folder::new();
    let by_option = Running::start(folder.program(&["--database", &url]));
    assert!(by_option.out.contains("database mysql://"), "{}", by_option.out);
    let mut program = folder.program(&[]);
    program.env("DATABASE_URL", &url);
    let by_variable = Running::start(program);
    assert_eq!(by_option.out.lines().next(), by_variable.out.lines().next());
    by_variable.stop();
    by_option.stop();
}

#[test]
fn it_runs_from_a_settings_file() {
    let Some(url) = server() else { return };
    let opts = mysql::Opts::from_url(&url).unwrap();
    let folder = Folder::new();
    let settings = format!(
        "host = '{}'\nport = {}\nuser = '{}'\npassword = '{}'\ndatabase = '{}'\ninitial_size = 2\nmax_size = 3\n",
        opts.get_ip_or_hostname(),
        opts.get_tcp_port(),
        opts.get_user().unwrap_or_default(),
        opts.get_pass().unwrap_or_default(),
        opts.get_db_name().unwrap_or_default()
    );
    fs::write(folder.0.path().join("chat.toml"), settings).unwrap();
    let server = Running::start(folder.program(&["--settings", "chat.toml"]));
    assert!(server.out.contains("of at most 3 connections"), "{}", server.out);
    server.stop();
    let output = folder.program(&["--settings", "chat.toml"]).env("POOL_MAX_SIZE", "0").output().unwrap();
    fails(&output, "environment variable POOL_MAX_SIZE: is 0");
}

#[test]
fn the_configuration_is_checked_and_printed_without_starting() {
    let folder = Folder::new();
    let checked = folder.program(&["--check-config", "--max-friends", "7"]).output().unwrap();
    assert!(checked.status.success() && !folder.0.path().join("chat.db").exists());
    let printed = folder.program(&["--print-config", "--max-friends", "7"]).output().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    assert!(text.contains("max-friends = 7\n") && text.contains("database = \"sqlite:chat.db\"\n"), "{text}");
    fs::write(folder.0.path().join("printed.toml"), &text).unwrap();
    let again = folder.program(&["--print-config", "--config", "printed.toml"]).output().unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), text);
    for (wrong, words) in [
        (&["--max-friends", "0"][..], "--max-friends: must be 1 to"),
        (&["--log", "x=y=z"], "log: "),
        (&["--password-memory-kib", "2000000"], "--password-memory-kib: must be 8 to 1048576"),
        (&["--tls-certificate", "none.pem", "--tls-key", "none.pem"], "could not use none.pem: No such file"),
    ] {
        fails(&folder.program(&[&["--check-config"], wrong].concat()).output().unwrap(), words);
        fails(&folder.program(wrong).output().unwrap(), words);
    }
}

/// A program that runs in a shell which has set limits before.
fn limited(limits: &str, program: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{limits} && exec \"$0\" \"$@\"")).arg(program.get_program()).args(program.get_args());
    shell.current_dir(program.get_current_dir().expect("it has one")).stdin(Stdio::null());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

#[test]
fn it_takes_as_many_files_as_the_system_gives_and_says_when_they_are_too_few() {
    let folder = Folder::new();
    let program = folder.program(&["--max-connections", "100", "--pool-size", "2"]);
    let server = Running::start(limited("ulimit -Sn 100 && ulimit -Hn 300", &program));
    #[cfg(target_os = "linux")]
    {
        let limits = fs::read_to_string(format!("/proc/{}/limits", server.child.id())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>()[3..5], ["300", "300"], "{line}");
    }
    let log = server.stop();
    assert!(!log.contains("max-connections"), "{log}");
    let program = folder.program(&["--max-connections", "1000", "--pool-size", "2"]);
    let log = Running::start(limited("ulimit -n 300", &program)).stop();
    assert!(log.contains("not all of max-connections can be served") && log.contains("needed=1070"), "{log}");
}

#[test]
fn a_wrong_password_is_one_line_and_no_wait() {
    let Some(url) = server() else { return };
    let folder = Folder::new();
    let opts = mysql::Opts::from_url(&url).unwrap();
    let (host, port) = (opts.get_ip_or_hostname(), opts.get_tcp_port());
    let url = format!("mysql://{}:wrong@{host}:{port}/pool", opts.get_user().unwrap_or_default());
    let began = Instant::now();
    fails(&folder.program(&["--database", &url]).output().unwrap(), "Access denied");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_server_that_is_down_is_one_line_within_the_timeout() {
    let folder = Folder::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("mysql://u:p@127.0.0.1:{port}/d");
    let began = Instant::now();
    fails(&folder.program(&["--database", &url]).output().unwrap(), "refused");
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn bad_input_is_one_line_that_names_it() {
    let folder = Folder::new();
    fs::write(folder.0.path().join("bad.toml"), "user = 'u'\ndatabase = 'd'\nmax_size = 'many'\n").unwrap();
    fs::write(folder.0.path().join("broken.toml"), "user = = 'u'\n").unwrap();
    for (arguments, words) in [
        (["--database", "postgres://x"], "--database: is neither mysql://"),
        (["--database", "sqlite:no/such/folder/chat.db"], "unable to open database file"),
        (["--settings", "none.toml"], "could not read the settings file none.toml"),
        (["--settings", "bad.toml"], "bad.toml: max_size: must be a whole number, not a string"),
        (["--settings", "broken.toml"], "broken.toml, line 1: "),
        (["--config", "broken.toml"], "could not read the file broken.toml: line 1: "),
        (["--config", "none.toml"], "could not read the file none.toml: No such file"),
        (["--config", "bad.toml"], "bad.toml: database: is neither mysql://"),
        (["--listen", "nowhere"], "--listen: must be an address with a port"),
        (["--log", "x=y=z"], "log: "),
    ] {
        fails(&folder.program(&arguments).output().unwrap(), words);
    }
    let unknown = folder.program(&["--colour"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}
