//! Sizes in bytes: as flags write them, and as tables show them.

use crate::error::{Error, Result};

/// Units of a flag's value, and how often the base is in them.
const FLAG_UNITS: &[(char, u32)] = &[('k', 1), ('m', 2), ('g', 3), ('t', 4), ('p', 5)];

/// Bytes of `512`, `512b`, `64k`, `64kb`, `64KiB`, `1.5g`: docker counts units by 1024,
/// however they are spelled; case does not matter.
///
/// # Errors
/// `Invalid` for anything else, negative sizes and sizes beyond 2⁶³-1 included.
pub(crate) fn parse_bytes(text: &str) -> Result<u64> {
    parse_by(text, 1024)
}

/// As [`parse_bytes`], by 1000: docker and podman count the sizes of logs so.
///
/// # Errors
/// As [`parse_bytes`].
pub(crate) fn parse_decimal_bytes(text: &str) -> Result<u64> {
    parse_by(text, 1000)
}

fn parse_by(text: &str, base: u64) -> Result<u64> {
    let invalid = || {
        Error::invalid(format!("invalid size {text:?}"))
            .hint("a size is a number and b, k, m, g or t, for example 512m")
    };
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let factor = match unit.chars().next() {
        None => 1,
        Some('b') if unit == "b" => 1,
        Some(first) => {
            let known = FLAG_UNITS.iter().find(|(letter, _)| *letter == first).ok_or_else(invalid)?;
            if !matches!(&unit[1..], "" | "b" | "i" | "ib") {
                return Err(invalid());
            }
            base.pow(known.1)
        }
    };
    let bytes = match number.split_once('.') {
        None => number.parse::<u64>().ok().and_then(|whole| whole.checked_mul(factor)),
        Some((whole, fraction)) => scale_fraction(whole, fraction, factor),
    };
    bytes.filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(invalid)
}

/// `whole.fraction` times `factor`, cut to whole bytes; without the rounding
/// of floating point, which would make `0.1g` differ from machine to machine.
fn scale_fraction(whole: &str, fraction: &str, factor: u64) -> Option<u64> {
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let fraction = &fraction[..fraction.len().min(18)];
    let scaled =
        u128::from(fraction.parse::<u64>().ok()?) * u128::from(factor) / 10_u128.pow(fraction.len() as u32);
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    whole.checked_add(u64::try_from(scaled).ok()?)
}

/// `1.09MB`: decimal units and three significant digits, as docker shows sizes
/// of images and of containers.
pub(crate) fn decimal(bytes: u64) -> String {
    show(bytes, 1000.0, 3, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
}

/// `64MiB`: binary units and four significant digits, as docker shows memory.
pub(crate) fn binary(bytes: u64) -> String {
    show(bytes, 1024.0, 4, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
}

#[allow(clippy::cast_precision_loss)] // a few significant digits are shown
fn show(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    let text = significant(value, digits);
    // 999.96 kB has become "1000": the next unit says it better.
    if text.parse::<f64>().is_ok_and(|shown| shown >= base) && unit + 1 < units.len() {
        return format!("1{}", units[unit + 1]);
    }
    format!("{text}{}", units[unit])
}

/// At most so many significant digits, without zeros at the end of a fraction
/// (C's `%.3g` for numbers that need no exponent).
fn significant(value: f64, digits: usize) -> String {
    let mut whole = 1;
    let mut bound = 10.0;
    while value >= bound {
        whole += 1;
        bound *= 10.0;
    }
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_logs_are_decimal() {
        for (text, bytes) in [("512", 512), ("10m", 10_000_000), ("9.025m", 9_025_000), ("5KiB", 5000)] {
            assert_eq!(parse_decimal_bytes(text).expect(text), bytes, "{text}");
        }
        assert!(parse_decimal_bytes("10x").is_err());
    }

    #[test]
    fn sizes_of_flags_are_binary() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("64k", 65_536),
            ("64KiB", 65_536),
            ("64Kb", 65_536),
            ("64 kb", 65_536),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("0.1g", 107_374_182),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text).expect(text), bytes, "{text}");
        }
        let long = format!("0.{}", "9".repeat(100));
        assert_eq!(parse_bytes(&long).expect("digits beyond need are cut"), 0);
        for bad in [
            "",
            "m",
            "-1",
            "+1",
            "1x",
            "1mm",
            "1.2.3",
            "1.",
            ".5m",
            "99999999999g",
            "8388608t",
            "1 0",
            "1e3",
            "１",
        ] {
            assert!(parse_bytes(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn shown_sizes_have_dockers_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1024, "1.02kB"),
            (1_090_000, "1.09MB"),
            (4_270_000, "4.27MB"),
            (124_000_000, "124MB"),
            (999_960, "1MB"),
            (1_500_000_000, "1.5GB"),
            (u64::MAX, "18.4EB"),
        ] {
            assert_eq!(decimal(bytes), text, "{bytes}");
        }
        assert_eq!(binary(64 << 20), "64MiB");
        assert_eq!(binary(3 << 29), "1.5GiB");
        assert_eq!(binary(1023), "1023B");
    }
}
