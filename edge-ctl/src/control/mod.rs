//! Queries and operations on the load balancer: run by the daemon, or by the command line without one.

pub(crate) mod inventory;
pub(crate) mod data_plane;
pub(crate) mod selection;
pub(crate) mod events;
pub(crate) mod operations;
mod deadline;
pub(crate) mod evacuation;
pub(crate) mod failovers;
pub(crate) mod narrow;
pub(crate) mod shadow;
pub(crate) mod frames;
pub(crate) mod status;
pub(crate) mod flow_list;
pub(crate) mod takedown;
pub(crate) mod change;
pub(crate) mod kept;
pub(crate) mod explain;
pub(crate) mod trace;
mod few;
mod short;
mod rates;
pub(crate) mod headline;
pub(crate) mod metrics;
pub(crate) mod offline;
mod causes;
pub(crate) mod incident;
pub(crate) mod doctor;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

pub(crate) use self::{causes::chain, few::few, short::short};
