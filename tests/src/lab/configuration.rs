//! The configuration file of the lab's load balancer.

use std::fmt::Write as _;

use crate::lab::topology::{Backend, EDGE_V4, EDGE_V6, Family, HTTP, Part, Protocol, Provider, SERVICES, Service};

/// How the lab's backends are probed.
#[derive(Clone, Copy, Debug)]
pub struct Probing {
    pub interval_ms: u32,
    pub timeout_ms: u32,
    pub rise: u32,
    pub fall: u32,
}

impl Default for Probing {
    fn default() -> Self {
        Self { interval_ms: 200, timeout_ms: 200, rise: 2, fall: 3 }
    }
}

/// The whole file.
pub fn text(probing: Probing, all_slots: bool) -> String {
    let slots = if all_slots { 65_536 } else { 4_096 };
    let mut text = format!(
        "hash_key = \"6564676520696e2061206c6162212121\"\nslots = {slots}\n\n\
         [tunnel]\nsource_v4 = \"{EDGE_V4}\"\nsource_v6 = \"{EDGE_V6}\"\n\n\
         [[interface]]\nname = \"eth0\"\n\n[[interface]]\nname = \"eth1\"\n"
    );
    for provider in Provider::ALL {
        for part in [Part::Lan, Part::Wan] {
            for family in [Family::V4, Family::V6] {
                text.push_str(&pool(provider, part, family, probing));
            }
        }
    }
    for service in SERVICES {
        text.push_str(&service_section(service));
    }
    text
}

fn pool(provider: Provider, part: Part, family: Family, probing: Probing) -> String {
    let Probing { interval_ms, timeout_ms, rise, fall } = probing;
    let name = provider.pool(part, family);
    let mut text = format!(
        "\n[[pool]]\nname = \"{name}\"\n\
         [pool.probe]\ntype = \"http\"\nport = {HTTP}\npath = \"/healthz\"\n\
         interval = \"{interval_ms}ms\"\ntimeout = \"{timeout_ms}ms\"\nrise = {rise}\nfall = {fall}\n"
    );
    for backend in Backend::of(provider) {
        let address = backend.address(part, family);
        write!(text, "[[pool.backend]]\nname = \"{backend}\"\naddress = \"{address}\"\n")
            .expect("writing to a string succeeds");
    }
    text
}

fn service_section(service: Service) -> String {
    let address = service.address();
    let mode = match service.part {
        Part::Lan => "dsr",
        Part::Wan => "ipip",
    };
    let protocol = match service.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let [first, second] = service.pools();
    let announce = if service.announced { "announce = \"l2\"\nannounce_interface = \"eth0\"\n" } else { "" };
    format!(
        "\n[[service]]\nname = \"{}\"\nvip = \"{}\"\nport = {}\nprotocol = \"{protocol}\"\nmode = \"{mode}\"\n\
         pools = [\"{first}\", \"{second}\"]\n{announce}",
        service.name,
        address.ip(),
        address.port(),
    )
}
