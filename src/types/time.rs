//! Durations and ages: as flags write them, and as tables show them.

use crate::error::{Error, Result};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// Go's units of a duration, in nanoseconds; longer names first.
const UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `1h30m`, `90s`, `1.5h`, `300ms` (Go's form), or whole seconds (`90`).
///
/// # Errors
/// `Invalid` for anything else and for what exceeds 292 years.
pub(crate) fn parse_duration(text: &str) -> Result<Duration> {
    let invalid =
        || Error::invalid(format!("invalid duration {text:?}")).hint("for example 90s, 1h30m or 300ms");
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds: u64 = text.parse().map_err(|_| invalid())?;
        return if seconds <= i64::MAX as u64 / 1_000_000_000 {
            Ok(Duration::from_secs(seconds))
        } else {
            Err(invalid())
        };
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (nanos, after) = duration_part(rest).ok_or_else(invalid)?;
        total = total.checked_add(nanos).filter(|sum| i64::try_from(*sum).is_ok()).ok_or_else(invalid)?;
        rest = after;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(Duration::from_nanos(total)) }
}

/// The nanoseconds of the first number and unit, and what follows them.
fn duration_part(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(digits);
    let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let nanos = UNITS.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() {
        0
    } else {
        u128::from(fraction.parse::<u64>().ok()?) * u128::from(nanos) / 10_u128.pow(fraction.len() as u32)
    };
    Some((whole.checked_mul(nanos)?.checked_add(u64::try_from(part).ok()?)?, rest))
}

/// A point in time as `--since`, `--until` and the `until` filter take it: an
/// RFC 3339 time, a date or a time without a zone (the local zone's), seconds
/// since 1970 with an optional fraction, or a duration before `now`.
///
/// # Errors
/// `Invalid` for anything else.
pub(crate) fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp> {
    let invalid = || {
        Error::invalid(format!("invalid time {text:?}"))
            .hint("write a time as 2026-01-02T13:23:37Z, as seconds since 1970, or as a duration such as 42m")
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if digits(seconds) && digits(fraction) && fraction.len() <= 9 {
        let nanos: i32 = format!("{fraction:0<9}").parse().map_err(|_| invalid())?;
        let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
        return Timestamp::new(seconds, nanos).map_err(|_| invalid());
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        let zoned = local.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| invalid())?;
        return Ok(zoned.timestamp());
    }
    let ago = parse_duration(text).map_err(|_| invalid())?;
    let ago = SignedDuration::try_from(ago).map_err(|_| invalid())?;
    now.checked_sub(ago).map_err(|_| invalid())
}

/// `2 minutes`, `About an hour`: docker's words for a length of time.
pub(crate) fn human_duration(length: SignedDuration) -> String {
    let seconds = length.as_secs().max(0);
    let minutes = seconds / 60;
    // Hours are rounded to the nearest, all else is cut: so docker counts.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `2 minutes ago`; a time in the future counts as now.
pub(crate) fn human_age(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", human_duration(now.duration_since(then)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos_or_seconds() {
        for (text, millis) in [
            ("90", 90_000),
            ("0", 0),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            (".5s", 500),
            ("300ms", 300),
            ("2m3.5s", 123_500),
        ] {
            assert_eq!(parse_duration(text).expect(text), Duration::from_millis(millis), "{text}");
        }
        for bad in
            ["", "s", "1x", "-1s", "1h30", "1..5s", ".s", "1.2.3s", "99999999999999999999s", "9999999h"]
        {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn moments_are_times_or_ages() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().expect("valid");
        let moment = |text: &str| parse_moment(text, now).expect(text).to_string();
        assert_eq!(moment("2026-01-01T00:00:00Z"), "2026-01-01T00:00:00Z");
        assert_eq!(moment("2026-01-01T00:00:00+02:00"), "2025-12-31T22:00:00Z");
        assert_eq!(moment("42m"), "2026-01-02T11:18:00Z");
        assert_eq!(moment("1136073600"), "2006-01-01T00:00:00Z");
        assert_eq!(moment("1136073600.5"), "2006-01-01T00:00:00.5Z");
        assert!(parse_moment("2026-01-01", now).is_ok());
        for bad in ["", "yesterday", "-5m", "2026-13-01T00:00:00Z", "1.1234567891"] {
            assert!(parse_moment(bad, now).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn lengths_have_dockers_words() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (14 * 86_400, "2 weeks"),
            (60 * 86_400, "2 months"),
            (800 * 86_400, "2 years"),
            (-5, "Less than a second"),
        ] {
            assert_eq!(human_duration(SignedDuration::from_secs(seconds)), words, "{seconds}");
        }
    }
}
