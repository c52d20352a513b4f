//! The list of flow records in a terminal.

use std::net::{IpAddr, SocketAddr};

use super::table::{Cell, Table, age};
use crate::control::flow_list::Listing;

/// Renders the flow records for a terminal.
pub(crate) fn render(flows: &Listing, colour: bool) -> String {
    if flows.records == 0 {
        return format!("{}\n", flows.none);
    }
    let mut rows = Table::new(colour, ["SERVICE", "CLIENT", "BACKEND", "STATE", "AGE", "SILENT"]);
    for flow in &flows.flows {
        let service =
            flow.service.clone().unwrap_or_else(|| format!("{}/{}", ends(flow.vip, flow.port), flow.protocol));
        let backend = flow.backend.as_deref().unwrap_or("-");
        let retired = if flow.retired { " (retired)" } else { "" };
        rows.row([
            Cell::from(service),
            Cell::from(ends(flow.client, flow.client_port)),
            Cell::from(format!(
                "{backend}{retired}{}",
                flow.source.map_or(String::new(), |source| format!(" from {source}"))
            )),
            Cell::from(flow.stage.to_owned()),
            Cell::from(flow.age_seconds.map_or("-".to_owned(), age)),
            Cell::from(age(flow.silent_seconds)),
        ]);
    }
    let records = match flows.records {
        1 => "1 flow".to_owned(),
        records => format!("{records} flows"),
    };
    match flows.flows.len() {
        0 => format!("{records}\n"),
        all if all == flows.records => format!("{}\n{records}\n", rows.finish()),
        some => format!("{}\n{some} of {records}\n", rows.finish()),
    }
}

/// An address and a port: `192.0.2.10:80`, `[2001:db8::10]:80`.
fn ends(address: IpAddr, port: u16) -> String {
    SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use edge_common::{abi::FlowEnds, flow_table::Stage, wire::protocol};

    use super::*;
    use crate::{
        bpf::FlowRecord,
        control::{
            fixture,
            flow_list::{Wanted, list},
            inventory::Inventory,
        },
        plan::RetiredRecord,
    };

    /// The fixture's inventory, with a retired backend.
    fn inventory() -> Inventory {
        let mut inventory = fixture::inventory();
        let (pool, name) = ("provider-c".to_owned(), "c1".to_owned());
        inventory.retired.push(RetiredRecord {
            pool,
            name,
            number: 9,
            address: "10.3.0.11".parse().unwrap(),
            port: None,
            server: None,
        });
        inventory
    }

    /// A record of a flow from `client` to `vip`, `ago` seconds old and half as long silent.
    fn record(client: &str, vip: &str, protocol: u8, backend: u16, ago: u64) -> (FlowEnds, FlowRecord) {
        let [client, vip]: [SocketAddr; 2] = [client, vip].map(|text| text.parse().unwrap());
        let ends =
            FlowEnds { client: client.ip(), client_port: client.port(), vip: vip.ip(), port: vip.port(), protocol };
        let age = Duration::from_secs(ago);
        let stages = [Stage::HalfOpen, Stage::Established, Stage::Closed, Stage::Reset];
        (ends, FlowRecord { backend, stage: stages[usize::from(backend) % 4], age, silent: age / 2 })
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
        list(&inventory(), records, &[], Wanted { service, limit }).unwrap()
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
        let error = list(&inventory(), &[], &[], wanted).unwrap_err();
        assert_eq!(error.to_string(), r#"no service "wbe"; did you mean "web"?"#);
    }
}
