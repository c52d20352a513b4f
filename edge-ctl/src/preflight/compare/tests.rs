//! A host that fits, and everything that can be wrong with it.

use super::*;
use crate::preflight::{Pinned, ports::HostPorts};
use crate::{
    config,
    net::{AttachedXdp, Device, Devices, Survey, SurveyedInterface},
};

const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024

[tunnel]
source_v4 = "10.0.0.1"

[[interface]]
name = "eth0"

[[pool]]
name = "far"
probe = { type = "tcp", port = 80 }
backend = [{ name = "a1", address = "10.1.0.11" }, { name = "a2", address = "10.1.0.12" }]

[[pool]]
name = "near"
probe = { type = "tcp", port = 80 }
backend = [{ name = "b1", address = "10.0.0.11" }, { name = "b2", address = "10.0.0.12" }]

[[service]]
name = "tunnelled"
vips = ["192.0.2.10"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["far"]

[[service]]
name = "direct"
vips = ["192.0.2.11"]
ports = ["80/tcp"]
mode = "dsr"
pools = ["near"]
announce = "l2"
announce_interface = "eth0"
"#;

fn configuration(text: &str) -> Config {
    config::parse(text, "test").unwrap_or_else(|error| panic!("{error}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The destination of packets to a backend.
fn to(address: &str) -> Destination {
    let (config, address) = (configuration(TEXT), ip(address));
    let pool = config.pools.iter().find(|pool| pool.backends.iter().any(|backend| backend.address == address));
    Destinations::of(&config).to(pool.map(|pool| pool.name.as_str()), address)
}

fn via(next_hop: &str) -> SurveyedRoute {
    SurveyedRoute::Via { egress: "eth0".to_owned(), next_hop: ip(next_hop) }
}

/// A host without findings.
fn host() -> Host {
    let eth0 = SurveyedInterface { mtu: 1500, up: true, ethernet: true, ..SurveyedInterface::default() };
    let routes = [
        ("10.1.0.11", via("10.0.0.254")),
        ("10.1.0.12", via("10.0.0.254")),
        ("10.0.0.11", via("10.0.0.11")),
        ("10.0.0.12", via("10.0.0.12")),
    ];
    let sysctls = [
        ("net.core.bpf_jit_enable", 1),
        ("net.ipv4.conf.eth0.forwarding", 1),
        ("net.ipv6.conf.eth0.forwarding", 0),
        ("net.ipv4.conf.all.arp_ignore", 0),
        ("net.ipv4.conf.eth0.arp_ignore", 0),
        ("net.ipv4.neigh.default.gc_thresh3", 1024),
    ];
    Host {
        network: Survey {
            devices: Devices::new(),
            interfaces: [("eth0".to_owned(), eth0)].into(),
            addresses: [ip("10.0.0.1")].into(),
            routes: routes.map(|(address, route)| (to(address), route)).into(),
        },
        sysctls: sysctls.map(|(name, value)| (name.to_owned(), value)).into(),
        ports: HostPorts::default(),
        pinned: Pinned::default(),
        unmade: BTreeMap::new(),
        kernel: None,
    }
}

/// Severity and subject of the findings after `upset`.
fn findings(upset: impl FnOnce(&mut Host)) -> Vec<(Severity, String)> {
    let mut host = host();
    upset(&mut host);
    compare(&configuration(TEXT), &host).into_iter().map(|finding| (finding.severity, finding.subject)).collect()
}

fn error(subject: &str) -> (Severity, String) {
    (Severity::Error, subject.to_owned())
}

fn warning(subject: &str) -> (Severity, String) {
    (Severity::Warning, subject.to_owned())
}

#[test]
fn a_host_that_fits_has_no_findings() {
    assert_eq!(compare(&configuration(TEXT), &host()), []);
}

#[test]
fn a_kernel_that_is_too_old() {
    assert_eq!(findings(|host| host.kernel = Some("this kernel is too old".to_owned())), [error("kernel")]);
}

#[test]
fn interfaces() {
    let eth0 = |change: &dyn Fn(&mut SurveyedInterface)| {
        findings(|host| host.network.interfaces.values_mut().for_each(change))
    };
    assert_eq!(findings(|host| host.network.interfaces.clear()), [error("interface eth0")]);
    let down = eth0(&|eth0| eth0.up = false);
    assert_eq!(down, [error("service direct"), error("service tunnelled"), warning("interface eth0")]);
    let bridge = eth0(&|eth0| eth0.not_native = Some("its egress is a bridge".to_owned()));
    assert_eq!(bridge, [error("service direct"), error("service tunnelled")], "native mode can't send by it");
    let tunnel = eth0(&|eth0| eth0.ethernet = false);
    assert!(tunnel.contains(&error("interface eth0")), "{tunnel:?}");
    assert_eq!(eth0(&|eth0| eth0.mtu = 3498), []);
    assert_eq!(eth0(&|eth0| eth0.mtu = 9000), [warning("interface eth0")]);
    // The driver has accepted this MTU.
    let attached = |generic| Some(AttachedXdp { program: 7, generic });
    assert_eq!(eth0(&|eth0| (eth0.mtu, eth0.xdp) = (9000, attached(false))), []);
    assert_eq!(eth0(&|eth0| (eth0.mtu, eth0.xdp) = (9000, attached(true))), [warning("interface eth0")]);
}

#[test]
fn tags_that_the_driver_takes_out() {
    let with = |vlans, rx_vlan| {
        findings(|host| {
            let eth0 = host.network.interfaces.get_mut("eth0").expect("it is there");
            (eth0.vlans, eth0.offloads.rx_vlan) = (vlans, rx_vlan);
        })
    };
    assert_eq!(with(true, true), [warning("interface eth0")]);
    assert_eq!([with(true, false), with(false, true)], [[], []], "no tags, or all in their frames");
}

#[test]
fn segments_that_are_put_together() {
    let dsr_alone = TEXT.replace("mode = \"ipip\"\npools = [\"far\"]", "mode = \"dsr\"\npools = [\"near\"]");
    let findings = |text: &str, mode: &str, egress: &str| {
        let mut config = configuration(text);
        config.interfaces[0].mode = if mode == "generic" { AttachMode::Generic } else { AttachMode::Native };
        let mut host = host();
        host.network.interfaces.get_mut("eth0").expect("it is there").offloads.gro = true;
        let near = SurveyedRoute::Via { egress: egress.to_owned(), next_hop: ip("10.0.0.11") };
        host.network.routes.insert(to("10.0.0.11"), near);
        compare(&config, &host).into_iter().map(|finding| finding.remedy).collect::<Vec<_>>()
    };
    let remedy = ["ethtool -K eth0 gro off"];
    assert_eq!(findings(TEXT, "generic", "eth0"), remedy, "in a tunnel");
    assert_eq!(findings(&dsr_alone, "generic", "eth1"), remedy, "to another interface");
    assert_eq!(findings(&dsr_alone, "generic", "eth0"), [""; 0], "the kernel divides them again");
    assert_eq!(findings(TEXT, "native", "eth0"), [""; 0], "the program sees frames as they come");
}

#[test]
fn generic_mode_has_no_page_to_fit() {
    let config =
        configuration(&TEXT.replace("name = \"eth0\"\n\n[[pool]]", "name = \"eth0\"\nmode = \"generic\"\n\n[[pool]]"));
    assert_eq!(config.interfaces[0].mode, AttachMode::Generic);
    let mut host = host();
    host.network.interfaces.values_mut().for_each(|eth0| eth0.mtu = 9000);
    assert_eq!(compare(&config, &host), []);
}

#[test]
fn the_tunnels_source() {
    assert_eq!(findings(|host| host.network.addresses.clear()), [warning("tunnel")]);
}

#[test]
fn ranges_of_tunnel_sources_that_the_host_would_send_back() {
    let text = TEXT.replace("[tunnel]", "[tunnel]\nsource_v4_range = \"10.9.0.0/24\"");
    let findings = |ends: [SurveyedRoute; 2], forwarding| {
        let mut host = host();
        let of = |address| Destination::of(ip(address));
        host.network.routes.extend([of("10.9.0.0"), of("10.9.0.255")].into_iter().zip(ends));
        host.sysctls.insert("net.ipv4.conf.eth0.forwarding".to_owned(), forwarding);
        let findings = compare(&configuration(&text), &host).into_iter();
        findings.filter(|finding| finding.subject == "tunnel").map(|finding| finding.remedy).collect::<Vec<_>>()
    };
    let none = || SurveyedRoute::None("unreachable".to_owned());
    let remedy = ["ip route add unreachable 10.9.0.0/24"];
    assert_eq!(findings([via("10.0.0.254"), via("10.0.0.254")], 1), remedy);
    assert_eq!(findings([none(), via("10.0.0.254")], 1), remedy, "a part of it");
    assert_eq!(findings([none(), none()], 1), [""; 0], "a route of its own, or none");
    assert_eq!(findings([via("10.9.0.0"), via("10.9.0.255")], 1), [""; 0], "on the link");
    assert_eq!(findings([via("10.0.0.254"), via("10.0.0.254")], 0), [""; 0], "it does not forward");
}

#[test]
fn settings_of_the_host() {
    let set = |name: &str, value| findings(|host| *host.sysctls.get_mut(name).unwrap() = value);
    assert_eq!(set("net.core.bpf_jit_enable", 0), [warning("net.core.bpf_jit_enable")]);
    assert_eq!(set("net.ipv4.conf.eth0.forwarding", 0), [warning("interface eth0")]);
    assert_eq!(set("net.ipv4.conf.eth0.arp_ignore", 8), [error("service direct")]);
    assert_eq!(set("net.ipv4.conf.all.arp_ignore", 8), [error("service direct")]);
    assert_eq!(set("net.ipv4.conf.eth0.arp_ignore", 2), [error("service direct")], "the VIP is in no network of eth0");
    assert_eq!(set("net.ipv4.conf.eth0.arp_ignore", 1), []);
    let eth0 = |host: &mut Host, upset: &dyn Fn(&mut SurveyedInterface)| {
        upset(host.network.interfaces.get_mut("eth0").unwrap());
    };
    let strict = |address: &str, length| {
        findings(|host| {
            host.sysctls.insert("net.ipv4.conf.all.arp_ignore".to_owned(), 2);
            eth0(host, &|found| found.networks = vec![(address.parse().unwrap(), length)]);
        })
    };
    assert_eq!(strict("192.0.2.1", 24), []);
    assert_eq!(strict("192.0.2.11", 32), [error("service direct")], "no neighbour is in it");
    assert_eq!(strict("10.0.0.1", 24), [error("service direct")]);
    assert_eq!(findings(|host| eth0(host, &|found| found.no_arp = true)), [error("service direct")]);
    let v6 = TEXT.replace("\"192.0.2.11\"", "\"2001:db8::11\"");
    let v6 = configuration(&v6.replace("10.0.0.11", "fd00::11").replace("10.0.0.12", "fd00::12"));
    let mut host_without = host();
    host_without.sysctls.insert("net.ipv6.conf.eth0.disable_ipv6".to_owned(), 1);
    let of_v6: Vec<_> =
        compare(&v6, &host_without).into_iter().filter(|one| one.message.contains("disable_ipv6")).collect();
    assert_eq!(of_v6.len(), 1, "{of_v6:?}");
    // Three next hops: a router and two backends.
    assert_eq!(set("net.ipv4.neigh.default.gc_thresh3", 3), []);
    assert_eq!(set("net.ipv4.neigh.default.gc_thresh3", 2), [warning("net.ipv4.neigh.default.gc_thresh3")]);
    assert_eq!(findings(|host| host.sysctls.clear()), [], "what is not there is not judged");
}

#[test]
fn addresses_of_a_bond_at_each_of_its_ports() {
    let bond = |ports: u32, macs: usize| {
        let list: Vec<_> = (0..macs).map(|number| format!("\"00:00:5e:00:01:{number:02x}\"")).collect();
        let name = "name = \"eth0\"";
        let config = configuration(&TEXT.replacen(name, &format!("{name}\nvirtual_macs = [{}]", list.join(", ")), 1));
        let mut host = host();
        let device = |name: &str, controller| Device {
            name: name.to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            controller,
            bonded: controller.is_some(),
            below: None,
            mtu: 1500,
        };
        host.network.devices.insert(1, device("eth0", None));
        host.network.devices.extend((2..2 + ports).map(|port| (port, device(&format!("port{port}"), Some(1)))));
        compare(&config, &host).into_iter().map(|finding| finding.subject).collect::<Vec<_>>()
    };
    assert_eq!(bond(15, 0), [""; 0]);
    assert_eq!(bond(16, 0), ["interfaces"]);
    assert_eq!(bond(3, 3), [""; 0]);
    assert_eq!(bond(4, 3), ["interfaces"]);
}

#[test]
fn routes_to_backends() {
    let lose = |addresses: &[&str]| {
        findings(|host| {
            for address in addresses {
                host.network.routes.insert(to(address), SurveyedRoute::None("no route".to_owned()));
            }
        })
    };
    assert_eq!(lose(&["10.1.0.11"]), [warning("service tunnelled")]);
    assert_eq!(lose(&["10.1.0.11", "10.1.0.12"]), [error("service tunnelled")]);
    let route = |addresses: &[&str]| {
        findings(|host| host.network.routes.extend(addresses.iter().map(|address| (to(address), via("10.0.0.254")))))
    };
    assert_eq!(route(&["10.0.0.11"]), [warning("pool near")]);
    assert_eq!(route(&["10.0.0.11", "10.0.0.12"]), [error("pool near")]);
    assert_eq!(findings(|host| host.network.addresses.extend([ip("10.0.0.12")])), [warning("pool near")]);
}

#[test]
fn the_configuration_itself() {
    let unprobed = configuration(&TEXT.replacen("probe = { type = \"tcp\", port = 80 }\n", "", 1));
    let findings = compare(&unprobed, &host());
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].severity, findings[0].subject.as_str()), (Severity::Warning, "pool far"));

    let sample = include_str!("../../../../packaging/edge.toml");
    let key = sample.lines().find(|line| line.starts_with("hash_key")).expect("the sample has a key");
    let known = configuration(&TEXT.replace("hash_key = \"000102030405060708090a0b0c0d0e0f\"", key));
    let findings = compare(&known, &host());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].subject, "hash_key");
}
