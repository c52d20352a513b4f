//! XDP programs of the edge and the decapsulation: load, attach by a pinned link, replace in place, detach. Also the tc
//! programs of probes, which are not pinned.

mod sys;
mod features;
mod error;
mod link;
mod calls;
mod tc;
mod edge;
mod edge_links;
mod rehearsal;
mod decap;
mod decap_maps;
mod decap_mss;
mod decap_pins;
mod decap_prefix;
mod probes;
mod traces;
mod traced;

#[cfg(test)]
mod tests;

pub(crate) use self::{
    decap::{Decapsulation, attach as attach_decap, detach as detach_decap, look as look_at_decap},
    decap_maps::Accepted,
    decap_mss::MssPlan,
    decap_pins::DecapPins,
    decap_prefix::Prefix,
    edge::{EdgeProgram, detach_all, make_room},
    edge_links::{attached, attached_besides, attached_by_others, attached_here, detach_interface},
    error::XdpError,
    features::{check_kernel, release},
    link::interface_index,
    probes::ProbePrograms,
    rehearsal::{Ran, Rehearsal},
    traced::{TraceCounts, TracedProgram},
};

/// The eBPF object: the load balancer and the decapsulation program.
pub(crate) const OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EDGE_OBJECT"));

/// The object of the load balancer for traces.
const TRACED_OBJECT: &[u8] = aya::include_bytes_aligned!(env!("EDGE_TRACED_OBJECT"));
