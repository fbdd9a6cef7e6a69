//! The time, as people read it. UTC, because the standard library knows no other zone.

use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-11-23 10:00:05`, as the original client writes its times, and the zone.
pub fn date_and_time(ms: u64) -> String {
    let at = at(ms);
    format!("{} {:02}:{:02}:{:02} UTC", at.date(), at.hour(), at.minute(), at.second())
}

/// `2026-11-23`.
pub fn date(ms: u64) -> String {
    at(ms).date().to_string()
}

/// A time that no calendar has is shown as the first of all.
fn at(ms: u64) -> OffsetDateTime {
    i64::try_from(ms / 1000)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_become_dates_and_times() {
        assert_eq!(date_and_time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(date_and_time(951_827_696_789), "2000-02-29 12:34:56 UTC");
        assert_eq!(date(1_795_392_000_000), "2026-11-23");
        assert_eq!(date(u64::MAX), "1970-01-01");
    }
}
