//! Checks that the sources of translated packets are the host's, that nothing else uses their ports, and that a program sees
//! the answers.

use std::{collections::BTreeMap, net::IpAddr};

use edge_common::abi::Mode;

use super::{Findings, Host};
use crate::{
    config::{Config, NatPorts},
    net::{Destinations, SurveyedRoute, heard_on},
};

/// Number of listeners that a finding names.
const NAMED: usize = 3;

pub(super) fn nat(findings: &mut Findings, config: &Config, destinations: &Destinations<'_>, host: &Host) {
    if config.limits.nat_flows.is_none() {
        return;
    }
    answers(findings, config, destinations, host);
    for source in config.nat.sources().filter(|source| !host.network.addresses.contains(source)) {
        findings.fail(
            "nat",
            format!("source {source} is no address of this host: answers of backends do not arrive here"),
            "`ip -br address` lists the addresses of this host",
        );
    }
    let ports = config.nat.ports;
    if let Some(local) = host.ports.local.filter(|(first, last)| ports.meets(*first, *last))
        && !is_reserved(&host.ports.reserved, local, ports)
    {
        let ((first, last), message) = (local, "this host's own connections get ports of it");
        let mut reserved: Vec<_> = host.ports.reserved.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        reserved.push(ports.to_string());
        findings.fail(
            "nat",
            format!("ports {ports}: {message} (net.ipv4.ip_local_port_range is {first} to {last}): answers to them would be lost"),
            format!("sysctl -w net.ipv4.ip_local_reserved_ports={}", reserved.join(",")),
        );
    }
    let sources: Vec<_> = config.nat.sources().collect();
    let is_there = |address: IpAddr| address.is_unspecified() || sources.contains(&address);
    let listening: Vec<_> = (host.ports.listening.iter())
        .filter(|(_, address, port)| ports.meets(*port, *port) && is_there(*address))
        .map(|(protocol, address, port)| format!("{protocol} {}", std::net::SocketAddr::new(*address, *port)))
        .collect();
    if let Some(count) = listening.len().checked_sub(1) {
        let more = count
            .checked_sub(NAMED - 1)
            .filter(|more| *more > 0)
            .map_or(String::new(), |more| format!(" and {more} more"));
        let named = listening.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        findings.warn(
            "nat",
            format!(
                "ports {ports}: sockets of this host receive packets there: {named}{more}; packets of a backend from \
                 the same address and port as one of its clients would go to a client of the edge"
            ),
            "another port for these sockets, or another range in [nat] `ports`",
        );
    }
}

/// Warns of interfaces by which backends are reached, and so most likely answer, and which have no program: the host would take
/// the answers for its own.
fn answers(findings: &mut Findings, config: &Config, destinations: &Destinations<'_>, host: &Host) {
    let heard = heard_on(&host.network.devices, config.interfaces.iter().map(|interface| interface.name.as_str()));
    let translated = config.pools_of(Mode::Nat);
    let pools = config.pools.iter().filter(|pool| translated.contains(pool.name.as_str()));
    let mut unheard = BTreeMap::new();
    for (pool, backend) in pools.flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend))) {
        let destination = destinations
            .not_taken(&pool.name, backend.address)
            .unwrap_or_else(|| destinations.to(Some(&pool.name), backend.address));
        if let Some(SurveyedRoute::Via { egress, .. }) = host.network.routes.get(&destination)
            && !heard.contains(egress)
        {
            unheard.entry(egress).or_insert(backend.address);
        }
    }
    for (interface, backend) in unheard {
        findings.warn(
            &format!("interface {interface}"),
            format!(
                "backends of services in `nat` are reached by it ({backend}), and the file does not name it: answers that \
                 arrive there meet no program, and do not get to the clients"
            ),
            format!("a section [[interface]] with name = \"{interface}\""),
        );
    }
}

/// Whether all ports that the two ranges have in common are reserved.
fn is_reserved(reserved: &[(u16, u16)], (first, last): (u16, u16), ports: NatPorts) -> bool {
    let mut common = first.max(ports.first)..=last.min(ports.last);
    common.all(|port| reserved.iter().any(|(first, last)| *first <= port && port <= *last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        net::{Device, Survey},
        preflight::{Finding, Severity},
    };

    const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
[nat]
source_v4 = ["198.51.100.5"]
[[interface]]
name = "eth0"
[[pool]]
name = "a"
backend = [{ name = "a1", address = "10.1.0.11" }]
[[service]]
name = "web"
vips = ["192.0.2.10"]
ports = ["80/tcp"]
mode = "nat"
pools = ["a"]
"#;

    fn findings(upset: impl FnOnce(&mut Host)) -> Vec<Finding> {
        let config = config::parse(TEXT, "test").unwrap_or_else(|error| panic!("{error}"));
        let destinations = Destinations::of(&config);
        let network = Survey { addresses: ["198.51.100.5".parse().unwrap()].into(), ..Survey::default() };
        let mut host = Host { network, ..Host::default() };
        host.ports.local = Some((32768, 60999));
        upset(&mut host);
        let mut findings = Findings::default();
        nat(&mut findings, &config, &destinations, &host);
        findings.sorted()
    }

    #[test]
    fn a_host_as_it_should_be_is_fine() {
        assert_eq!(findings(|_| ()), []);
        assert_eq!(findings(|host| host.ports.listening = [("TCP", "0.0.0.0".parse().unwrap(), 22)].into()), []);
        let elsewhere = [("TCP", "127.0.0.1".parse().unwrap(), 20000)];
        assert_eq!(findings(|host| host.ports.listening = elsewhere.into()), []);
        assert_eq!(
            findings(|host| (host.ports.local, host.ports.reserved) = (Some((1024, 65535)), vec![(16384, 32767)])),
            []
        );
    }

    #[test]
    fn a_foreign_source_and_the_hosts_own_ports_are_reported() {
        let error = |upset: &dyn Fn(&mut Host)| {
            let findings = findings(upset);
            assert_eq!(findings.len(), 1, "{findings:?}");
            findings.into_iter().next().unwrap()
        };
        assert_eq!(error(&|host| host.network.addresses.clear()).severity, Severity::Error);
        let overlap =
            error(&|host| (host.ports.local, host.ports.reserved) = (Some((20000, 60999)), vec![(20000, 25000)]));
        assert_eq!(
            (overlap.severity, overlap.remedy.as_str()),
            (Severity::Error, "sysctl -w net.ipv4.ip_local_reserved_ports=20000-25000,16384-32767")
        );
        let all: Vec<_> = (20000..20005).map(|port| ("UDP", "198.51.100.5".parse().unwrap(), port)).collect();
        let listener = error(&|host| host.ports.listening = all.iter().copied().collect());
        assert_eq!(listener.severity, Severity::Warning);
        assert!(listener.message.contains("UDP 198.51.100.5:20002 and 2 more"), "{}", listener.message);
    }

    #[test]
    fn an_interface_by_which_answers_arrive_without_a_program_is_named() {
        let by = |egress: &str, devices: &[(&str, Option<u32>)]| {
            let findings = findings(|host| {
                let config = config::parse(TEXT, "test").unwrap_or_else(|error| panic!("{error}"));
                let address = "10.1.0.11".parse().unwrap();
                let via = SurveyedRoute::Via { egress: egress.to_owned(), next_hop: address };
                host.network.routes = [(Destinations::of(&config).to(Some("a"), address), via)].into();
                let device = |(name, below): &(&str, Option<u32>)| Device {
                    name: (*name).to_owned(),
                    mac: None,
                    controller: None,
                    bonded: false,
                    below: *below,
                    mtu: 1500,
                };
                host.network.devices = (2..).zip(devices.iter().map(device)).collect();
            });
            findings.into_iter().map(|finding| (finding.severity, finding.subject)).collect::<Vec<_>>()
        };
        assert_eq!(by("eth0", &[("eth0", None)]), []);
        assert_eq!(by("eth0.7", &[("eth0", None), ("eth0.7", Some(2))]), [], "its frames arrive by eth0");
        let eth1 = [(Severity::Warning, "interface eth1".to_owned())];
        assert_eq!(by("eth1", &[("eth0", None), ("eth1", None)]), eth1);
    }
}
