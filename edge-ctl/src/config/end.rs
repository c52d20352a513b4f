//! The last line that shows that a file is complete.

use super::{
    origin::{ended_files, files},
    problems::Problems,
};

/// Last line of a file that marks its end. It is optional.
pub(crate) const END: &str = "# end";

/// Whether the last line of `text` is [`END`]; blank lines do not count.
pub(crate) fn has_end(text: &str) -> bool {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()) == Some(END)
}

/// Describes an [`END`] that the text `old` has and `new` lacks: that of the whole text, or of an included file that
/// both texts have. `None` if there is none.
pub(crate) fn lost_end(old: &str, new: &str) -> Option<String> {
    if has_end(old) && !has_end(new) {
        return Some(format!("the last line `{END}`, which the text in force has, is missing"));
    }
    let (here, ended) = (files(new), ended_files(new));
    let lost = ended_files(old).into_iter().find(|file| here.contains(file) && !ended.contains(file))?;
    Some(format!("the last line `{END}` of {lost}, which it has in the text in force, is missing"))
}

/// Refuses text after the line [`END`].
pub(super) fn check_end(text: &str, problems: &Problems<'_>) {
    let mut at = 0;
    let mut lines = text.split_inclusive('\n').map(|line| {
        let start = at;
        at += line.len();
        (start, line.trim())
    });
    if lines.any(|(_, line)| line == END)
        && let Some((at, _)) = lines.find(|(_, line)| !line.is_empty())
    {
        problems.add(
            at,
            format!("something follows the line `{END}`"),
            format!("`{END}` as the last line, or without it"),
        );
    }
}
