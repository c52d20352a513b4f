//! The host's network: neighbours, routes and links by netlink, and the announcement of VIPs.
//!
//! Nothing here writes a BPF map: results go to the daemon as [`NetEvent`]s.

mod agenda;
mod affected;
mod announce;
mod changes;
mod doubt;
mod events;
mod filters;
mod frames;
#[cfg(test)]
pub(crate) mod lab;
mod lookup;
mod names;
mod netlink;
mod next_hop;
mod offloads;
mod private;
mod published;
mod queue;
mod stations;
mod survey;
mod tables;
mod next_hop_objects;
mod watch;
mod route;

pub(crate) use announce::{Announced, Announcer, announce, withdraw};
pub(crate) use changes::Changes;
pub(crate) use events::{NetEvent, Sought};
pub(crate) use filters::{FilterPlace, filter_program};
pub(crate) use names::{index_of, name_of};
pub(crate) use netlink::{AttachedXdp, HostAddresses, NetError, attached_xdp, host_addresses, link_mtu};
pub(crate) use next_hop::NextHopEntry;
pub(crate) use offloads::driver;
pub(crate) use private::{Door, PrivateNet};
pub(crate) use route::{Destination, Destinations, ResolvedRoute};
#[cfg(test)]
pub(crate) use stations::Device;
pub(crate) use stations::{Devices, Receiver, heard_on, stations};
#[cfg(test)]
pub(crate) use survey::SurveyedInterface;
pub(crate) use survey::{Survey, SurveyedRoute, devices, own, survey};
pub(crate) use watch::{Watch, watch};
