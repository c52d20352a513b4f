//! The last line by which a file is seen to be whole.

use super::{
    origin::{ended_files, files},
    problems::Problems,
};

/// The last line of a file that is to be seen to be whole.
pub(crate) const END: &str = "# end";

/// Whether the last line of `text` is [`END`]; blank lines do not count.
pub(crate) fn has_end(text: &str) -> bool {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()) == Some(END)
}

/// What had its last line in the text `old` and is in `new` without: the whole, or a file that it was put together from.
pub(crate) fn lost_end(old: &str, new: &str) -> Option<String> {
    if has_end(old) && !has_end(new) {
        return Some(format!("the last line `{END}`, which the text in force has, is missing"));
    }
    let (here, ended) = (files(new), ended_files(new));
    let lost = ended_files(old).into_iter().find(|file| here.contains(file) && !ended.contains(file))?;
    Some(format!("the last line `{END}` of {lost}, which it has in the text in force, is missing"))
}

/// Nothing may follow the last line.
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
