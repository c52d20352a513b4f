//! Planning: configuration, health and the operator's decisions in, the exact content of the maps out. Pure.

// Planning is pure: time is an argument or is not needed.
#![deny(clippy::disallowed_methods)]

mod capacity;
mod state;
mod snapshot;
mod image;
mod generation;
mod pools;
mod retired;
mod servers;
mod common;
mod services;
mod index;
mod regions;
mod numbers;
mod error;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    capacity::Capacity,
    error::PlanError,
    generation::plan,
    image::{Edition, Image, NatPlan, NewOwners, NewService, Previous, Region, Returned},
    pools::{candidate_tables, counts, member_list, member_order},
    retired::{Leaving, leaving},
    servers::server_table,
    snapshot::{BackendRecord, CommonRecord, PoolRecord, RetiredRecord, ServiceRecord, Snapshot},
    state::{Admin, Word, admin, changed, condition, forced, health, removed, returned, state, with_word, word},
};
