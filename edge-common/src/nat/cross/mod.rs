//! Translation between IP versions: of an IPv6 client's packets to a backend that has only IPv4, or the other way round
//! (RFC 7915).
//!
//! A packet gets a new network header in place of the old one and its options and extension headers, which are left out
//! except for those of a fragment. The flow's entry has the addresses and ports of the client's side, and the
//! backend's entry those of the other side, each in its own IP version.

mod header;
mod route;
mod leave;
mod packet;
mod types;
mod error;

pub use self::{
    error::{cross_error, cross_quote},
    packet::cross,
};
