//! Options that make no sense are errors, never panics.

use std::time::Duration;

use pool::{BuildError, Builder, Fairness, IdleSet, MAX_DURATION, MAX_SIZE_LIMIT};

use super::database::{Call, Database};
use super::support::options;

for_every_kind!(every_bad_option_is_named, every_extreme_option_that_makes_sense_is_accepted);

type Change<I> = fn(Builder<Database, I>) -> Builder<Database, I>;

const TOO_LONG: Duration = MAX_DURATION.saturating_add(Duration::from_nanos(1));

// 45
fn every_bad_option_is_named<I: IdleSet>() {
    let bad: [(&str, Change<I>); 24] = [
        ("max_size", |builder| builder.max_size(0)),
        ("max_size", |builder| builder.max_size(MAX_SIZE_LIMIT + 1)),
        ("max_size", |builder| builder.max_size(usize::MAX)),
        ("capacity", |builder| builder.max_size(3).capacity(2)),
        ("capacity", |builder| builder.capacity(MAX_SIZE_LIMIT + 1)),
        ("keepalive", |builder| builder.keepalive(Duration::ZERO)),
        ("keepalive", |builder| builder.keepalive(TOO_LONG)),
        ("fail_fast_after", |builder| builder.fail_fast_after(TOO_LONG)),
        ("min_idle", |builder| builder.max_size(3).min_idle(4)),
        ("min_idle", |builder| builder.min_idle(usize::MAX)),
        ("max_connecting", |builder| builder.max_connecting(0)),
        ("acquire_timeout", |builder| builder.acquire_timeout(TOO_LONG)),
        ("idle_timeout", |builder| builder.idle_timeout(Duration::ZERO)),
        ("idle_timeout", |builder| builder.idle_timeout(TOO_LONG)),
        ("max_lifetime", |builder| builder.max_lifetime(Duration::ZERO)),
        ("max_lifetime", |builder| builder.max_lifetime(Duration::MAX)),
        ("validate_after_idle", |builder| builder.validate_after_idle(TOO_LONG)),
        ("connect_backoff", |builder| builder.connect_backoff(Duration::ZERO, Duration::from_secs(1))),
        ("connect_backoff", |builder| builder.connect_backoff(Duration::from_secs(2), Duration::from_secs(1))),
        ("connect_backoff", |builder| builder.connect_backoff(Duration::from_secs(1), TOO_LONG)),
        ("fairness", |builder| builder.fairness(Fairness::Bounded(TOO_LONG))),
        ("name", |builder| builder.name("two\0halves")),
        ("max_size", |builder| builder.max_size(0).min_idle(1)),
        ("max_connecting", |builder| builder.max_connecting(0).idle_timeout(Duration::ZERO)),
    ];
    for (number, (field, change)) in bad.into_iter().enumerate() {
        let database = Database::new();
        for built in
            [change(options::<I>()).build(database.clone()), change(options::<I>()).build_unchecked(database.clone())]
        {
            match built {
                Err(BuildError::Config(error)) => {
                    assert_eq!(error.field, field, "option {number}: {error}");
                    assert!(error.to_string().starts_with(&format!("{field}: ")), "{error}");
                }
                Err(error) => panic!("option {number} ({field}): {error}"),
                Ok(_) => panic!("option {number} ({field}) was accepted"),
            }
        }
        assert_eq!(database.asked(Call::Connect), 0);
    }
}

// 45
fn every_extreme_option_that_makes_sense_is_accepted<I: IdleSet>() {
    let good: [Change<I>; 12] = [
        |builder| builder.max_size(1).min_idle(1).max_connecting(usize::MAX),
        |builder| builder.max_size(MAX_SIZE_LIMIT),
        |builder| builder.idle_timeout(None).max_lifetime(None).validate_after_idle(None),
        |builder| builder.idle_timeout(MAX_DURATION).max_lifetime(MAX_DURATION).validate_after_idle(MAX_DURATION),
        |builder| builder.acquire_timeout(MAX_DURATION),
        |builder| builder.capacity(MAX_SIZE_LIMIT),
        |builder| builder.keepalive(MAX_DURATION).fail_fast_after(MAX_DURATION),
        |builder| builder.keepalive(Duration::from_nanos(1)).fail_fast_after(Duration::ZERO),
        |builder| builder.connect_backoff(Duration::from_nanos(1), MAX_DURATION),
        |builder| builder.fairness(Fairness::Bounded(MAX_DURATION)),
        |builder| builder.name(""),
        |builder| builder.name("a name much longer than the fifteen bytes that the system keeps of it"),
    ];
    for change in good {
        let pool = change(options::<I>()).build(Database::new()).unwrap();
        drop(pool.get().unwrap());
        pool.close(Duration::from_secs(5)).unwrap();
    }
}
