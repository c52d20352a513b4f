//! Formats figures for people.

use std::fmt::Display;

/// Placeholder for a missing figure.
pub(super) const NONE: &str = "–";

/// A whole number with separated thousands.
pub(super) fn count(value: impl Display) -> String {
    let plain = value.to_string();
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut text = sign.to_owned();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if !fraction.is_empty() {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

/// A number with this many decimals.
pub(super) fn decimals(value: f64, decimals: usize) -> String {
    if value.is_finite() { count(format!("{value:.decimals$}")) } else { NONE.to_owned() }
}

/// A ratio of two times.
pub(super) fn ratio(value: f64) -> String {
    decimals(value, 2)
}

/// A fraction as a percentage.
pub(super) fn percent(value: f64) -> String {
    if value.is_finite() { format!("{} %", decimals(100.0 * value, 1)) } else { NONE.to_owned() }
}

/// Three significant digits, and all digits before the point.
pub(super) fn significant(value: f64) -> String {
    let places = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    decimals(value, places)
}

/// A figure and its unit; times in a suitable unit.
pub(super) fn with_unit(value: f64, unit: &str) -> (String, String) {
    let scales = [("ns", 1.0), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];
    let Some((_, scale)) = scales.iter().find(|(name, _)| *name == unit) else {
        return (significant(value), unit.to_owned());
    };
    let nanoseconds = value * scale;
    let (name, scale) = scales.into_iter().rev().find(|(_, scale)| nanoseconds.abs() >= *scale).unwrap_or(("ns", 1.0));
    (significant(nanoseconds / scale), name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!([0, 999, 1000, 65_536, 1_048_576].map(count), ["0", "999", "1,000", "65,536", "1,048,576"]);
        assert_eq!(count(-123_456), "-123,456");
        assert_eq!(decimals(12_345.678, 1), "12,345.7");
        assert_eq!(decimals(f64::NAN, 1), "–");
    }

    #[test]
    fn a_time_gets_the_unit_that_fits() {
        let all = [(0.4, "ns"), (812.0, "ns"), (1_234_567.0, "ns"), (1500.0, "µs"), (2.5e10, "ns")];
        let texts = all.map(|(value, unit)| with_unit(value, unit)).map(|(value, unit)| format!("{value} {unit}"));
        assert_eq!(texts, ["0.400 ns", "812 ns", "1.23 ms", "1.50 ms", "25.0 s"]);
        assert_eq!(with_unit(45_678.0, "probes/s"), ("45,678".to_owned(), "probes/s".to_owned()));
    }
}
