//! Short lists of names, for display.

/// The first `shown` names, and the number of the others.
pub(crate) fn few(names: &[impl AsRef<str>], shown: usize) -> String {
    let more = names.len().saturating_sub(shown);
    let shown: Vec<_> = names.iter().take(shown).map(AsRef::as_ref).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
