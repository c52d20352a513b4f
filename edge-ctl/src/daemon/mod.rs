//! The daemon: one task that owns the maps, and its inputs.
//!
//! Data flows one way: probe reports, netlink events and operators' requests go in as messages, and come out as stores
//! into the maps. Nothing else in the process writes the maps.

pub(crate) mod busy;
pub(crate) mod api;
pub(crate) mod client;
mod apply;
mod panics;
mod notify;
mod network;
mod descriptors;
mod fit;
mod retry;
mod faults;
mod attachments;
mod program;
mod rehearsing;
mod sought;
mod probing;
mod probed;
mod reach;
mod panic_mode;
mod hearing;
mod judgement;
mod certificates;
mod returning;
mod scarce;
mod narrow;
mod suspects;
mod nudge;
mod unrecorded;
mod controller;
mod transitions;
mod passes;
mod socket;
mod serve;
mod http;
mod hooks;
mod reading;
mod soak;
mod growth;
mod keeper;
mod chronicle;
mod upgrade;
mod change;
mod evacuating;
mod run;

pub(crate) use self::run::{Directories, Ended, RunError, run};
