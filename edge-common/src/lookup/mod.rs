//! From a packet to its service and its slot: the keyed hash, and the service index.

pub mod hash;
pub mod service_index;

mod family;

pub use self::family::Lookup;
