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
    plan::{Image, NewService, PlanError, Previous, Returned, member_list, plan},
    snapshot::{BackendRecord, PoolRecord, RetiredRecord, ServiceRecord, Snapshot},
    state::{Admin, admin, changed, health, removed, returned, state},
};
