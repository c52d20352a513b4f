//! The text of refusals, for snapshots.

use super::*;

/// Compares with the snapshot, which does not repeat the source text.
macro_rules! check {
    ($text:expr) => {{
        let text = $text;
        insta::with_settings!({ omit_expression => true }, { insta::assert_snapshot!(text) });
    }};
}
pub(super) use check;

/// The change and the text of the refusal, for each case.
pub(super) fn catalogue(cases: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (old, new) in cases {
        assert!(GOOD.contains(old), "nothing to replace: {old}");
        let refusal = refusal(&GOOD.replacen(old, new, 1));
        let new = if new.is_empty() { "(removed)" } else { *new };
        let [old, new] = [*old, new].map(|text| text.replace('\n', " ⏎ "));
        text.extend([old.as_str(), " -> ", &new, "\n", &refusal, "\n\n"]);
    }
    text
}

/// Replaces the random key that errors suggest by a constant.
pub(super) fn without_randomness(text: &str) -> String {
    let mut parts = text.split("hash_key = \"");
    let mut steady = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (key, rest) = part.split_at(32);
        assert!(key.bytes().all(|digit| digit.is_ascii_hexdigit()), "{key}");
        steady.extend(["hash_key = \"", &"?".repeat(32), rest]);
    }
    steady
}
