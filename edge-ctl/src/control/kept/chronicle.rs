//! Events in the state directory, one line of JSON each: `events.jsonl`, and the previous file once that is full. Best
//! effort, and also for people to read; no decision depends on them.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::Path,
};

use crate::{bpf, control::events::Event};

const NEWEST: &str = "events.jsonl";
const BEFORE: &str = "events.1.jsonl";
/// Size of a file after which another one is begun, bytes.
const MOST: u64 = 1 << 20;

/// Reads the events in `directory`, the oldest first. Skips lines that are damaged or of another version.
///
/// # Errors
/// When a file exists and cannot be read.
pub(crate) fn load_events(directory: &Path) -> io::Result<Vec<Event>> {
    let mut events = Vec::new();
    for name in [BEFORE, NEWEST] {
        let Some(file) = bpf::if_present(File::open(directory.join(name)))? else { continue };
        let mut bytes = Vec::new();
        // The last batch may have made the file longer.
        file.take(2 * MOST).read_to_end(&mut bytes)?;
        events.extend(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Event>(line).ok()));
    }
    Ok(events)
}

/// Appends events to the files in `directory`.
///
/// # Errors
/// When the events cannot be written; earlier events stay.
pub(crate) fn append_events(directory: &Path, events: &[Event]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let newest = directory.join(NEWEST);
    let length = bpf::if_present(fs::metadata(&newest))?.map_or(0, |metadata| metadata.len());
    if length >= MOST {
        fs::rename(&newest, directory.join(BEFORE))?;
    }
    let mut lines = Vec::new();
    // A line that was cut off by a power cut must not spoil the next.
    if length > 0 && length < MOST && !ends_whole(&newest, length)? {
        lines.push(b'\n');
    }
    for event in events {
        serde_json::to_writer(&mut lines, event)?;
        lines.push(b'\n');
    }
    OpenOptions::new().create(true).append(true).open(&newest)?.write_all(&lines)
}

fn ends_whole(path: &Path, length: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt as _;

    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, length - 1)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::events::{EventKind, Events};

    fn events(count: usize, message: &str) -> Vec<Event> {
        let events = Events::new();
        (0..count).for_each(|number| events.report(EventKind::BackendDown, &format!("a/{number}"), message));
        events.last(count)
    }

    #[test]
    fn what_was_added_is_found_again_in_its_order_and_damage_costs_one_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        assert_eq!(load_events(&path).unwrap(), []);
        let all = events(3, "no answer");
        append_events(&path, &all[..2]).unwrap();
        append_events(&path, &all[2..]).unwrap();
        assert_eq!(load_events(&path).unwrap(), all);
        // As a power cut leaves it.
        let text = fs::read_to_string(path.join(NEWEST)).unwrap();
        fs::write(path.join(NEWEST), &text[..text.len() - 9]).unwrap();
        append_events(&path, &all[..1]).unwrap();
        assert_eq!(load_events(&path).unwrap(), [&all[..2], &all[..1]].concat());
        fs::write(path.join(NEWEST), [0xff; 100]).unwrap();
        assert_eq!(load_events(&path).unwrap(), []);
    }

    #[test]
    fn the_disk_is_not_filled() {
        let directory = tempfile::tempdir().unwrap();
        let batch = events(1000, &"x".repeat(200));
        for _ in 0..20 {
            append_events(directory.path(), &batch).unwrap();
        }
        let sizes = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
        let sizes: Vec<_> = sizes.collect();
        assert!(sizes.len() == 2 && sizes.iter().all(|size| *size < 2 * MOST), "{sizes:?}");
        assert_eq!(load_events(directory.path()).unwrap().last(), batch.last());
    }
}
