//! The state directory: `state.json`, and a file for each generation's text, for people to read as well.
//!
//! Each file is written beside its place, synced, and renamed: whoever loses power finds the old one or the new one.

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
/// Ends the name of a file that is not complete.
const PART: &str = ".part";
/// Bytes that are read of `state.json`, at most.
const MAX_STATE: usize = 16 << 20;

/// What is kept in `directory`; `None` where nothing is.
///
/// # Errors
/// When it can't be read, or is of another version. A generation whose text is missing or damaged is left out.
pub(crate) fn load(directory: &Path) -> io::Result<Option<Kept>> {
    let Some(file) = bpf::found(File::open(directory.join(STATE)))? else { return Ok(None) };
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

/// Puts `kept` in the place of what is in `directory`.
///
/// # Errors
/// When that is not possible; what was there is still whole.
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
        let ours = name.starts_with("generation-") || name.ends_with(PART);
        if ours && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The name tells texts apart, also where a generation's number was given twice.
fn text_name(entry: &Entry) -> String {
    format!("generation-{}-{:08x}.toml", entry.generation, entry.checksum)
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
