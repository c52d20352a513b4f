//! Explains which backend a client's flow goes to, and why: runs the packet path's own code on a copy of the pinned
//! maps, optionally with assumed states of backends.

mod assumption;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, time::Duration};

use edge_common::{
    abi::{self, BackendNumber, Failover, FlowEnds, RETURN_PLACES, State, return_place},
    host::Located,
    maps::Maps as _,
    select,
    wire::tcp::flags,
};
use serde::{Deserialize, Serialize};

pub(crate) use self::assumption::Assumption;
use super::{
    frames,
    inventory::{Inventory, NameError},
};
use crate::{
    bpf::{BpfError, Explained, PinnedMaps, STATION},
    config::{Protocol, Service, configured},
    net,
    plan::{self, Admin},
};

/// The flow to explain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowQuery {
    pub(crate) protocol: Protocol,
    pub(crate) client: SocketAddr,
    pub(crate) vip: SocketAddr,
}

/// Everything that decides about a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Explanation {
    pub(crate) flow: String,
    /// The assumptions made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) assumed: Vec<String>,
    pub(crate) service: Option<ServicePart>,
    /// The service's pools, in order of priority.
    pub(crate) pools: Vec<PoolPart>,
    /// The backend for flows that start in this slot now.
    pub(crate) pick: Option<String>,
    pub(crate) record: Option<RecordPart>,
    /// Treatment of a packet that starts the flow.
    pub(crate) starts: Fate,
    /// Treatment of a later packet of the flow.
    pub(crate) goes_on: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServicePart {
    pub(crate) name: String,
    pub(crate) mode: String,
    pub(crate) slot: u32,
    pub(crate) slots: u32,
    /// The backend that serves the established flows of the slot, and its state.
    pub(crate) owner: Option<String>,
    pub(crate) owner_state: Option<String>,
    /// Whether packets take the lookup beyond the owner.
    pub(crate) looks: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PoolPart {
    pub(crate) name: String,
    pub(crate) serves: bool,
    /// Number of backends that take new flows, and the number needed.
    pub(crate) available: u32,
    pub(crate) needed: u32,
    pub(crate) backends: u32,
    pub(crate) why: String,
}

/// The flow's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordPart {
    pub(crate) backend: Option<String>,
    pub(crate) stage: String,
    pub(crate) silent_seconds: u64,
    /// The source address and port that the backend sees, for a translated flow.
    pub(crate) source: Option<String>,
}

/// Treatment of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fate {
    pub(crate) exit: String,
    pub(crate) meaning: String,
    pub(crate) backend: Option<BackendPart>,
}

/// The backend that a packet goes to, and the route there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BackendPart {
    pub(crate) name: String,
    pub(crate) state: String,
    /// Absent if the kernel looks it up for each packet.
    pub(crate) next_hop: Option<String>,
    pub(crate) egress: Option<String>,
    pub(crate) vlan: Option<u16>,
    pub(crate) mtu: Option<u16>,
    pub(crate) path_mtu: Option<u16>,
}

/// Explains a flow by the contents of the maps.
pub(crate) fn explain(
    maps: &PinnedMaps,
    inventory: &Inventory,
    query: FlowQuery,
    assumptions: &[Assumption],
    now: Duration,
) -> Result<Explanation, ExplainError> {
    let services = concerned(inventory, query);
    let ingress = inventory.config.interfaces.first().map_or(1, |interface| index(&interface.name));
    let mut explained = maps.explained(&services, ingress, now)?;
    let ends = query.ends();
    let record = maps.explain_record(&mut explained, ends, now)?;
    assumption::assume(&mut explained, maps, inventory, &services, assumptions)?;
    let [start, next] = query.frames();
    let located = explained.locate(&start);
    let part = located.and_then(|located| service_part(inventory, &explained, located));
    let (pools, pick) = located.map_or_else(Default::default, |located| pools(inventory, &explained, located));
    let translated = match located {
        Some(located) if located.service_ref.is_translated() => maps.explain_translated(ends, now)?,
        Some(_) | None => None,
    };
    let record = match (record, translated) {
        (_, Some(flow)) => Some(RecordPart {
            backend: inventory.name(flow.backend),
            stage: stage(flow.stage),
            silent_seconds: flow.silent.as_secs(),
            source: flow.source.map(|source| SocketAddr::new(source, flow.source_port).to_string()),
        }),
        (Some(record), None) => Some(RecordPart {
            backend: inventory.name(record.backend),
            stage: stage(record.stage),
            silent_seconds: record.silent.as_secs(),
            source: None,
        }),
        (None, None) => None,
    };
    // The later packet runs first, since the packet that starts a flow may record it.
    let goes_on = match translated {
        Some(flow) => by_entry(inventory, &explained, flow.backend),
        None => fate(inventory, &explained, &next),
    };
    let starts = fate(inventory, &explained, &start);
    Ok(Explanation {
        flow: format!("{} from {} to {}", query.protocol.name(), query.client, query.vip),
        assumed: assumptions.iter().map(ToString::to_string).collect(),
        service: part,
        pools,
        pick,
        record,
        starts,
        goes_on,
    })
}

/// Why a flow cannot be explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExplainError {
    #[error("the pinned maps cannot be used")]
    Maps(#[from] BpfError),
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FlowQuery {
    fn ends(self) -> FlowEnds {
        let Self { protocol, client, vip } = self;
        let protocol = protocol.number();
        FlowEnds { client: client.ip(), client_port: client.port(), vip: vip.ip(), port: vip.port(), protocol }
    }

    /// A packet that starts the flow, and a later one.
    fn frames(self) -> [Vec<u8>; 2] {
        let FlowEnds { client, client_port, vip, port, protocol } = self.ends();
        let frame = |payload: &[u8]| frames::frame(STATION, client, vip, protocol, payload);
        match self.protocol {
            Protocol::Tcp => {
                let segment = |flags| frame(&frames::tcp(client_port, port, flags));
                [segment(flags::SYN), segment(flags::ACK)]
            }
            // A long header of QUIC; for other protocols on UDP an ordinary datagram.
            Protocol::Udp => {
                let datagram = |first: u8| frame(&frames::udp(client_port, port, &[first, 0, 0, 0, 1, 0, 0, 0]));
                [datagram(0xc0), datagram(0x40)]
            }
        }
    }
}

/// Numbers of the services that have the VIP.
fn concerned(inventory: &Inventory, query: FlowQuery) -> Vec<u32> {
    let has = |(service, _): &(&Service, u32)| service.vips.contains(&query.vip.ip());
    inventory.services().filter(has).map(|(_, number)| number).collect()
}

/// Index of an interface; 1, that of the loopback interface, if there is none of this name here.
fn index(name: &str) -> u32 {
    net::index_of(name).ok().flatten().unwrap_or(1)
}

fn service_part(inventory: &Inventory, explained: &Explained, located: Located) -> Option<ServicePart> {
    let number = located.service_ref.service();
    let (service, _) = inventory.services().find(|(_, known)| *known == number)?;
    let owner = located.slot.owner;
    Some(ServicePart {
        name: service.name.clone(),
        mode: located.service_ref.mode().name().to_owned(),
        slot: located.number,
        slots: located.service_ref.slot_mask() + 1,
        owner: inventory.name(owner),
        owner_state: (owner != 0).then(|| state(explained, owner)),
        looks: located.slot.look != 0,
    })
}

/// The service's pools with the reason why each serves or not, by the packet path's rule; and the pick.
fn pools(inventory: &Inventory, explained: &Explained, located: Located) -> (Vec<PoolPart>, Option<String>) {
    let memory = &explained.memory;
    let (Some(view), Some(service)) = (memory.view(), explained.service(located.service_ref.service())) else {
        return Default::default();
    };
    let eligible = select::eligible(memory, view, service, located.number);
    let failover = Failover::from_raw(service.failover);
    let (mut parts, mut served) = (Vec::new(), false);
    for (position, number) in service.pools.into_iter().take(service.pool_count.into()).enumerate() {
        let Some(pool) = memory.pools.get(abi::banked(explained.bank, number.into()) as usize) else { continue };
        let serves = eligible.is_some_and(|(chosen, _)| std::ptr::eq(chosen, pool));
        let open = serves && eligible.is_some_and(|(_, bits)| bits == State::ENABLED);
        let enough = pool.available >= u32::from(pool.min_healthy);
        let why = if open {
            "serves as if all of it were up, since no pool has any that takes new flows".to_owned()
        } else if serves && position < usize::from(failover.first) {
            "serves in spite of the failover, since no pool after it can".to_owned()
        } else if serves && !enough {
            "serves with too few backends, since no pool has enough".to_owned()
        } else if serves {
            "serves".to_owned()
        } else if position < usize::from(failover.first) {
            "passed over by an operator's failover or evacuation".to_owned()
        } else if !enough {
            "too few of its backends take new flows".to_owned()
        } else if return_place(located.number) < pool.withheld {
            format!("comes back by a share of slots, {} of {RETURN_PLACES} still wait, this one too", pool.withheld)
        } else if served {
            "not needed: one before it serves".to_owned()
        } else {
            "not chosen".to_owned()
        };
        served |= serves;
        let name = inventory.pools.iter().position(|known| *known == number);
        parts.push(PoolPart {
            name: name.map_or_else(String::new, |at| configured(&inventory.config.pools[at].name).0.to_owned()),
            serves,
            available: pool.available,
            needed: pool.min_healthy.into(),
            backends: pool.members.into(),
            why,
        });
    }
    let pick = select::pick(memory, view, service, located.number);
    (parts, pick.and_then(|number| inventory.name(number)))
}

fn fate(inventory: &Inventory, explained: &Explained, frame: &[u8]) -> Fate {
    let answer = explained.answer(frame);
    let backend = backend_part(inventory, explained, answer.backend);
    Fate { exit: answer.exit.name().to_owned(), meaning: answer.exit.meaning().trim().to_owned(), backend }
}

/// Treatment of a packet of a translated flow, by its entry.
fn by_entry(inventory: &Inventory, explained: &Explained, backend: BackendNumber) -> Fate {
    Fate {
        exit: "nat".to_owned(),
        meaning: "Translated by its entry, which decides about the flow as long as it lasts.".to_owned(),
        backend: backend_part(inventory, explained, backend),
    }
}

fn backend_part(inventory: &Inventory, explained: &Explained, number: BackendNumber) -> Option<BackendPart> {
    let entry = explained.memory.backends.get(usize::from(number)).filter(|_| number != 0)?;
    let known = entry.next_hop.is_known();
    let some = |value: u16| (value != 0).then_some(value);
    Some(BackendPart {
        name: inventory.name(number).unwrap_or_else(|| format!("number {number}")),
        state: state(explained, number),
        next_hop: known.then(|| hop(entry.next_hop.octets())),
        egress: known.then(|| interface(entry.egress)),
        vlan: some(entry.vlan),
        mtu: some(entry.mtu),
        path_mtu: some(entry.path_mtu),
    })
}

fn hop(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

fn interface(index: u32) -> String {
    net::name_of(index).ok().flatten().unwrap_or_else(|| format!("interface {index}"))
}

fn state(explained: &Explained, number: BackendNumber) -> String {
    let bits = explained.memory.backends.get(usize::from(number)).map_or(0, |backend| backend.state);
    let state = State(bits);
    let health = match plan::health(state) {
        crate::health::Health::Up => "up",
        crate::health::Health::Down => "down",
        crate::health::Health::Unknown => "unknown",
    };
    let forced = if plan::forced(state).is_some() { ", forced" } else { "" };
    let health = format!("{health}{forced}");
    match plan::admin(state) {
        Admin::Enabled if state.has_all(State::NEW) || !state.has_all(State::UP) => health,
        Admin::Enabled => format!("{health}, takes no new flows"),
        Admin::Drained => format!("draining, {health}"),
        Admin::Disabled => format!("disabled, {health}"),
    }
}

fn stage(stage: edge_common::flow_table::Stage) -> String {
    format!("{stage:?}").to_lowercase()
}
