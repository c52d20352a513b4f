//! The state directory: `state.json`, and a file for the text of each generation, also for people to read.
//!
//! Each file is written under a temporary name, synced and renamed: after a power cut there is the old or the new one.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use super::{Kept, VERSION};
use crate::{
    bpf,
    config::MAX_FILE,
    control::change::{Entry, checksum},
};

const STATE: &str = "state.json";
/// Directory of a state that could not be read.
pub(super) const UNREAD: &str = "unread";
/// Beginning of the names of texts.
const TEXT: &str = "generation-";
/// Suffix of incomplete files.
const PART: &str = ".part";
/// Most bytes read from `state.json`.
const MAX_STATE: usize = 16 << 20;

/// Reads the state in `directory`; `None` if there is none.
///
/// # Errors
/// When the state cannot be read, or has another version. A generation whose text is missing or damaged is left out.
pub(crate) fn load(directory: &Path) -> io::Result<Option<Kept>> {
    let Some(file) = bpf::if_present(File::open(directory.join(STATE)))? else { return Ok(None) };
    let mut json = Vec::new();
    file.take(MAX_STATE as u64).read_to_end(&mut json)?;
    let mut kept: Kept = serde_json::from_slice(&json)?;
    if kept.version != VERSION {
        return Err(io::Error::other(format!("{STATE} is of version {}, not {VERSION}", kept.version)));
    }
    kept.history.entries.retain_mut(|entry| match read_text(&directory.join(text_name(entry))) {
        Ok(text) if checksum(&text) == entry.checksum => {
            entry.pack(&text);
            true
        }
        _ => false,
    });
    Ok(Some(kept))
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE as u64).read_to_string(&mut text)?;
    Ok(text)
}

/// Replaces the state in `directory` with `kept`.
///
/// # Errors
/// When the state cannot be written; the earlier state is still complete.
pub(crate) fn save(directory: &Path, kept: &Kept) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut wanted = BTreeSet::from([STATE.to_owned()]);
    for entry in &kept.history.entries {
        let name = text_name(entry);
        let path = directory.join(&name);
        if !path.try_exists()? {
            let text = entry.text().ok_or_else(|| io::Error::other(format!("the text of {name} is damaged")))?;
            replace(&path, text.as_bytes())?;
        }
        wanted.insert(name);
    }
    replace(&directory.join(STATE), &serde_json::to_vec_pretty(kept)?)?;
    File::open(directory)?.sync_all()?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with(TEXT) || name.ends_with(PART);
        if ours && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Moves a state that cannot be read, with its texts, into the directory `unread`, so that the next state does not replace
/// it. The state that was set aside before is kept, too, in `unread.1`.
///
/// # Errors
/// When a file cannot be moved.
pub(crate) fn set_aside(directory: &Path) -> io::Result<()> {
    let [newest, before] = [UNREAD.to_owned(), format!("{UNREAD}.1")].map(|name| directory.join(name));
    // A call that was interrupted has moved texts, and not yet the state, which goes last.
    if newest.join(STATE).try_exists()? {
        bpf::if_present(fs::remove_dir_all(&before))?;
        fs::rename(&newest, &before)?;
    }
    fs::create_dir_all(&newest)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEXT) {
            fs::rename(entry.path(), newest.join(entry.file_name()))?;
        }
    }
    bpf::if_present(fs::rename(directory.join(STATE), newest.join(STATE)))?;
    File::open(directory)?.sync_all()
}

/// The name distinguishes texts, even if a generation's number was given twice.
fn text_name(entry: &Entry) -> String {
    format!("{TEXT}{}-{:08x}.toml", entry.generation, entry.checksum)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(PART);
    let part = PathBuf::from(part);
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().inspect_err(|_| {
        // The first error counts; on a full disk this makes room.
        let _unused = fs::remove_file(&part);
    })
}
