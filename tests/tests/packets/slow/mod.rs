//! Packets that need a longer look: fragments, ICMP errors, and what follows from them, through host and kernel.

mod errors;
mod fragments;
mod fragments_refused;
mod limit;
mod world;
mod path_mtu;
mod quotes;
mod told;
