//! Reads a configuration from a path or an open file, with all files that it includes.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use super::{
    Config, ConfigError, MAX_FILE,
    error::{Problem, Refusal},
    include::expand,
    parse,
    problems::decode,
};

/// Reads and checks the file at `path`, with the files that it includes.
///
/// # Errors
///
/// [`ConfigError::Unreadable`] when there is no such file or it can't be read, [`ConfigError::Refused`] with everything
/// that is wrong in it.
pub(crate) fn load(path: &Path) -> Result<Config, ConfigError> {
    let file = path.display().to_string();
    match File::open(path) {
        Ok(opened) => load_from(opened, &file),
        Err(source) => Err(ConfigError::Unreadable { file, source }),
    }
}

/// Does the same for an open file; `file` is its name in the errors, and its directory that of included files.
///
/// # Errors
///
/// As of [`load`].
pub(crate) fn load_from(opened: impl io::Read, file: &str) -> Result<Config, ConfigError> {
    let mut bytes = Vec::new();
    // No more than the limit is read, since a device may never end.
    let read = opened.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let text = decode(&bytes).map_err(|problem| refused(problem, file))?;
    parse(&expand(text, file)?, file)
}

/// Checks the content of a single file, which may be invalid UTF-8.
///
/// # Errors
///
/// [`ConfigError::Refused`] with everything that is wrong.
pub(crate) fn parse_bytes(bytes: &[u8], file: &str) -> Result<Config, ConfigError> {
    parse(decode(bytes).map_err(|problem| refused(problem, file))?, file)
}

fn refused(problem: Problem, file: &str) -> ConfigError {
    ConfigError::Refused(Refusal { file: file.to_owned(), problems: vec![problem] })
}
