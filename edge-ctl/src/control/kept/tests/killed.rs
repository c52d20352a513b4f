//! A process that is killed while it writes leaves either the old or the new state, complete, whichever system call it
//! was killed before, and does not disturb later writers.

use edge_tests::killed::{Step, killed_at};

use super::*;

/// Kills the process that writes `after` in place of `before` at each call, and returns the number of calls.
fn everywhere(before: Option<&Kept>, after: &Kept) -> u32 {
    let mut number = 1;
    loop {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge");
        if let Some(before) = before {
            save(&path, before).unwrap();
        }
        let killed = killed_at(Step::Call(number), || save(&path, after).unwrap());
        let found = load(&path).unwrap();
        assert!(found.as_ref() == before || found.as_ref() == Some(after), "call {number}: {found:?}");
        assert!(killed || found.as_ref() == Some(after), "it ended, and it is not there");
        // The next writer.
        save(&path, after).unwrap();
        assert_eq!(load(&path).unwrap().as_ref(), Some(after), "call {number}");
        let files = std::fs::read_dir(&path).unwrap().count();
        assert_eq!(files, 1 + after.history.entries.len(), "call {number}: a state, and its texts");
        if !killed {
            return number - 1;
        }
        number += 1;
    }
}

#[test]
fn a_state_can_be_killed_before_each_call() {
    let three = kept(&[
        (How::Start, "one", Verdict::Good),
        (How::Apply, "two", Verdict::Good),
        (How::Apply, "three", Verdict::Soaking),
    ]);
    let part = |generation: u64, entries: std::ops::Range<usize>| {
        let mut part = Kept { generation, ..three.clone() };
        part.history.entries = part.history.entries.drain(entries).collect();
        part
    };
    // One text is removed, and one is added.
    let (before, after) = (part(2, 0..2), part(3, 1..3));
    for (before, least) in [(Some(&before), 10), (None, 12)] {
        let calls = everywhere(before, &after);
        assert!(calls >= least, "{calls}");
    }
}
