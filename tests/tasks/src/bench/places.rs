//! Positions of the bench's flows in a table. A half-full table refuses one flow in a million, whose positions are all
//! taken. Here every flow must have an entry, and lookups go by the index, so a flow may take other positions.

use edge_common::{flow_table::Anywhere, hash::Hash};

/// A flow's own positions, followed by others.
pub(super) fn orders(hash: Hash, mask: u32) -> impl Iterator<Item = Anywhere> {
    (0..4).map(move |turn| Anywhere::new(Hash(hash.0.rotate_left(13 * turn)), mask))
}
