//! Numbers for people: three digits and a unit.

/// A time in nanoseconds.
#[must_use]
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 0.01 => format!("{} ns", digits(ns)),
        ns if ns < 999.5 => format!("{} ns", digits(ns)),
        ns if ns < 999.5e3 => format!("{} µs", digits(ns / 1e3)),
        ns if ns < 999.5e6 => format!("{} ms", digits(ns / 1e6)),
        ns => format!("{} s", digits(ns / 1e9)),
    }
}

/// A count or a rate.
#[must_use]
pub fn count(value: f64) -> String {
    match value {
        value if value < 999.5 => digits(value),
        value if value < 999.5e3 => format!("{} k", digits(value / 1e3)),
        value if value < 999.5e6 => format!("{} M", digits(value / 1e6)),
        value => format!("{} G", digits(value / 1e9)),
    }
}

/// How many times as much.
#[must_use]
pub fn times(ratio: f64) -> String {
    format!("{}x", digits(ratio))
}

/// Three significant digits, and no zeros after the last of them that says something.
#[must_use]
pub fn digits(value: f64) -> String {
    let text = match value.abs() {
        0.0 => return "0".to_owned(),
        size if size >= 99.95 => return format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-" { "0".to_owned() } else { text.to_owned() }
}

/// A whole number with thin groups of three.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        assert_eq!(time(5.123), "5.12 ns");
        assert_eq!(time(1_000.0), "1 µs");
        assert_eq!(time(999.7), "1 µs");
        assert_eq!(time(12_345_678.0), "12.3 ms");
        assert_eq!(count(281_400_000.0), "281 M");
        assert_eq!(count(0.0), "0");
        assert_eq!(times(29.96), "30x");
        assert_eq!(digits(0.0123), "0.012");
        assert_eq!(grouped(10_000), "10 000");
        assert_eq!(grouped(500), "500");
    }
}
