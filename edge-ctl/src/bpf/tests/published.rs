//! `PUBLISHED` when another program has written over it.

use edge_common::abi::Published;

use super::*;

/// Maps with two generations; the second one is in force.
fn twice_published(pins: &PinDir) -> PinnedMaps {
    let mut pinned = started(pins, &config());
    let image = plan(&pinned, &config());
    pinned.publish(&image).expect("it is the next");
    assert!(!pinned.repair_published());
    pinned
}

#[test]
fn a_published_word_that_is_lost_is_stored_again() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = twice_published(&pins);
    assert!(!pinned.is_bank_damaged().expect("readable"));
    let before = pinned.maps.published.read(0).expect("one value");
    let planned = plan(&pinned, &config());
    // All of it, and the active bank alone, which leaves the generation before.
    let other_bank = Published { active: before.active ^ 1, ..before };
    for damaged in [Published::default(), other_bank] {
        reopened(&pins).maps.published.write(0, damaged).expect("one value");
        assert_ne!(pinned.generation(), 2);
        assert!(pinned.repair_published());
        let after = pinned.maps.published.read(0).expect("one value");
        let bank = before.active as usize;
        assert_eq!((after.active, after.generations[bank]), (before.active, before.generations[bank]));
        assert!(after.edition > before.edition, "no plan from before is published: {after:?}");
        assert!(!pinned.repair_published());
        assert!(!pinned.is_bank_damaged().expect("readable"));
    }
    assert!(matches!(pinned.publish(&planned), Err(BpfError::Stale { .. })));
    let again = plan(&pinned, &config());
    pinned.publish(&again).expect("planned anew");
    assert_eq!(reopened(&pins).generation(), 3);
}

#[test]
fn a_number_that_nobody_has_published_is_not_believed() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = twice_published(&pins);
    let mut damaged = pinned.maps.published.read(0).expect("one value");
    damaged.generations.iter_mut().for_each(|generation| generation.number = 1 << 40);
    pinned.maps.published.write(0, damaged).expect("one value");
    assert!(pinned.repair_published());
    assert_eq!(pinned.generation(), 2);
}

#[test]
fn what_another_writer_has_published_stays() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = twice_published(&pins);
    let mut other = reopened(&pins);
    let theirs = plan(&other, &config());
    other.publish(&theirs).expect("it is the next");
    assert!(!pinned.repair_published());
    assert_eq!(pinned.generation(), 3);
}
