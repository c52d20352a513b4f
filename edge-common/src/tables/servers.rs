//! The table of the server numbers in connection IDs: each number is stored at one of a few places.

use crate::{
    abi::{BackendNumber, Cell, ServerCell},
    select::connection::{PLACES, place},
};

/// Builds the table of these distinct numbers and their backends. Its number of cells is a power of two, at least twice the
/// number of servers.
pub fn build(servers: &[(u32, BackendNumber)]) -> Vec<Cell> {
    let mut size = (servers.len() * 2).next_power_of_two();
    // In a larger table fewer numbers share a place, and in one as large as the range of numbers none do.
    loop {
        if let Some(table) = filled(servers, size) {
            return table;
        }
        size *= 2;
    }
}

fn filled(servers: &[(u32, BackendNumber)], size: usize) -> Option<Vec<Cell>> {
    let mut table = vec![Cell::default(); size];
    for &(number, backend) in servers {
        let mut places = (0..PLACES).map(|step| place(number).wrapping_add(step) as usize & (size - 1));
        let free = places.find(|place| table[*place] == Cell::default())?;
        table[free] = ServerCell { number, backend }.into();
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{abi::Service, host::Memory, select::connection::backend};

    proptest! {
        #[test]
        fn each_number_is_found_and_no_other(
            servers in prop::collection::btree_map(prop_oneof![any::<u32>(), 0..600_u32], 1..=u16::MAX, 0..300),
            others in prop::collection::vec(prop_oneof![any::<u32>(), 0..600_u32], 100),
            before in 0..5_usize,
        ) {
            let table = build(&servers.iter().map(|(number, backend)| (*number, *backend)).collect::<Vec<_>>());
            prop_assert!(table.len().is_power_of_two() && table.len() >= servers.len() * 2);
            let (first, mask) = (u32::try_from(before).unwrap(), u32::try_from(table.len()).unwrap() - 1);
            let service = Service { servers: first, server_mask: mask, ..Service::default() };
            let mut memory = Memory::default();
            memory.candidates = [vec![Cell([7; 4]); before], table].concat();
            let known: BTreeMap<_, _> = servers;
            for number in known.keys().copied().chain(others) {
                prop_assert_eq!(backend(&memory, &service, number), known.get(&number).copied().unwrap_or(0));
            }
        }
    }

    #[test]
    fn the_largest_edge_s_numbers_take_little() {
        // Consecutive numbers, as people assign them, and steps of a whole byte.
        for step in [1, 256, 65_536] {
            let servers: Vec<_> = (0..16_000_u16).map(|n| (u32::from(n).wrapping_mul(step), n + 1)).collect();
            assert!(build(&servers).len() <= 1 << 17, "{step}");
        }
    }
}
