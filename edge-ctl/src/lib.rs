//! The code of `edge-ctl`. It is a library only for its benches and its fuzzer: nothing else may depend on it.
//!
//! A module imports only from modules that are listed before it here.

mod event_kind;
mod config;
mod health;
mod plan;
mod net;
mod preflight;
mod probe;
mod bpf;
mod xdp;
mod control;
mod daemon;
mod cli;

pub mod bench;
pub mod fuzz;

pub use cli::main;
