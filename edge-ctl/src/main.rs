//! `edge-ctl`: the controller and its command line.

mod cli;
mod config;
mod model;
mod health;
mod probe;
mod kernel;
mod net;
mod daemon;
mod decap;

fn main() {}
