//! What holds of the flow table, whatever happens in it.

mod state;
mod invariants;
mod flood;
mod lives;
mod killed;
mod together;
mod contended;
mod translated;
mod threads;
