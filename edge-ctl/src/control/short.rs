//! Numbers in few characters, for display.

/// A number in at most five characters: `0`, `9.5`, `120`, `1.2k`, `34M`.
pub(crate) fn short(number: f64) -> String {
    if number < 0.05 {
        return "0".to_owned();
    }
    if number < 9.95 {
        return format!("{number:.1}");
    }
    let (scaled, unit) = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
        .into_iter()
        .find(|(size, _)| number >= size * 0.9995)
        .map_or((number, ""), |(size, unit)| (number / size, unit));
    if scaled < 9.95 && !unit.is_empty() { format!("{scaled:.1}{unit}") } else { format!("{scaled:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.4, 9.94, 9.96, 120.0, 999.4, 999.6, 1234.0, 34_000_000.0].map(short);
        assert_eq!(shown, ["0", "0.4", "9.9", "10", "120", "999", "1.0k", "1.2k", "34M"]);
    }
}
