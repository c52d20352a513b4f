//! Removal of what is left of labs whose owner is dead, for example after a SIGKILL. Several labs may do so at once.

use std::{
    io::{self, ErrorKind},
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::lab::{PREFIX, base, bpffs, netns};

/// Removes namespaces and files of labs whose owner is dead.
///
/// # Errors
/// If one of them can't be removed. What another sweep has removed meanwhile is no error.
pub fn sweep() -> Result<()> {
    netns::sweep(PREFIX, ownerless)?;
    files(&base())
}

/// Removes the directories of such labs from `base`.
fn files(base: &Path) -> Result<()> {
    let Ok(leftovers) = std::fs::read_dir(base) else { return Ok(()) };
    for entry in leftovers {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().strip_prefix(PREFIX).is_some_and(ownerless) {
            let path = entry.path();
            bpffs::unmount(&path.join("bpf"));
            unless_absent(std::fs::remove_dir_all(&path))
                .with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn unless_absent(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Whether no process has the PID that `name` starts with.
fn ownerless(name: &str) -> bool {
    name.split_once('x')
        .is_some_and(|(pid, _)| pid.parse::<u32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()))
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    /// More than any PID.
    const NOBODY: u32 = u32::MAX;

    #[test]
    fn several_sweeps_at_once_remove_everything() {
        let base = tempfile::tempdir().unwrap();
        for number in 0..200 {
            let dead = base.path().join(format!("{PREFIX}{NOBODY}x{number}"));
            fs::create_dir_all(dead.join("edge/state")).unwrap();
            fs::write(dead.join("edge/log"), "text").unwrap();
        }
        let alive = base.path().join(format!("{PREFIX}{}x0", std::process::id()));
        fs::create_dir(&alive).unwrap();
        thread::scope(|scope| {
            for sweeping in [(); 4].map(|()| scope.spawn(|| files(base.path()))) {
                sweeping.join().unwrap().unwrap();
            }
        });
        let left: Vec<_> = fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [alive]);
    }
}
