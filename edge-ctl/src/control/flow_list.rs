//! The flow records as a list: service, backend, age and idle time of each flow.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use edge_common::{
    abi::{BackendNumber, FlowEnds, Tracking},
    flow_table::Stage,
    wire::protocol,
};
use serde::Serialize;

use crate::{
    bpf::{FlowRecord, NatFlow},
    config::{Protocol, Service, configured, configured_backend},
    control::inventory::{Inventory, Known, NameError},
};

/// Flow records and translated flows at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Listing {
    /// Number of matching flows, listed or not.
    pub(crate) records: usize,
    /// By service in the configuration's order, then by backend, then by client.
    pub(crate) flows: Vec<Flow>,
    /// Text to show if the list is empty.
    #[serde(skip)]
    pub(crate) none: String,
}

/// One flow record, or a translated flow.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Flow {
    /// Absent where the configuration no longer has the service.
    pub(crate) service: Option<String>,
    pub(crate) vip: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: &'static str,
    pub(crate) client: IpAddr,
    pub(crate) client_port: u16,
    /// `POOL/BACKEND`; absent where no backend has the number.
    pub(crate) backend: Option<String>,
    /// Source of a translated flow, as the backend sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<SocketAddr>,
    /// The backend is retired: removed from the configuration, it keeps its flows until they end.
    pub(crate) retired: bool,
    /// Stage of the flow as far as its packets show it: `half open`, `established`, `closed` or `reset`. A translated
    /// flow has more stages, since the packets of both sides are seen.
    pub(crate) stage: &'static str,
    /// Seconds since the flow was recorded; absent for a translated flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) age_seconds: Option<u64>,
    /// Seconds since the flow's last packet.
    pub(crate) silent_seconds: u64,
}

/// The flows to list.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// Only flows of this service.
    pub(crate) service: Option<&'a str>,
    /// At most this number of flows.
    pub(crate) limit: Option<usize>,
}

/// Lists `records` and `translated`, which are in no order.
///
/// # Errors
/// If the wanted service does not exist.
pub(crate) fn list(
    inventory: &Inventory,
    records: &[(FlowEnds, FlowRecord)],
    translated: &[(FlowEnds, NatFlow)],
    wanted: Wanted<'_>,
) -> Result<Listing, NameError> {
    let only = wanted.service.map(|name| inventory.service(name)).transpose()?;
    let services = Owners::of(&inventory.config.services);
    let backends: BTreeMap<_, _> = inventory.known().map(|known| (known.number, known)).collect();
    let mut flows = Vec::with_capacity(records.len() + translated.len());
    let records = records.iter().map(|(ends, record)| (ends, record.into()));
    for (ends, record) in records.chain(translated.iter().map(|(ends, flow)| (ends, Seen::from(flow)))) {
        let owner = services.owner(ends);
        let is_wanted = |only: &Vec<(&Service, u32)>| {
            owner.is_some_and(|(_, service)| only.iter().any(|(only, _)| only.name == service.name))
        };
        if only.as_ref().is_none_or(is_wanted) {
            let (position, service) = owner.map_or((usize::MAX, None), |(at, service)| (at, Some(service)));
            flows.push((position, flow(ends, &record, service, backends.get(&record.backend))));
        }
    }
    // Flows without a known service or backend come last.
    flows.sort_unstable_by(|(position, a), (other_position, b)| {
        let unnamed = (position, a.backend.is_none()).cmp(&(other_position, b.backend.is_none()));
        unnamed.then_with(|| (&a.backend, a.client, a.client_port).cmp(&(&b.backend, b.client, b.client_port)))
    });
    let records = flows.len();
    flows.truncate(wanted.limit.unwrap_or(usize::MAX));
    Ok(Listing {
        records,
        flows: flows.into_iter().map(|(_, flow)| flow).collect(),
        none: none(only.and_then(|only| only.first().map(|(service, _)| *service))),
    })
}

/// The services that flows belong to, by VIP and protocol.
struct Owners<'a>(HashMap<(IpAddr, u8), Ranges<'a>>);

/// Port ranges by their first port: last port, position of the service, and the service.
type Ranges<'a> = BTreeMap<u16, (u16, usize, &'a Service)>;

impl<'a> Owners<'a> {
    fn of(services: &'a [Service]) -> Self {
        let mut owners: HashMap<_, BTreeMap<_, _>> = HashMap::new();
        for (at, service) in services.iter().enumerate() {
            for (vip, ports) in service.vips.iter().flat_map(|vip| service.ports.iter().map(move |ports| (vip, ports)))
            {
                let here = owners.entry((*vip, ports.protocol.number())).or_default();
                here.insert(ports.first, (ports.last, at, service));
            }
        }
        Self(owners)
    }

    /// The service that has the flow's port, or else the one with all other ports, and its position.
    fn owner(&self, ends: &FlowEnds) -> Option<(usize, &'a Service)> {
        let here = self.0.get(&(ends.vip, ends.protocol))?;
        let range = here.range(..=ends.port).next_back().map(|(_, range)| range);
        let (_, at, service) = range.filter(|(last, ..)| ends.port <= *last).or_else(|| here.get(&0))?;
        Some((*at, service))
    }
}

/// Common data of a flow record and of a translated flow.
struct Seen {
    backend: BackendNumber,
    source: Option<SocketAddr>,
    stage: Stage,
    age: Option<Duration>,
    silent: Duration,
}

impl From<&FlowRecord> for Seen {
    fn from(&FlowRecord { backend, stage, age, silent }: &FlowRecord) -> Self {
        Self { backend, source: None, stage, age: Some(age), silent }
    }
}

impl From<&NatFlow> for Seen {
    fn from(&NatFlow { backend, source, source_port, stage, silent }: &NatFlow) -> Self {
        Self { backend, source: source.map(|source| SocketAddr::new(source, source_port)), stage, age: None, silent }
    }
}

fn flow(ends: &FlowEnds, record: &Seen, service: Option<&Service>, backend: Option<&Known>) -> Flow {
    Flow {
        service: service.map(|service| configured(&service.name).0.to_owned()),
        vip: ends.vip,
        port: ends.port,
        protocol: if ends.protocol == protocol::TCP { Protocol::Tcp.name() } else { Protocol::Udp.name() },
        client: ends.client,
        client_port: ends.client_port,
        backend: backend.map(|known| configured_backend(&known.name)),
        source: record.source,
        retired: backend.is_some_and(|known| known.retired),
        stage: stage(record.stage),
        age_seconds: record.age.map(|age| age.as_secs()),
        silent_seconds: record.silent.as_secs(),
    }
}

const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::HalfOpen => "half open",
        Stage::Established => "established",
        Stage::Answered => "answered",
        Stage::ClientClosed => "closed by the client",
        Stage::BackendClosed => "closed by the backend",
        Stage::Finished => "closed, by the client first",
        Stage::Closed => "closed",
        Stage::Reset => "reset",
    }
}

/// The text for an empty list, which describes the normal state.
fn none(only: Option<&Service>) -> String {
    match only {
        None => "no flow is recorded, as is normal: each goes to its slot's owner".to_owned(),
        Some(service) if service.ports.iter().all(|ports| ports.tracking == Tracking::Stateless) => {
            let (name, _) = configured(&service.name);
            format!("no flow of {name} is recorded: its configuration has `flow_table = false`")
        }
        Some(service) => {
            let (name, _) = configured(&service.name);
            format!("no flow of {name} is recorded, as is normal: each goes to its slot's owner")
        }
    }
}
