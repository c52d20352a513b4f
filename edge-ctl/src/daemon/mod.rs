//! The daemon: one task that owns the maps, and what it listens to.
//!
//! Data flows one way: probe reports, netlink events and operators' wishes go in as messages, and come out as stores
//! into the maps. Nothing else in the process writes them.

pub(crate) mod api;
mod apply;
mod controller;
pub(crate) mod events;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod inventory;
pub(crate) mod operate;
pub(crate) mod plane;
mod program;
mod run;
mod selection;
mod socket;
pub(crate) mod status;

pub(crate) use self::{
    apply::{announced, detach},
    run::{RunError, run},
};
