//! The options that every command has: the directories of the daemon and of the packet path.

use std::path::{Path, PathBuf};

use crate::daemon::Directories;

/// Heading of the options that every command has.
const DIRECTORIES: &str = "Directories";

/// Directories of the daemon and of the packet path.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_field_names, reason = "the names of the flags")]
pub(crate) struct Dirs {
    /// Directory on a bpffs under which maps, programs and links are pinned.
    #[arg(long, global = true, help_heading = DIRECTORIES, env = "EDGE_PIN_DIR", default_value = "/sys/fs/bpf/edge", value_name = "DIR")]
    pub(crate) pin_dir: PathBuf,
    /// Directory of the daemon's socket and lock file.
    #[arg(long, global = true, help_heading = DIRECTORIES, env = "EDGE_RUN_DIR", default_value = "/run/edge", value_name = "DIR")]
    pub(crate) run_dir: PathBuf,
    /// Directory of the state that survives a reboot: earlier configurations and operators' decisions.
    #[arg(long, global = true, help_heading = DIRECTORIES, env = "EDGE_STATE_DIR", default_value = "/var/lib/edge", value_name = "DIR")]
    pub(crate) state_dir: PathBuf,
}

impl Dirs {
    /// The daemon's directories.
    pub(crate) fn directories<'a>(&'a self, socket: &'a Path) -> Directories<'a> {
        Directories { pin_dir: &self.pin_dir, run_dir: &self.run_dir, state_dir: &self.state_dir, socket }
    }

    /// The daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir.join("edge.sock")
    }
}
