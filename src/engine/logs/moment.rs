//! Points in time as `--since` and `--until` write them.

use crate::error::{Error, Result};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Reads a point in time:
/// * a duration before `now`, as Go writes it: `10m`, `1h30m`, `1.5h`;
/// * seconds since the epoch: `1700000000`, `1700000000.5`, and `0`, as in docker;
/// * a date, with or without a time, with or without an offset (then in
///   `zone`): `2023-11-14`, `2023-11-14T22:13`, `2023-11-14T22:13:20.5+01:00`.
///
/// # Errors
/// `Invalid` for anything else, and for times that no calendar has.
pub(crate) fn parse(text: &str, now: Timestamp, zone: impl FnOnce() -> TimeZone) -> Result<Timestamp> {
    let invalid = || {
        Error::invalid(format!("invalid time {text:?}"))
            .hint("give a duration (10m, 1h30m), a date (2024-05-31, 2024-05-31T15:04:05Z) or seconds since the epoch")
    };
    if text.len() > 64 {
        return Err(invalid());
    }
    if let Some(age) = parse_duration(text).filter(|_| text != "0") {
        return now.checked_sub(age).map_err(|_| invalid());
    }
    parse_epoch(text).or_else(|| parse_date(text, zone)).ok_or_else(invalid)
}

/// Go's `time.ParseDuration`: an optional sign, then numbers with units.
pub(crate) fn parse_duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut nanoseconds: i128 = 0;
    loop {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        nanoseconds = nanoseconds.checked_add(decimal(number, unit_nanoseconds(unit)?)?)?;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    let nanoseconds = i64::try_from(if negative { -nanoseconds } else { nanoseconds }).ok()?;
    Some(SignedDuration::from_nanos(nanoseconds))
}

fn unit_nanoseconds(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        // Both the micro sign and the Greek letter.
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// `1`, `1.5`, `.5`, `1.` times `unit`, rounded towards zero.
fn decimal(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || whole.len() > 18 || !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(15)];
    let value = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<i128>().ok() };
    let scale = 10_i128.pow(fraction.len() as u32);
    value(whole)?.checked_mul(unit)?.checked_add(value(fraction)? * unit / scale)
}

/// `SECONDS[.NANOSECONDS]`, at most nine digits after the point.
fn parse_epoch(text: &str) -> Option<Timestamp> {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    if fraction.len() > 9 || text.starts_with('.') {
        return None;
    }
    Timestamp::from_nanosecond(decimal(text, 1_000_000_000)?).ok()
}

fn parse_date(text: &str, zone: impl FnOnce() -> TimeZone) -> Option<Timestamp> {
    // The offset's sign stands after the date, whose dashes are no signs.
    let tail = text.get(10..)?;
    let sign = tail.find(['+', '-', 'Z', 'z']).map(|at| at + 10);
    let (civil, offset) = text.split_at(sign.unwrap_or(text.len()));
    let zone = match offset {
        "" => zone(),
        "Z" | "z" => TimeZone::UTC,
        offset => TimeZone::fixed(parse_offset(offset)?),
    };
    // docker takes an hour without minutes.
    let civil = if civil.len() == 13 { format!("{civil}:00") } else { civil.to_owned() };
    let well_formed = matches!(civil.len(), 10 | 16 | 19..=29) && civil.is_ascii();
    let time: DateTime = civil.parse().ok().filter(|_| well_formed)?;
    zone.to_timestamp(time).ok()
}

/// `+01:00`
fn parse_offset(text: &str) -> Option<Offset> {
    let (sign, rest) = text.split_at(1);
    let (hours, minutes) = rest.split_once(':')?;
    let number = |digits: &str| if digits.len() == 2 { digits.parse::<u8>().ok() } else { None };
    let (hours, minutes) = (number(hours)?, number(minutes).filter(|minutes| *minutes < 60)?);
    let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
    Offset::from_seconds(if sign == "-" { -seconds } else { seconds }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn at(text: &str) -> Option<String> {
        let zone = || TimeZone::fixed(Offset::constant(2));
        parse(text, NOW, zone).ok().map(|time| time.to_string())
    }

    #[test]
    fn every_form_is_understood() {
        for (text, expected) in [
            ("10m", "2023-11-14T22:03:20Z"),
            ("1h30m", "2023-11-14T20:43:20Z"),
            ("1.5h", "2023-11-14T20:43:20Z"),
            ("-1m", "2023-11-14T22:14:20Z"),
            ("1500ms", "2023-11-14T22:13:18.5Z"),
            ("1µs", "2023-11-14T22:13:19.999999Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
            ("1700000000.000000001", "2023-11-14T22:13:20.000000001Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("0s", "2023-11-14T22:13:20Z"),
            ("2023-11-14", "2023-11-13T22:00:00Z"),
            ("2023-11-14Z", "2023-11-14T00:00:00Z"),
            ("2023-11-14T22", "2023-11-14T20:00:00Z"),
            ("2023-11-14T22:13", "2023-11-14T20:13:00Z"),
            ("2023-11-14T22:13Z", "2023-11-14T22:13:00Z"),
            ("2023-11-14T22:13:20", "2023-11-14T20:13:20Z"),
            ("2023-11-14T22:13:20.25-01:30", "2023-11-14T23:43:20.25Z"),
            ("2023-11-14T22:13:20.123456789Z", "2023-11-14T22:13:20.123456789Z"),
        ] {
            assert_eq!(at(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let long = "1".repeat(1000);
        for text in [
            "",
            " ",
            "x",
            "10",
            "m",
            "1x",
            "10m ago",
            "1h-2m",
            "1..5h",
            ".h",
            "--1m",
            "-1700000000",
            "1700000000.",
            "1700000000.0000000001",
            "2023-13-01",
            "2023-11-14T25:00",
            "2023-11-14T22:13:20+1",
            "2023-11-14T22:13:20+01:99",
            "2023-11-14T22:13:20+é",
            "99999999999999999999h",
            "999999999999999999",
            "2023-11-14é",
            &long,
        ] {
            // "10" and "1700000000." are odd but mean seconds since the epoch.
            let odd = ["10", "1700000000."].contains(&text);
            assert_eq!(at(text).is_some(), odd, "{text:?} gives {:?}", at(text));
        }
    }
}
