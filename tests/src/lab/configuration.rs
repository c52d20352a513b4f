//! The configuration file of the lab's load balancer.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::lab::topology::{
    Backend, EDGE_V4, EDGE_V6, Family, HTTP, Part, Protocol, Provider, SERVICES, Service, TRANSLATED,
};

/// Probe settings of the lab's backends.
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

/// Settings in which labs differ.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub probing: Probing,
    /// Whether services have the default number of slots. Otherwise they have 4,096: a debug build of the daemon is too
    /// slow for the deadlines that a release build meets with 65,536.
    pub all_slots: bool,
    /// Lines of `[limits]`.
    pub limits: String,
    /// Lines of each pool that configure how health is judged. The default holds nothing back, since most tests wait
    /// for it.
    pub judging: String,
    /// Additional lines of each pool.
    pub pool: String,
    pub services: Vec<Service>,
    /// Whether `services` are served by translation.
    pub translated: bool,
    /// Additional lines of each TCP service.
    pub tcp: String,
    /// Whether packets to the providers are encapsulated in UDP.
    pub gue: bool,
    /// Weights of members that differ from the default, by the pool's name and the member; `None` leaves the member
    /// out.
    pub weights: BTreeMap<(String, Backend), Option<u32>>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            probing: Probing::default(),
            all_slots: false,
            limits: String::new(),
            judging: "damping = \"0s\"\nfailback_after = \"0s\"\nfailback_over = \"0s\"\nslow_start = \"0s\"\n"
                .to_owned(),
            pool: String::new(),
            services: SERVICES.to_vec(),
            translated: false,
            tcp: String::new(),
            gue: false,
            weights: BTreeMap::new(),
        }
    }
}

impl Configuration {
    /// A configuration with translated services only.
    pub fn translated() -> Self {
        Self { services: TRANSLATED.to_vec(), translated: true, ..Self::default() }
    }

    /// The text of the configuration file.
    pub fn text(&self) -> String {
        let slots = if self.all_slots { 65_536 } else { 4_096 };
        let own = if self.translated {
            format!("[nat]\nsource_v4 = [\"{EDGE_V4}\"]\nsource_v6 = [\"{EDGE_V6}\"]")
        } else {
            format!("[tunnel]\nsource_v4 = \"{EDGE_V4}\"\nsource_v6 = \"{EDGE_V6}\"")
        };
        let mut text = format!(
            "hash_key = \"6564676520696e2061206c6162212121\"\nslots = {slots}\n\n\
             {own}\n\n\
             [limits]\n{}\n\
             [[interface]]\nname = \"eth0\"\n\n[[interface]]\nname = \"eth1\"\n",
            self.limits
        );
        for provider in Provider::ALL {
            for part in [Part::Lan, Part::Wan] {
                for family in [Family::V4, Family::V6] {
                    text.push_str(&self.pool(provider, part, family));
                }
            }
        }
        for service in &self.services {
            text.push_str(&self.service(*service));
        }
        text
    }

    fn pool(&self, provider: Provider, part: Part, family: Family) -> String {
        let Probing { interval_ms, timeout_ms, rise, fall } = self.probing;
        let name = provider.pool(part, family);
        let mut text = format!(
            "\n[[pool]]\nname = \"{name}\"\n{}{}\
             [pool.probe]\ntype = \"http\"\nport = {HTTP}\npath = \"/healthz\"\n\
             interval = \"{interval_ms}ms\"\ntimeout = \"{timeout_ms}ms\"\nrise = {rise}\nfall = {fall}\n",
            self.judging, self.pool
        );
        for backend in Backend::of(provider) {
            let address = backend.address(part, family);
            let weight = match self.weights.get(&(name.clone(), backend)) {
                Some(None) => continue,
                Some(Some(weight)) => format!("weight = {weight}\n"),
                None => String::new(),
            };
            write!(text, "[[pool.backend]]\nname = \"{backend}\"\naddress = \"{address}\"\n{weight}")
                .expect("writing to a string succeeds");
        }
        text
    }

    fn service(&self, service: Service) -> String {
        let address = service.address();
        let mode = match service.part {
            _ if self.translated => "nat",
            Part::Lan => "dsr",
            Part::Wan if self.gue => "gue",
            Part::Wan => "ipip",
        };
        let (protocol, more) = match service.protocol {
            Protocol::Tcp => ("tcp", self.tcp.as_str()),
            Protocol::Udp => ("udp", ""),
        };
        let [first, second] = service.pools();
        let announce = if service.announced { "announce = \"l2\"\nannounce_interface = \"eth0\"\n" } else { "" };
        format!(
            "\n[[service]]\nname = \"{}\"\nvips = [\"{}\"]\nports = [\"{}/{protocol}\"]\nmode = \"{mode}\"\n\
             pools = [\"{first}\", \"{second}\"]\n{announce}{more}",
            service.name,
            address.ip(),
            address.port(),
        )
    }
}
