//! What a run found, as a page with plots.

mod page;
mod targets;
mod plots;
mod table;
mod names;
mod format;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

use super::results::Results;

/// Writes `directory`/performance.md, and its plots to `directory`/performance/. The same results give the same files.
pub(super) fn write(results: &Results, directory: &Path) -> Result<()> {
    let plots = plots::all(results)?;
    let page = page::markdown(results, &plots)?;
    let beside = directory.join("performance");
    fs::create_dir_all(&beside).with_context(|| format!("could not make {}", beside.display()))?;
    // A plot of an earlier run that this one has no figures for must not stay.
    for path in plots::files().map(|file| beside.join(file)) {
        let removed = fs::remove_file(&path);
        if !removed.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            removed.with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    let write =
        |path: &Path, text: &str| fs::write(path, text).with_context(|| format!("could not write {}", path.display()));
    write(&directory.join("performance.md"), &page)?;
    plots.iter().try_for_each(|plot| write(&beside.join(plot.file), &plot.svg))
}
