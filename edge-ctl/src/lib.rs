//! All of `edge-ctl`. A library for the sake of its benches: nothing else may depend on it.

mod cli;
mod daemon;
mod config;
mod model;
mod health;
mod probe;
mod kernel;
mod net;
mod decap;

pub mod bench;

pub use cli::main;
