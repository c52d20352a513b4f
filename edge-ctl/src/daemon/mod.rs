//! The daemon: one task that owns the maps, and what it listens to.
//!
//! Data flows one way: probe reports, netlink events and operators' wishes go in as messages, and come out as stores
//! into the maps. Nothing else in the process writes them.

mod run;
mod apply;
mod controller;
mod selection;
pub(crate) mod operate;
pub(crate) mod inventory;
pub(crate) mod plane;
pub(crate) mod status;
pub(crate) mod events;
pub(crate) mod api;
mod socket;
#[cfg(test)]
pub(crate) mod fixture;

pub(crate) use self::{
    apply::{announced, detach},
    run::{RunError, run},
};
