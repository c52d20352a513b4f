//! The flow records as a list: which flow of which service goes to which backend, since when, and how long it was silent.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use comfy_table::{Cell, CellAlignment};
use edge_common::{
    abi::{FlowEnds, FlowRecord, Tracking},
    wire::protocol,
};
use serde::Serialize;

use super::render::{age, finish, table};
use crate::{
    config::{Protocol, Service},
    daemon::inventory::{Inventory, Known, NameError},
};

/// Flow records at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Listing {
    /// How many there are of what was asked for, listed or not.
    pub(crate) records: usize,
    /// By service in the configuration's order, then by backend, then by client.
    pub(crate) flows: Vec<Flow>,
    /// What it means if there are none, for people.
    #[serde(skip)]
    none: String,
}

/// One flow record.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Flow {
    /// Absent where the configuration does not have the service any more.
    pub(crate) service: Option<String>,
    pub(crate) vip: IpAddr,
    pub(crate) port: u16,
    pub(crate) protocol: &'static str,
    pub(crate) client: IpAddr,
    pub(crate) client_port: u16,
    /// `POOL/BACKEND`; absent where the number is nobody's.
    pub(crate) backend: Option<String>,
    /// The backend has left the configuration, and keeps its flows until they end.
    pub(crate) leaving: bool,
    /// Since it was recorded.
    pub(crate) age_seconds: u64,
    /// Since its last packet.
    pub(crate) silent_seconds: u64,
}

/// What is to be listed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    /// Listing of this service only.
    pub(crate) service: Option<&'a str>,
    /// At most so many.
    pub(crate) limit: Option<usize>,
}

/// Lists `records`, which come in no order. `now` is the present time on their clock.
///
/// # Errors
/// When the service that is wanted is not there.
pub(crate) fn list(
    inventory: &Inventory,
    records: &[(FlowEnds, FlowRecord)],
    wanted: Wanted<'_>,
    now: Duration,
) -> Result<Listing, NameError> {
    let only = wanted.service.map(|name| inventory.service(name)).transpose()?.map(|(service, _)| service);
    let services: BTreeMap<_, _> =
        inventory.config.services.iter().enumerate().map(|at| (destination(at.1), at)).collect();
    let backends: BTreeMap<_, _> = inventory.known().map(|known| (known.number, known)).collect();
    let mut flows = Vec::with_capacity(records.len());
    for (ends, record) in records {
        let to = (ends.vip, ends.port, ends.protocol);
        if only.is_none_or(|only| destination(only) == to) {
            let (position, service) =
                services.get(&to).map_or((usize::MAX, None), |(at, service)| (*at, Some(*service)));
            flows.push((position, flow(ends, record, service, backends.get(&record.backend), now)));
        }
    }
    // What has no name comes last.
    flows.sort_unstable_by(|(position, a), (other_position, b)| {
        let unnamed = (position, a.backend.is_none()).cmp(&(other_position, b.backend.is_none()));
        unnamed.then_with(|| (&a.backend, a.client, a.client_port).cmp(&(&b.backend, b.client, b.client_port)))
    });
    let records = flows.len();
    flows.truncate(wanted.limit.unwrap_or(usize::MAX));
    Ok(Listing { records, flows: flows.into_iter().map(|(_, flow)| flow).collect(), none: none(only) })
}

fn destination(service: &Service) -> (IpAddr, u16, u8) {
    (service.vip, service.port, service.protocol.number())
}

fn flow(
    ends: &FlowEnds,
    record: &FlowRecord,
    service: Option<&Service>,
    backend: Option<&Known>,
    now: Duration,
) -> Flow {
    Flow {
        service: service.map(|service| service.name.clone()),
        vip: ends.vip,
        port: ends.port,
        protocol: if ends.protocol == protocol::TCP { Protocol::Tcp.name() } else { Protocol::Udp.name() },
        client: ends.client,
        client_port: ends.client_port,
        backend: backend.map(|known| known.name.clone()),
        leaving: backend.is_some_and(|known| known.leaves),
        age_seconds: now.as_secs().saturating_sub(record.recorded_s.into()),
        silent_seconds: now.saturating_sub(Duration::from_nanos(record.seen_ns)).as_secs(),
    }
}

/// The normal state is said to be that: an empty list alone would look like a failure.
fn none(only: Option<&Service>) -> String {
    match only {
        None => "no flow is recorded, as is normal: each goes to its slot's owner".to_owned(),
        Some(Service { name, tracking: Tracking::Stateless, .. }) => {
            format!("no flow of {name} is recorded: its configuration wants no records")
        }
        Some(Service { name, .. }) => {
            format!("no flow of {name} is recorded, as is normal: each goes to its slot's owner")
        }
    }
}

/// For a terminal.
pub(crate) fn render(flows: &Listing, colour: bool) -> String {
    if flows.records == 0 {
        return format!("{}\n", flows.none);
    }
    let mut rows = table(colour, &["SERVICE", "CLIENT", "BACKEND", "AGE", "SILENT"]);
    for flow in &flows.flows {
        let service =
            flow.service.clone().unwrap_or_else(|| format!("{}/{}", ends(flow.vip, flow.port), flow.protocol));
        let backend = flow.backend.as_deref().unwrap_or("-");
        let leaving = if flow.leaving { " (leaving)" } else { "" };
        rows.add_row([
            Cell::new(service),
            Cell::new(ends(flow.client, flow.client_port)),
            Cell::new(format!("{backend}{leaving}")),
            Cell::new(age(flow.age_seconds)).set_alignment(CellAlignment::Right),
            Cell::new(age(flow.silent_seconds)).set_alignment(CellAlignment::Right),
        ]);
    }
    let records = match flows.records {
        1 => "1 flow record".to_owned(),
        records => format!("{records} flow records"),
    };
    match flows.flows.len() {
        0 => format!("{records}\n"),
        all if all == flows.records => format!("{}\n{records}\n", finish(&rows)),
        some => format!("{}\n{some} of {records}\n", finish(&rows)),
    }
}

/// `192.0.2.10:80`, `[2001:db8::10]:80`.
fn ends(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{daemon::fixture, model::RetiredRecord};

    const NOW: Duration = Duration::from_secs(10_000);

    /// With a backend that is leaving.
    fn inventory() -> Inventory {
        let mut inventory = fixture::inventory();
        let (pool, name) = ("provider-c".to_owned(), "c1".to_owned());
        inventory.leaving.push(RetiredRecord { pool, name, number: 9, address: "10.3.0.11".parse().unwrap() });
        inventory
    }

    /// A record of a flow from `client` to `vip`, `ago` seconds old and half as long silent.
    fn record(client: &str, vip: &str, protocol: u8, backend: u16, ago: u64) -> (FlowEnds, FlowRecord) {
        let [client, vip]: [std::net::SocketAddr; 2] = [client, vip].map(|text| text.parse().unwrap());
        let ends =
            FlowEnds { client: client.ip(), client_port: client.port(), vip: vip.ip(), port: vip.port(), protocol };
        let seen_ns = u64::try_from((NOW.saturating_sub(Duration::from_secs(ago) / 2)).as_nanos()).unwrap();
        let recorded_s = u32::try_from(NOW.as_secs() - ago).unwrap();
        (ends, FlowRecord { seen_ns, recorded_s, backend, ..FlowRecord::default() })
    }

    fn records() -> Vec<(FlowEnds, FlowRecord)> {
        let (web, dns) = ("192.0.2.10:80", "192.0.2.10:53");
        vec![
            record("198.51.100.7:40000", dns, protocol::UDP, 4, 3),
            record("198.51.100.7:40001", web, protocol::TCP, 5, 200),
            record("198.51.100.7:9", web, protocol::TCP, 5, 4000),
            record("[2001:db8::7]:1", "[2001:db8::53]:53", protocol::UDP, 1, 20),
            record("198.51.100.6:50000", web, protocol::TCP, 5, 1),
            record("198.51.100.8:1", web, protocol::TCP, 9, 250),
            record("198.51.100.8:2", web, protocol::TCP, 77, 0),
            record("198.51.100.9:1", web, protocol::TCP, 1, 100),
        ]
    }

    fn listed(records: &[(FlowEnds, FlowRecord)], service: Option<&str>, limit: Option<usize>) -> Listing {
        list(&inventory(), records, Wanted { service, limit }, NOW).unwrap()
    }

    #[test]
    fn by_service_backend_and_client() {
        insta::assert_snapshot!(render(&listed(&records(), None, None), false));
    }

    #[test]
    fn of_one_service_and_only_some() {
        let shown = [
            render(&listed(&records(), Some("web"), Some(2)), false),
            render(&listed(&records(), Some("dns"), Some(2)), false),
            render(&listed(&records(), None, Some(0)), false),
        ];
        insta::assert_snapshot!(shown.join("---\n"));
    }

    #[test]
    fn none_is_the_normal_state() {
        let shown = [None, Some("web"), Some("dns")].map(|service| render(&listed(&[], service, None), false));
        insta::assert_snapshot!(shown.concat());
    }

    #[test]
    fn json_is_stable() {
        let flows = listed(&records(), None, Some(2));
        insta::assert_snapshot!(serde_json::to_string_pretty(&flows).unwrap());
        let unnamed = listed(&records()[3..4], None, None);
        insta::assert_snapshot!("json_of_a_service_that_is_gone", serde_json::to_string_pretty(&unnamed).unwrap());
    }

    #[test]
    fn a_service_that_is_not_there_is_refused() {
        let wanted = Wanted { service: Some("wbe"), limit: None };
        let error = list(&inventory(), &[], wanted, NOW).unwrap_err();
        assert_eq!(error.to_string(), r#"no service "wbe"; did you mean "web"?"#);
    }

    #[test]
    fn a_clock_that_stands_behind_the_records_makes_no_age() {
        let mut records = records();
        records.truncate(1);
        let flows = list(&inventory(), &records, Wanted::default(), Duration::from_secs(1)).unwrap();
        assert_eq!((flows.flows[0].age_seconds, flows.flows[0].silent_seconds), (0, 0));
    }
}
