//! Frames for tests, written from the RFCs alone: this module uses no code under test.
//!
//! A frame is described by structs whose every field can be set; fields that are left out, lengths and checksums
//! included, get correct values.

mod checksum;
mod icmp;
mod ip;
mod link;
mod transport;
pub mod verify;

pub use checksum::rfc_1071;
pub use icmp::Icmp;
pub use ip::{Extension, Ip, Payload, labelled};
pub use link::{Frame, Network, Tag};
pub use transport::{ACK, FIN, PSH, RST, SYN, Tcp, Udp};

/// Protocol numbers (IANA).
pub mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const IPV4: u8 = 4;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const IPV6: u8 = 41;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ENCRYPTED: u8 = 50;
    pub const AUTHENTICATED: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION: u8 = 60;
    pub const SCTP: u8 = 132;
}
