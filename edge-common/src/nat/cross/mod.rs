//! Between IP versions: an IPv6 client's packets to a backend that has only IPv4, or the other way round (RFC 7915).
//!
//! A packet gets a new network header in the place of the old one and of what stands behind that: options and extension headers
//! are left out, but for those of a fragment. Its flow's entry has the client's ends, and its backend has the others, whatever
//! version each is of.

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
