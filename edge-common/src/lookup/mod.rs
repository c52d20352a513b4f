//! From a packet to its service: the address family's access to the maps, and the service index.

pub mod service_index;

mod family;

pub use self::family::Lookup;
