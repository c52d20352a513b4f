//! The model: configuration, health and the operator's word in, the exact content of the maps out. Pure.

mod capacity;
mod index;
mod plan;
mod regions;
mod snapshot;
mod state;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use self::{
    capacity::{Capacity, LANES},
    plan::{Image, NewService, PlanError, Previous, member_list, plan},
    snapshot::{BackendRecord, PoolRecord, ServiceRecord, Snapshot},
    state::{Admin, admin, health, state},
};
