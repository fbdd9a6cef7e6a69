//! The program from outside: what it prints and how it ends.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use chat_server::store::Store;

/// A folder to start the program in, deleted when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("chat-server-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("the temporary folder is writable");
        Self(path)
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_chat-server"));
        program.args(arguments).current_dir(&self.0).stdin(Stdio::null()).env_remove("DATABASE_URL");
        program
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn succeeds(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert!(err.is_empty(), "{err}");
    assert!(out.starts_with(&format!("pool {} of at most ", Store::POOL)), "{out}");
    out.into_owned()
}

/// It fails with exit code 1 and one line that contains `words`.
fn fails(output: &Output, words: &str) {
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert_eq!(err.trim_end().lines().count(), 1, "{err}");
    assert!(err.starts_with("chat-server: ") && err.contains(words), "{err}");
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
fn it_needs_nothing() {
    let folder = Folder::new();
    let out = succeeds(&folder.program(&[]).output().unwrap());
    assert!(out.contains("database sqlite:chat.db\nSQLite 3."), "{out}");
    assert!(folder.0.join("chat.db").exists());
}

#[test]
fn it_runs_in_memory() {
    let folder = Folder::new();
    let out = succeeds(&folder.program(&["--database", "sqlite::memory:"]).output().unwrap());
    assert!(out.contains("database sqlite::memory:\nSQLite 3."), "{out}");
}

#[test]
fn it_runs_on_mysql() {
    let Some(url) = server() else { return };
    let folder = Folder::new();
    let by_option = succeeds(&folder.program(&["--database", &url]).output().unwrap());
    assert!(by_option.contains("database mysql://") && by_option.contains(" answered in "), "{by_option}");
    let by_variable = succeeds(&folder.program(&[]).env("DATABASE_URL", &url).output().unwrap());
    assert_eq!(by_option.lines().next(), by_variable.lines().next());
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
    fs::write(folder.0.join("chat.toml"), settings).unwrap();
    let out = succeeds(&folder.program(&["--settings", "chat.toml"]).output().unwrap());
    assert!(out.contains("of at most 3 connections"), "{out}");
    let output = folder.program(&["--settings", "chat.toml"]).env("POOL_MAX_SIZE", "0").output().unwrap();
    fails(&output, "environment variable POOL_MAX_SIZE: is 0");
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
    fs::write(folder.0.join("bad.toml"), "user = 'u'\ndatabase = 'd'\nmax_size = 'many'\n").unwrap();
    fs::write(folder.0.join("broken.toml"), "user = = 'u'\n").unwrap();
    for (arguments, words) in [
        (["--database", "postgres://x"], "--database: is neither mysql://"),
        (["--database", "sqlite:no/such/folder/chat.db"], "unable to open database file"),
        (["--settings", "none.toml"], "could not read the settings file none.toml"),
        (["--settings", "bad.toml"], "bad.toml: max_size: must be a whole number, not a string"),
        (["--settings", "broken.toml"], "broken.toml, line 1: "),
    ] {
        fails(&folder.program(&arguments).output().unwrap(), words);
    }
    let unknown = folder.program(&["--colour"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}
