//! An error with all its causes, as one text.

/// The error and its causes, separated by colons.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some errors repeat their source in their own words.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    shortened(&text)
}

/// Shortens long texts: the verifier's log, which some errors carry, may have megabytes, with the reason at its end.
fn shortened(text: &str) -> String {
    const HEAD: usize = 1000;
    const TAIL: usize = 3000;
    if text.len() <= HEAD + TAIL {
        return text.to_owned();
    }
    let (head, tail) = (text.floor_char_boundary(HEAD), text.ceil_char_boundary(text.len() - TAIL));
    format!("{}\n[… {} bytes …]\n{}", &text[..head], tail - head, &text[tail..])
}
