//! Input and output of a watch of the host's network.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use edge_common::abi::BackendNumber;

use super::{
    next_hop::NextHopEntry,
    route::{Destination, ResolvedRoute},
    stations::Devices,
};

/// The backends, VIPs and interfaces that a watch covers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sought {
    pub(crate) backends: Vec<(BackendNumber, Destination)>,
    pub(crate) vips: BTreeSet<IpAddr>,
    /// Interfaces that receive clients' packets. Routes are looked up in their VRF; with several VRFs, in the first one
    /// that has a route.
    pub(crate) interfaces: Vec<String>,
    /// Whether the program is in native mode on one of them, and so can't send on every device.
    pub(crate) native: bool,
}

/// A change in the host's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetEvent {
    /// Next hops that changed; the first event has those of all backends. `None` if unknown: the packet path looks the
    /// next hop up per packet.
    NextHops(Vec<(BackendNumber, Option<NextHopEntry>)>),
    /// Routes to backends that changed; the first event has those of all backends. `None` if there is no route.
    Routes(Vec<(BackendNumber, Option<ResolvedRoute>)>),
    /// Reachability of backends that changed; the first events have that of all backends. The reason if no packet can be
    /// sent to the backend; `None` if packets can be sent, or if it is not known. Losses are reported before all other
    /// changes, and gains after them.
    Reach(Vec<(BackendNumber, Option<String>)>),
    /// The named interface was added or removed, went up or down, or has another MAC address or MTU.
    LinkChanged(String),
    /// The host's devices: at the start, and after each change.
    Devices(Devices),
    /// Whether each VIP is an address of the host: at the start, and after each change.
    Vips(BTreeMap<IpAddr, bool>),
    /// Links, addresses, routes or rules have changed, perhaps without any of the other events.
    HostChanged,
}
