//! The configuration file that a command reads: a path, standard input, or the default path.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{
    config::{self, Config, ConfigError},
    control::{change::Entry, status::DaemonStatus},
};

/// Default path of the configuration file.
pub(crate) const DEFAULT: &str = "/etc/edge/edge.toml";

/// Standard input: as an argument, and as its name in errors.
const STDIN: (&str, &str) = ("-", "<stdin>");

/// Which file a command reads.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// Configuration file; `-` is standard input.
    #[arg(value_name = "FILE", default_value = DEFAULT)]
    file: PathBuf,
}

impl FileArgs {
    pub(crate) fn load(&self) -> Result<Config, ConfigError> {
        load(&self.file)
    }

    /// The file's absolute path, or the name of standard input, for the history.
    pub(crate) fn absolute(&self) -> String {
        if is_stdin(&self.file) {
            return STDIN.1.to_owned();
        }
        std::path::absolute(&self.file).unwrap_or_else(|_| self.file.clone()).display().to_string()
    }
}

/// The file's name in errors.
impl fmt::Display for FileArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_stdin(&self.file) { f.write_str(STDIN.1) } else { self.file.display().fmt(f) }
    }
}

/// Which file the daemon reads, now and later.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DaemonFileArgs {
    /// Configuration file.
    #[arg(value_name = "FILE", default_value = DEFAULT, value_parser = lasting)]
    file: PathBuf,
    /// The same as FILE.
    #[arg(long, value_name = "FILE", conflicts_with = "file", value_parser = lasting)]
    config: Option<PathBuf>,
}

impl DaemonFileArgs {
    pub(crate) fn path(&self) -> &Path {
        self.config.as_deref().unwrap_or(&self.file)
    }
}

/// Parses a path; refuses standard input, which cannot be read again.
fn lasting(path: &str) -> Result<PathBuf, &'static str> {
    match PathBuf::from(path) {
        path if is_stdin(&path) => Err("the daemon reads its file again on SIGHUP: it takes a path"),
        path => Ok(path),
    }
}

/// Timeout of a reading, as the daemon's: a pipe without a writer or a file system that hangs must not keep a unit from
/// starting.
const PATIENCE: Duration = Duration::from_secs(10);

/// Loads the configuration from `path`, or from standard input for `-`.
///
/// # Errors
/// When the configuration is bad, or a file cannot be read within 10 s. Standard input may be a terminal, and has no
/// timeout.
pub(super) fn load(path: &Path) -> Result<Config, ConfigError> {
    if is_stdin(path) {
        return config::load_from(io::stdin(), STDIN.1);
    }
    let (done, result) = mpsc::sync_channel(1);
    let owned = path.to_owned();
    thread::spawn(move || {
        // The receiver is gone if the reading took too long.
        let _late = done.send(config::load(&owned));
    });
    let late = |_| Err(ConfigError::Late { file: path.display().to_string(), patience: PATIENCE });
    result.recv_timeout(PATIENCE).unwrap_or_else(late)
}

/// The file of the configuration in force: the daemon's, or without a daemon that of the generation's entry in the history.
pub(super) fn in_force(daemon: Option<&DaemonStatus>, entry: Option<&Entry>) -> Option<String> {
    daemon.map(|daemon| daemon.config.clone()).or_else(|| entry?.file.clone())
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN.0)
}
