//! Checks that the sources of translated packets are the host's, and that nothing else uses their ports.

use std::net::IpAddr;

use super::{Findings, Host};
use crate::config::{Config, NatPorts};

/// Number of listeners that a finding names.
const NAMED: usize = 3;

pub(super) fn nat(findings: &mut Findings, config: &Config, host: &Host) {
    if config.limits.nat_flows.is_none() {
        return;
    }
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
        net::Survey,
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
        let network = Survey { addresses: ["198.51.100.5".parse().unwrap()].into(), ..Survey::default() };
        let mut host = Host { network, ..Host::default() };
        host.ports.local = Some((32768, 60999));
        upset(&mut host);
        let mut findings = Findings::default();
        nat(&mut findings, &config, &host);
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
}
