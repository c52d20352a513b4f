//! Packets that need a longer look: fragments, ICMP errors, and what follows from them, through host and kernel.

#[path = "odd/errors.rs"]
mod errors;
#[path = "odd/fragments.rs"]
mod fragments;
#[path = "odd/fragments_refused.rs"]
mod fragments_refused;
#[path = "odd/limit.rs"]
mod limit;
#[path = "odd/mod.rs"]
mod odd;
#[path = "odd/path_mtu.rs"]
mod path_mtu;
#[path = "odd/quotes.rs"]
mod quotes;
#[path = "odd/told.rs"]
mod told;
