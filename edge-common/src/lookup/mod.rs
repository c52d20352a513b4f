//! From a packet to its service: what its address family has to do with the maps, and the service index.

pub mod service_index;

mod family;

pub use self::family::Lookup;
