//! The key of the keyed hash.

use bytemuck::{Pod, Zeroable};

/// Key of the hash: words of NH, used in order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct HashKey(pub [u32; 12]);
