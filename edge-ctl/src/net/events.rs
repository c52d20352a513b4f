//! What a watch of the host's network is to look for, and what it reports.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use edge_common::abi::BackendNumber;

use super::{
    next_hop::NextHopEntry,
    stations::Devices,
    way::{Destination, Way},
};

/// What a watch is for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sought {
    pub(crate) backends: Vec<(BackendNumber, Destination)>,
    pub(crate) vips: BTreeSet<IpAddr>,
    /// Interfaces that clients' packets come in by. The routes are those of their VRF; of several VRFs, of the first one that
    /// has a route.
    pub(crate) interfaces: Vec<String>,
    /// Whether the program is in native mode on one of them, and can't send by every device.
    pub(crate) native: bool,
}

/// What changed in the host's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetEvent {
    /// Next hops that changed; in the first event, those of all backends. `None`: unknown, the packet path looks it up per packet.
    NextHops(Vec<(BackendNumber, Option<NextHopEntry>)>),
    /// Ways to backends that changed; in the first event, those of all backends. `None`: there is none.
    Ways(Vec<(BackendNumber, Option<Way>)>),
    /// Whether something can be sent to backends, where that changed; in the first event, of all backends. Why not; `None`:
    /// it can, or it is not known.
    Reach(Vec<(BackendNumber, Option<String>)>),
    /// The interface of this name came, went, came up, went down, or has another MAC address or MTU.
    LinkChanged(String),
    /// The host's devices, first as they are found and then after each change.
    Devices(Devices),
    /// Of each VIP whether it is an address of the host, likewise.
    Vips(BTreeMap<IpAddr, bool>),
}
