//! `nat`: translates addresses and ports in both directions, for backends anywhere, which are unaware of the
//! translation.
//!
//! ```text
//! client C:c -> VIP V:v   forth   source E:n -> backend B:q
//! client C:c <- VIP V:v   back    source E:n <- backend B:q
//! ```
//!
//! One table has an entry for each flow. An entry's place follows from the translated tuple: the port n determines the
//! place in a lane of the table, and a hash of (B, q, protocol, E, n) determines the lane. So the return direction
//! takes one read, without a search, and two flows can't have the same translated tuple, since they can't have the same
//! place. From the client's side an index of short tags leads to the entry ([`flow_table`](crate::flow_table)). Old
//! entries need no collector, and established flows are never displaced.
//!
//! Client and backend may have different IP versions: the packet's header is then replaced by one of the other version
//! ([`cross`](mod@cross)).
//!
//! An entry pins its flow to a backend; slots and their owners only matter for flows that start.

#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects, reason = "a packet's numbers can be anything"))]

mod sign;
mod read;
mod stage;
mod table;
mod hop;
mod rewrite;
mod send;
mod established;
mod forth;
mod open;
mod tell;
mod back;
mod quote;
mod cross;

pub use self::{
    back::back,
    cross::{cross, cross_error, cross_quote},
    established::established,
    forth::forth,
    hop::Hop,
    open::open,
    quote::{quoted, requote},
    send::send,
    sign::Stamp,
    stage::{after_backend, after_client, timeouts},
    table::{OnePlace, Ports, Translation, place, port_of, tuple},
    tell::tell,
};
