//! The service index: each key at one of its two positions, found by moving others to theirs (cuckoo hashing).

/// Moves after which a table counts as too small. A table a quarter full needs a handful.
const MOST_MOVES: usize = 500;

/// Places the keys `0..count` in a table, whose size is a power of two from `smallest` to `largest`, and returns which
/// key stands at each position; `None` when even the largest has no place for all.
///
/// `positions` gives the two positions of a key for a mask. The result depends on nothing else.
pub(super) fn place(
    count: usize,
    smallest: u32,
    largest: u32,
    positions: impl Fn(usize, u32) -> [u32; 2],
) -> Option<Vec<Option<usize>>> {
    let mut size = smallest.max(1).next_power_of_two();
    while size <= largest {
        if let Some(table) = fill(count, size, |key| positions(key, size - 1)) {
            return Some(table);
        }
        size = size.checked_mul(2)?;
    }
    None
}

fn fill(count: usize, size: u32, positions: impl Fn(usize) -> [u32; 2]) -> Option<Vec<Option<usize>>> {
    let mut table: Vec<Option<usize>> = vec![None; size as usize];
    for key in 0..count {
        let [first, second] = positions(key);
        let mut moving = key;
        let mut to = if table[first as usize].is_none() { first } else { second };
        let mut moves = 0;
        while let Some(evicted) = table[to as usize].replace(moving) {
            moves += 1;
            if moves > MOST_MOVES {
                return None;
            }
            let [first, second] = positions(evicted);
            to = if to == first { second } else { first };
            moving = evicted;
        }
    }
    Some(table)
}
