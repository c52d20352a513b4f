//! Where the bench's flows have their entries. A table that is half full refuses one flow in a million, whose places are all taken;
//! here each must be in it, and whoever looks for it goes by the index.

use edge_common::{flow_table::Anywhere, hash::Hash};

/// A flow's own places, then others.
pub(super) fn orders(hash: Hash, mask: u32) -> impl Iterator<Item = Anywhere> {
    (0..4).map(move |turn| Anywhere::new(Hash(hash.0.rotate_left(13 * turn)), mask))
}
