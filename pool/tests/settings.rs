//! Settings from a file and from the environment: every field, and every way to get one wrong.
#![cfg(feature = "settings")]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use pool::settings::{Origin, Settings, SettingsError};
use tempfile::NamedTempFile;

/// A settings file that is deleted when dropped.
struct File(NamedTempFile);

impl File {
    fn new(content: impl AsRef<[u8]>) -> Self {
        let file = NamedTempFile::with_suffix(".toml").expect("the temporary folder is writable");
        fs::write(&file, content).expect("a new file can be written");
        Self(file)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn error(content: impl AsRef<[u8]>) -> (SettingsError, String) {
        let file = Self::new(content);
        let error = Settings::from_file(file.path()).expect_err("must not be accepted");
        let message = error.to_string();
        assert!(!message.contains('\n'), "more than one line: {message}");
        assert!(
            message.contains(&*file.path().to_string_lossy()) || error.field().is_some(),
            "names no file: {message}"
        );
        (error, message)
    }
}

fn vars(vars: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    vars.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// What is needed beside the line under test.
fn with(line: &str) -> String {
    format!("user = 'chat'\ndatabase = 'chat'\n{line}\n")
}

#[test]
fn a_file_may_set_every_field() {
    let file = File::new(
        "host = 'db.example'\nport = 3307\nuser = 'chat'\npassword = 'secret'\ndatabase = 'talk'\ninitial_size = 2\n\
         max_size = 16\nmax_idle_time_s = 60\nconnection_timeout_ms = 500\n",
    );
    let settings = Settings::from_file(file.path()).unwrap();
    assert_eq!(settings.host, "db.example");
    assert_eq!(settings.port, 3307);
    assert_eq!(settings.user, "chat");
    assert_eq!(settings.password, "secret");
    assert_eq!(settings.database, "talk");
    assert_eq!(settings.initial_size, 2);
    assert_eq!(settings.max_size, 16);
    assert_eq!(settings.max_idle_time, Duration::from_secs(60));
    assert_eq!(settings.connection_timeout, Duration::from_millis(500));
}

#[test]
fn what_is_left_out_has_a_default() {
    let settings = Settings::from_file(&File::new(with("")).0).unwrap();
    assert_eq!((settings.host.as_str(), settings.port), ("127.0.0.1", 3306));
    assert_eq!(settings.password, "");
    assert_eq!((settings.initial_size, settings.max_size), (0, 10));
    assert_eq!(settings.max_idle_time, Duration::from_secs(600));
    assert_eq!(settings.connection_timeout, Duration::from_secs(30));
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = File::new(with("max_size = 4\nhost = 'file'"));
    let vars = vars(&[("POOL_MAX_SIZE", "8"), ("POOL_PASSWORD", "p"), ("OTHER", "x")]);
    let settings = Settings::from_file_and_vars(file.path(), "POOL_", vars).unwrap();
    assert_eq!((settings.max_size, settings.host.as_str(), settings.password.as_str()), (8, "file", "p"));
}

#[test]
fn the_environment_alone_is_enough() {
    let settings = Settings::from_vars("DB_", vars(&[("DB_USER", "u"), ("DB_DATABASE", "d")])).unwrap();
    assert_eq!((settings.user.as_str(), settings.database.as_str()), ("u", "d"));
}

#[test]
fn an_unreadable_file_is_named_with_the_cause() {
    let error = Settings::from_file("/no/such/pool.toml").unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, SettingsError::Unreadable { .. }));
    assert!(message.starts_with("could not read the settings file /no/such/pool.toml: No such file"), "{message}");

    let folder = Settings::from_file(std::env::temp_dir()).unwrap_err();
    assert!(matches!(folder, SettingsError::Unreadable { .. }), "{folder}");
    let (binary, _) = File::error([0xff, 0xfe, b'\n']);
    assert!(matches!(binary, SettingsError::Unreadable { .. }), "{binary}");
    let (huge, _) = File::error("#".repeat(2 * 1024 * 1024));
    assert!(matches!(huge, SettingsError::Unreadable { .. }), "{huge}");
}

#[test]
fn malformed_toml_is_named_with_its_line() {
    let (error, message) = File::error("host = 'a'\nport = = 3\n");
    assert!(matches!(error, SettingsError::Malformed { line: 2, .. }), "{error:?}");
    assert!(message.contains("line 2: "), "{message}");
    let (_, message) = File::error("password = 'hunter2\n");
    assert!(!message.contains("hunter2"), "{message}");
    let (error, _) = File::error("port = 1\nport = 2\n");
    assert!(matches!(error, SettingsError::Malformed { line: 2, .. }), "{error:?}");
}

#[test]
fn a_wrong_type_is_named_with_its_field() {
    for (line, field, problem) in [
        ("port = 'x'", "port", "must be a whole number, not a string"),
        ("max_size = 2.5", "max_size", "must be a whole number, not a float"),
        ("max_size = true", "max_size", "must be a whole number, not a boolean"),
        ("host = 5", "host", "must be a string, not an integer"),
        ("host = ['a']", "host", "must be a string, not an array"),
        ("[host]\na = 1", "host", "must be a string, not a table"),
    ] {
        let (error, message) = File::error(with(line));
        assert_eq!(error.field(), Some(field), "{message}");
        assert!(message.ends_with(&format!("{field}: {problem}")), "{message}");
    }
}

#[test]
fn an_unknown_key_is_an_error_that_lists_the_known_ones() {
    let (error, message) = File::error(with("max_sise = 3"));
    assert_eq!(error.field(), Some("max_sise"));
    assert!(message.contains("max_sise: no such setting; there are host, port, "), "{message}");

    let error = Settings::from_vars("POOL_", vars(&[("POOL_HSOT", "x")])).unwrap_err();
    assert!(error.to_string().starts_with("environment variable POOL_HSOT: no such setting"), "{error}");
}

#[test]
fn a_number_out_of_its_range_is_named_with_the_range() {
    for (line, field, problem) in [
        ("max_size = 0", "max_size", "is 0, must be from 1 to 65536"),
        ("max_size = 65537", "max_size", "is 65537, must be from 1 to 65536"),
        ("max_size = -1", "max_size", "is -1, must be from 1 to 65536"),
        ("port = 0", "port", "is 0, must be from 1 to 65535"),
        ("port = 65536", "port", "is 65536, must be from 1 to 65535"),
        ("max_idle_time_s = 0", "max_idle_time_s", "is 0, must be from 1 to 3153600000"),
        ("connection_timeout_ms = -5", "connection_timeout_ms", "is -5, must be from 0 to 3153600000000"),
    ] {
        let (error, message) = File::error(with(line));
        assert_eq!(error.field(), Some(field), "{message}");
        assert!(message.ends_with(&format!("{field}: {problem}")), "{message}");
    }
}

#[test]
fn more_initial_than_maximum_connections_are_refused() {
    let (error, message) = File::error(with("initial_size = 5\nmax_size = 4"));
    assert_eq!(error.field(), Some("initial_size"));
    assert!(message.ends_with("initial_size: 5 is above max_size, which is 4"), "{message}");

    // The one that was overridden is the one to look at.
    let file = File::new(with("initial_size = 1\nmax_size = 4"));
    let error = Settings::from_file_and_vars(file.path(), "POOL_", vars(&[("POOL_INITIAL_SIZE", "5")])).unwrap_err();
    assert!(error.to_string().starts_with("environment variable POOL_INITIAL_SIZE: 5 is above"), "{error}");
}

#[test]
fn a_bad_value_in_the_environment_is_named_with_its_variable() {
    for (name, value, problem) in [
        ("POOL_PORT", "ten", "must be a whole number, not \"ten\""),
        ("POOL_PORT", "", "must be a whole number, not \"\""),
        ("POOL_MAX_SIZE", "99999999999999999999", "is 99999999999999999999, must be from 1 to 65536"),
        ("POOL_USER", "", "must not be empty"),
    ] {
        let error = Settings::from_vars("POOL_", vars(&[(name, value)])).unwrap_err();
        assert_eq!(error.to_string(), format!("environment variable {name}: {problem}"));
        assert!(matches!(error, SettingsError::Field { origin: Origin::Variable(_), .. }));
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_text_is_an_error() {
    use std::os::unix::ffi::OsStringExt;
    let value = OsString::from_vec(vec![0xff]);
    let error = Settings::from_vars("POOL_", [(OsString::from("POOL_USER"), value)]).unwrap_err();
    assert_eq!(error.to_string(), "environment variable POOL_USER: is not valid UTF-8");
}

#[test]
fn a_missing_field_is_named() {
    let (error, message) = File::error("user = 'chat'\n");
    assert_eq!(error.field(), Some("database"));
    assert!(message.ends_with(".toml: database: is required"), "{message}");
    let (error, _) = File::error("database = 'chat'\n");
    assert_eq!(error.field(), Some("user"));
    let error = Settings::from_vars("POOL_", vars(&[("POOL_DATABASE", "d")])).unwrap_err();
    assert_eq!(error.to_string(), "user: is required; POOL_USER would do");
}

#[test]
fn text_has_limits() {
    let (error, _) = File::error(with(&format!("host = '{}'", "h".repeat(2000))));
    assert_eq!(error.field(), Some("host"));
    let (error, _) = File::error(with("host = \"a\\u0000b\""));
    assert_eq!(error.field(), Some("host"));
}

#[test]
fn the_password_is_never_shown() {
    let settings = Settings::from_file(&File::new(with("password = 'hunter2'")).0).unwrap();
    assert!(!format!("{settings:?}").contains("hunter2"));
    let (_, message) = File::error(with("password = 12345"));
    assert!(message.ends_with("password: must be a string, not an integer"), "{message}");
}

#[test]
fn settings_can_be_a_section_of_a_larger_file() {
    #[derive(serde::Deserialize, Debug)]
    struct Larger {
        database: Settings,
    }
    let larger: Larger = toml::from_str("[database]\nuser = 'u'\ndatabase = 'd'\nmax_size = 3").unwrap();
    assert_eq!(larger.database.max_size, 3);
    let error = toml::from_str::<Larger>("[database]\nuser = 'u'\ndatabase = 'd'\nmax_size = 0").unwrap_err();
    assert!(error.message().contains("max_size: is 0"), "{error}");
}

#[cfg(feature = "mysql")]
#[test]
fn settings_become_options_of_a_connection() {
    let settings =
        Settings::from_file(&File::new(with("host = 'db'\nport = 1\nconnection_timeout_ms = 250")).0).unwrap();
    let opts = settings.mysql_opts();
    assert_eq!((&*opts.get_ip_or_hostname(), opts.get_tcp_port()), ("db", 1));
    assert_eq!((opts.get_user(), opts.get_pass(), opts.get_db_name()), (Some("chat"), None, Some("chat")));
    assert_eq!(opts.get_tcp_connect_timeout(), Some(Duration::from_millis(250)));
    assert!(!opts.get_prefer_socket());
}
