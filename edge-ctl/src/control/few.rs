//! The first few of many names, as a person reads them.

/// The first `shown` of these names, and how many more there are.
pub(crate) fn few(names: &[impl AsRef<str>], shown: usize) -> String {
    let more = names.len().saturating_sub(shown);
    let shown: Vec<_> = names.iter().take(shown).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
