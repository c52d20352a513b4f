//! `nat`: addresses and ports translated both ways, to backends anywhere that know nothing of it.
//!
//! ```text
//! client C:c -> VIP V:v   forth   source E:n -> backend B:q
//! client C:c <- VIP V:v   back    source E:n <- backend B:q
//! ```
//!
//! One table has an entry for each flow. An entry's place follows from what is translated: its port n is the place in a lane of
//! the table, and the lane is a hash of (B, q, protocol, E, n). So the way back is one read, without a search, and two flows can't
//! have one translated tuple, since they can't have one place. From the client's side an index of short tags leads to the entry
//! ([`flow_table`](crate::flow_table)). Nobody has to collect anything, and established flows are never displaced.
//!
//! Client and backend may have different IP versions: then a packet gets a header of the other one ([`cross`](mod@cross)).
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
};
