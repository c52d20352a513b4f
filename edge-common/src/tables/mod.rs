//! The tables that the packet path reads and user space builds, and the handover of their slots.

pub mod service_index;
pub mod candidates;
mod member_list;
pub mod servers;
pub mod handover;

pub use self::member_list::member_list;
