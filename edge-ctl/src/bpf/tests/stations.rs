//! Stations: a list that changes while packets read it.

use edge_common::abi::{MAX_STATIONS, Mac, Station};
use proptest::prelude::*;

use super::*;

fn list(numbers: &[u8]) -> Vec<Station> {
    numbers.iter().map(|number| Station::new(2, Mac::new([2, 0, 0, 0, 0, *number]))).collect()
}

fn stored(pinned: &PinnedMaps) -> Vec<Station> {
    pinned.stations().into_iter().filter(|station| *station != Station::default()).collect()
}

#[test]
fn they_outlive_a_publication_and_keep_their_order() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &config());
    assert_eq!(stored(&pinned), [], "none before any interface is known");
    for numbers in [&[1, 2, 3][..], &[3, 1], &[4, 3, 1, 2], &[], &[9]] {
        assert_eq!(pinned.set_stations(&list(numbers)), 0);
        assert_eq!(stored(&pinned), list(numbers));
        pinned.publish(&plan(&pinned, &config())).expect("published");
        assert_eq!(stored(&pinned), list(numbers), "after a publication");
    }
    let many = list(&(0..20).collect::<Vec<_>>());
    assert_eq!(pinned.set_stations(&many), 20 - MAX_STATIONS, "so many are left out");
    assert_eq!(stored(&pinned), many[..MAX_STATIONS]);
}

/// A reader beside the writer: a station that stays is found at each look.
#[test]
fn a_station_that_stays_is_never_away() {
    let bpffs = Bpffs::mount();
    let pinned = std::cell::RefCell::new(started(&bpffs.pins(), &config()));
    let reader = reopened(&bpffs.pins());
    proptest!(ProptestConfig::with_cases(64), |(before in permuted(), after in permuted())| {
        pinned.borrow_mut().set_stations(&list(&before));
        let stay: Vec<_> = list(&before).into_iter().filter(|station| list(&after).contains(station)).collect();
        let done = std::sync::atomic::AtomicBool::new(false);
        let missed = std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let mut missed: Vec<Station> = Vec::new();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    // In the packet path's order: each place once, from the first.
                    let seen = reader.stations();
                    missed.extend(stay.iter().copied().filter(|station| !seen.contains(station)));
                }
                missed
            });
            pinned.borrow_mut().set_stations(&list(&after));
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            looks.join().expect("it looks")
        });
        prop_assert_eq!(missed, []);
        prop_assert_eq!(stored(&pinned.borrow()), list(&after));
    });
}

/// Up to 15 distinct numbers in any order, so that one place stays free.
fn permuted() -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::subsequence((0..15).collect::<Vec<u8>>(), 0..15).prop_shuffle()
}
