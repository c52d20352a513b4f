//! The configuration: TOML text in, a value that can't be invalid out.
//!
//! [`parse`] checks everything that can be checked without the host: shapes, ranges, names, references between
//! sections, and every limit of the maps. A [`Config`] needs no further check. What is wrong is collected,
//! so that one run shows all of it; each problem has its place in the file and what to write instead.
//!
//! The way through the modules: [`problems`] has what is wrong with a text, [`walk`] reads keys of a table, [`values`] single values, [`host`], [`pools`] and
//! [`services`] one section each, [`destinations`] VIPs and ports, [`defaults`] what several of these have in common, [`probe`] and [`probe_kinds`] how a pool is probed, [`judging`] how its health is judged, [`tunnel`] where tunnel packets come from, [`flows`] the flow keys of a service, [`quic_cid`] connection IDs that name the server, [`families`] what has an address of each IP version, [`across`] references between sections, [`server_numbers`] those of backends.
//! [`load`](mod@load) reads the file, [`include`] puts several together, and [`origin`] tells them apart again. [`error`] shows what is wrong, [`excerpt`] the line of the file below it, and [`foreign`] answers words of other systems.

// Time is an argument here, or is not needed.
#![deny(clippy::disallowed_methods)]

mod across;
mod defaults;
mod destinations;
mod end;
mod error;
mod excerpt;
mod families;
mod flows;
mod foreign;
mod host;
mod http;
mod include;
mod judging;
mod kinds;
mod load;
mod nat;
mod origin;
mod pools;
mod probe;
mod probe_kinds;
mod problems;
mod quic_cid;
mod schema;
mod server_numbers;
mod service;
mod services;
mod tunnel;
mod values;
mod walk;
mod weights;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use edge_common::abi::{AnswerLimits, HashKey, Mode, VipOther};
use toml::de::DeTable;

pub(crate) use self::{
    destinations::Protocol,
    end::{END, lost_end},
    error::ConfigError,
    families::{Clients, configured, configured_backend, is_meant, is_same, joined_backends, joined_names},
    kinds::{DnsProbe, Probe, ProbeKind, ProbeThrough, RCODES, TlsProbe},
    load::{load, load_from, parse_bytes},
    nat::{Nat, NatPorts},
    service::{Affinity, Announce, Ports, QuicCid, Service},
    tunnel::{Range, Tunnel},
    weights::{WeightWord, Weights},
};
use self::{
    problems::{Problems, Read},
    walk::{Found, Table},
};

/// Longest file that is read, bytes. 65,535 backends take some 5 MB; more than this is not a configuration, and to judge it would
/// take seconds and a gigabyte.
pub(crate) const MAX_FILE: usize = 8 << 20;

/// Slots of a service when the file does not say.
pub(crate) const DEFAULT_SLOTS: u32 = 65_536;

/// A complete and valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Words of the keyed hash, expanded from the file's 16 bytes; see [`expand_key`].
    pub hash_key: HashKey,
    /// What becomes of packets to a VIP that is no address of this host, and to no service.
    pub vip_other: VipOther,
    /// How long it is in force without harm until it is called good.
    pub soak: Duration,
    /// What is asked for an answer when no backend gives one, distinct.
    pub reference_targets: Vec<SocketAddr>,
    /// Where the status page and the metrics are served; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// At least one, names distinct.
    pub interfaces: Vec<Interface>,
    pub tunnel: Tunnel,
    pub nat: Nat,
    /// Sizes of the maps, resolved: at least what is configured.
    pub limits: Limits,
    /// Names distinct, none of them empty.
    pub pools: Vec<Pool>,
    /// At least one, names distinct, no two with a destination in common.
    pub services: Vec<Service>,
    /// The text that this was read from.
    pub text: String,
    /// By operators' words, in place of the text's; none where it was just read.
    pub weights: Weights,
}

impl Config {
    /// Names of the pools that some service reaches in this mode.
    pub(crate) fn pools_of(&self, mode: Mode) -> BTreeSet<&str> {
        let services = self.services.iter().filter(|service| service.mode == mode);
        let pools = services.flat_map(|service| &service.pools);
        pools.filter_map(|&pool| self.pools.get(pool)).map(|pool| pool.name.as_str()).collect()
    }
}

/// An interface that the packet path is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub name: String,
    pub mode: AttachMode,
    /// MAC addresses at which it takes frames beside its own.
    pub virtual_macs: Vec<[u8; 6]>,
}

/// How an XDP program is attached.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AttachMode {
    /// In the driver
    #[default]
    Native,
    /// In the kernel's network stack: slower, for drivers without XDP
    Generic,
}

impl AttachMode {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Sizes of the maps, and rate limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub services: u32,
    /// Entries of the service index: a VIP with a port, and each VIP itself.
    pub destinations: u32,
    pub pools: u32,
    pub backends: u32,
    /// Whether the file names services, destinations, pools and backends; what it does not follows from what is configured.
    pub named: [bool; 4],
    /// Entries of the flow table.
    pub flows: u32,
    /// Flows that may be recorded in a second when they start, and as many of those that run.
    pub flows_per_second: u32,
    /// Entries of the table of translated flows, a power of two; `None`: nothing is translated.
    pub nat_flows: Option<u32>,
    /// Fragmented packets of each IP version whose later fragments are known to belong to them.
    pub fragments: u32,
    /// First fragments that may be remembered in a second.
    pub first_fragments_per_second: u32,
    /// Answers of each kind that may be sent in a second.
    pub answers: AnswerLimits,
}

impl Limits {
    /// Of each of [`Capacity::sizes`](crate::plan::Capacity::sizes) whether the file names it, or it has a default of its own.
    pub(crate) const fn is_named(&self) -> [bool; 7] {
        let [services, destinations, pools, backends] = self.named;
        [services, destinations, pools, backends, true, self.nat_flows.is_some(), true]
    }
}

/// Backends that fail together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pool {
    /// As the file has it, or that of a part, see [`Clients`].
    pub name: String,
    /// The pool is left when fewer backends than this take new flows; 1 to the number of backends.
    pub min_healthy: u16,
    /// `None`: its backends are not probed and stay unknown, which serves.
    pub probe: Option<Probe>,
    pub judging: Judging,
    /// At least one, names distinct, addresses distinct; each with the address that serves the pool's clients.
    pub backends: Vec<Backend>,
}

/// How the health of a pool is judged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judging {
    /// The share of the pool that silence may take out while the rest of it answers, 0 to 1; one backend at least.
    pub ejection_cap: f64,
    /// With a smaller share of the pool up, and no other pool to go to, all of it serves; 0 to 1.
    pub panic_below: f64,
    /// How long a backend that goes down again and again is held back at most.
    pub damping: Duration,
    /// How long enough of a pool that was left must have been up before new flows return to it.
    pub failback_after: Duration,
    /// How long they take to return.
    pub failback_over: Duration,
    /// How long a backend that was down takes to get its whole share of new flows.
    pub slow_start: Duration,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub name: String,
    pub address: IpAddr,
    /// In `nat` the port that it serves, if it or its pool says so.
    pub port: Option<u16>,
    /// Share of the pool's flows relative to the other backends, 1 to 65,535: the file's, or an operator's word.
    pub weight: u32,
    pub file_weight: u32,
    /// Its own port to probe, and its own Host header or server name.
    pub probe_port: Option<u16>,
    pub probe_host: Option<String>,
    /// What it is called in connection IDs of QUIC.
    pub server_number: Option<u32>,
}

/// Checks the text of a configuration; `file` is its name in the errors.
///
/// # Errors
///
/// [`ConfigError::Refused`] with everything that is wrong.
pub(crate) fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
    let problems = Problems::new(text);
    match check(text, &problems) {
        Ok(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigError::Refused(problems.into_refusal(file))),
    }
}

/// The sections of the file, each with its heading and its keys, as the parser knows them.
pub(crate) fn sections() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    schema::ALL.into_iter().map(|section| (section.heading, section.keys))
}

fn check(text: &str, problems: &Problems<'_>) -> Read<Config> {
    if text.len() > MAX_FILE {
        return Err(problems.add(
            0,
            format!("the file is longer than {MAX_FILE} bytes"),
            "the path of a configuration; this is something else",
        ));
    }
    end::check_end(text, problems);
    let (root, faults) = DeTable::parse_recoverable(text);
    if !faults.is_empty() {
        // What the parser made of the rest is guesswork; judging it would report what is not in the file.
        return Err(problems.add_syntax(&faults));
    }
    if root.get_ref().is_empty() && text.contains('#') {
        let write =
            "your configuration: take the `#` from the lines that begin with it and no space, and put your values in";
        return Err(problems.add(0, "nothing is configured: every line is a comment", write));
    }
    let root = Table::root(problems, root.get_ref());
    // Who has the file has put its files together, so this is another one's text.
    if root.has("include") {
        let what = "`include` in a text that came alone, without its files";
        let write = "the same with `edge-ctl apply FILE`, which reads them; or one text with all of it";
        problems.add(root.place("include"), what, write);
    }

    let hash_key = host::hash_key(&root);
    let slots = host::slots(&root);
    let edge = host::edge(&root);
    let http = http::read(&root);
    let tunnel = tunnel::read(&root);
    let nat = nat::read(&root);
    let limits = host::limits(&root);
    let interfaces = host::interfaces(&root);
    let defaults = defaults::read(&root);
    let (pools, services) = match &defaults {
        Ok(defaults) => (pools::read(&root, defaults), services::read(&root, defaults)),
        Err(reported) => (Err(*reported), Err(*reported)),
    };
    let slots = slots.map(|slots| slots.unwrap_or(Found { value: DEFAULT_SLOTS, at: 0 }));
    let default_slots = slots.map(|slots| slots.value);
    let sections = across::Sections { slots, tunnel, nat, limits, interfaces, pools, services };
    sections.check(problems);
    if let (Ok(Some(listen)), Ok(services)) = (&http, &sections.services) {
        http::check(problems, listen, services);
    }

    let limits = sections.limits();
    let across::Sections { tunnel, nat, interfaces, pools, services, .. } = sections;
    let default_slots = default_slots?;
    let interfaces = interfaces?;
    let pools: Vec<_> = pools?.into_iter().map(pools::PoolDraft::finish).collect::<Read<Vec<_>>>()?.concat();
    let edge = edge?;
    let positions = pools.iter().enumerate().map(|(position, pool)| (pool.name.clone(), position)).collect();
    let services = services?.into_iter().map(|service| service.finish(default_slots, &positions, &interfaces));
    let services = services.collect::<Read<Vec<_>>>()?.concat();
    Ok(Config {
        hash_key: hash_key?,
        vip_other: edge.vip_other,
        soak: edge.soak,
        reference_targets: edge.reference_targets,
        http: http?.map(|found| found.value),
        interfaces: interfaces.into_iter().map(|interface| interface.value).collect(),
        tunnel: tunnel?,
        nat: nat?.finish(),
        limits,
        pools,
        services,
        text: text.to_owned(),
        weights: Weights::default(),
    })
}
