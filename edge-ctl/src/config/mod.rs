//! The configuration: TOML text in, a value that can't be invalid out.
//!
//! [`parse`] checks everything that can be checked without the host: shapes, ranges, names, references between
//! sections, and every limit of the maps. A [`Config`] needs no further check. Problems are collected, so that one run
//! shows all of them; each has its place in the file and a suggestion.
//!
//! Modules: [`problems`] collects the problems of a text, [`walk`] reads the keys of a table, [`values`] single values,
//! and [`host`], [`pools`] and [`services`] one section each. [`destinations`] has VIPs and ports, [`defaults`] values
//! shared by several pools or services, [`probe`] and [`probe_kinds`] the probes of a pool, [`judging`] the judgement
//! of its health, [`tunnel`] the sources of tunnel packets, [`notify`] hooks, [`flows`] the flow keys of a service, [`quic_cid`]
//! connection IDs with a server number, [`families`] services and pools with addresses of each IP version, [`across`]
//! references between sections, [`sizes`] the sizes of the maps, [`backend_ports`] and [`references`] keys that would have
//! no effect beside others, and [`server_numbers`] the server numbers of backends. [`load`](mod@load) reads the
//! file, [`include`] combines several files, and [`origin`] maps lines back to them. [`error`] prints problems,
//! [`excerpt`] the line of the file below a problem, and [`foreign`] recognises keywords of other load balancers.

// Time is an argument in this module, or is not needed.
#![deny(clippy::disallowed_methods)]

mod across;
mod backend_ports;
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
mod notify;
mod origin;
mod pools;
mod probe;
mod probe_kinds;
mod problems;
mod quic_cid;
mod references;
mod schema;
mod server_numbers;
mod service;
mod services;
mod sizes;
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
    error::{ConfigError, Listed},
    families::{Clients, configured, configured_backend, is_meant, is_same, joined_backends, joined_names},
    kinds::{DnsProbe, Probe, ProbeKind, ProbeThrough, RCODES, TlsProbe},
    load::{load, load_from, parse_bytes},
    nat::{Nat, NatPorts},
    notify::{Hook, HookTarget, Webhook},
    service::{Affinity, Announce, Ports, QuicCid, Service},
    tunnel::{Range, Tunnel},
    weights::{WeightWord, Weights},
};
use self::{
    problems::{Problems, Read},
    walk::{Located, Table},
};

/// Longest accepted file, bytes. 65,535 backends take some 5 MB; a longer file is not a configuration, and checking it
/// would take seconds and a gigabyte.
pub(crate) const MAX_FILE: usize = 8 << 20;

/// Slots of a service when the file does not set it.
pub(crate) const DEFAULT_SLOTS: u32 = 65_536;

/// A complete and valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Words of the keyed hash, expanded from the file's 16 bytes; see [`expand_key`].
    pub hash_key: HashKey,
    /// Treatment of packets to a VIP that is not an address of this host, if they match no service.
    pub vip_other: VipOther,
    /// How long the configuration has to be in force without loss of availability before it counts as good.
    pub soak: Duration,
    /// Addresses that are probed when no backend answers, distinct.
    pub reference_targets: Vec<SocketAddr>,
    /// Listening address of the status page and the metrics; `None` if they are not served.
    pub http: Option<SocketAddr>,
    /// Commands and webhooks that are told of events, names distinct.
    pub notify: Vec<Hook>,
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
    /// Weights set by operators, in place of the text's; empty for a configuration that was just read.
    pub weights: Weights,
}

impl Config {
    /// Whether the program is to be attached to the interface with this name.
    pub(crate) fn names_interface(&self, name: &str) -> bool {
        self.interfaces.iter().any(|interface| interface.name == name)
    }

    /// The patterns of `include` that matched no file.
    pub(crate) fn unmatched(&self) -> impl Iterator<Item = &str> {
        origin::unmatched(&self.text)
    }

    /// Names of the pools that serve a service with this mode.
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
    /// Destination MAC addresses of accepted frames, in addition to the interface's own.
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
    /// Whether the file sets services, destinations, pools and backends; the other sizes follow from the configuration.
    pub named: [bool; 4],
    /// Entries of the flow table.
    pub flows: u32,
    /// New flows recorded per second at most; the same limit applies separately to established flows.
    pub flows_per_second: u32,
    /// Entries of the table of translated flows, a power of two; `None` if no service is translated.
    pub nat_flows: Option<u32>,
    /// Fragmented packets of each IP version that are remembered, so that later fragments follow the first.
    pub fragments: u32,
    /// First fragments remembered per second at most.
    pub first_fragments_per_second: u32,
    /// Replies of each kind sent per second at most.
    pub answers: AnswerLimits,
}

impl Limits {
    /// For each of [`Capacity::sizes`](crate::plan::Capacity::sizes), whether the file sets it, or it has a default of
    /// its own.
    pub(crate) const fn is_named(&self) -> [bool; 7] {
        let [services, destinations, pools, backends] = self.named;
        [services, destinations, pools, backends, true, self.nat_flows.is_some(), true]
    }
}

/// Backends that fail together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pool {
    /// Name in the file, or that of a part, see [`Clients`].
    pub name: String,
    /// The pool is left when fewer backends than this take new flows; 1 to the number of backends.
    pub min_healthy: u16,
    /// `None` if its backends are not probed: they stay unknown, and serve.
    pub probe: Option<Probe>,
    pub judging: Judging,
    /// At least one, names distinct, addresses distinct; each with the address that serves the pool's clients.
    pub backends: Vec<Backend>,
}

/// How the health of a pool is judged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Judging {
    /// Share of the pool that silence may take out while the other backends answer, 0 to 1; at least one backend.
    pub ejection_cap: f64,
    /// If a smaller share of the pool is up, and there is no other pool, all its backends serve; 0 to 1.
    pub panic_below: f64,
    /// Longest time for which a backend that goes down repeatedly is held back.
    pub damping: Duration,
    /// How long enough backends of a pool that was left must have been up before new flows return to it.
    pub failback_after: Duration,
    /// Time over which new flows return to the pool.
    pub failback_over: Duration,
    /// How long a backend that was down takes to get its whole share of new flows.
    pub slow_start: Duration,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    pub name: String,
    pub address: IpAddr,
    /// Destination port in `nat` mode, if the backend or its pool sets one.
    pub port: Option<u16>,
    /// Share of the pool's flows relative to the other backends, 1 to 65,535: the file's, or that set by an operator.
    pub weight: u32,
    pub file_weight: u32,
    /// Port to probe, and Host header or server name, if the backend has its own.
    pub probe_port: Option<u16>,
    pub probe_host: Option<String>,
    /// Number of the backend in QUIC connection IDs.
    pub server_number: Option<u32>,
}

/// Checks the text of a configuration; `file` is its name in the errors.
///
/// # Errors
///
/// [`ConfigError::Refused`] with everything that is wrong.
pub(crate) fn parse(text: &str, file: &str) -> Result<Config, ConfigError> {
    parse_with(text, file, Problems::new(text))
}

/// Reads a text that was accepted before, maybe by another version of this program: keys that this version does not
/// know, or that have no effect, are skipped. A text in force must not become unreadable with an upgrade.
///
/// # Errors
///
/// [`ConfigError::Refused`] with everything else that is wrong.
pub(crate) fn parse_accepted(text: &str, file: &str) -> Result<Config, ConfigError> {
    parse_with(text, file, Problems::forgiving(text))
}

fn parse_with(text: &str, file: &str, problems: Problems<'_>) -> Result<Config, ConfigError> {
    match check(text, &problems) {
        Ok(config) if problems.is_empty() => Ok(config),
        _ => Err(ConfigError::Refused(problems.into_refusal(file))),
    }
}

/// The sections of the file, each with its heading and its keys, as in the parser.
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
        // After a syntax error the rest of the parse is guesswork; checking it would report problems that are not in
        // the file.
        return Err(problems.add_syntax(&faults));
    }
    if root.get_ref().is_empty() && text.contains('#') {
        let write =
            "your configuration: take the `#` from the lines that begin with it and no space, and put your values in";
        return Err(problems.add(0, "nothing is configured: every line is a comment", write));
    }
    let root = Table::root(problems, root.get_ref());
    // A client that reads a file also includes its files, so this text comes from elsewhere.
    if root.has("include") {
        let what = "`include` in a text that came alone, without its files";
        let write = "the same with `edge-ctl apply FILE`, which reads them; or one text with all of it";
        problems.add(root.place("include"), what, write);
    }

    let hash_key = host::hash_key(&root);
    let slots = host::slots(&root);
    let edge = host::edge(&root);
    let http = http::read(&root);
    let notify = notify::read(&root);
    let tunnel = tunnel::read(&root);
    let nat = nat::read(&root);
    let limits = host::limits(&root);
    let interfaces = host::interfaces(&root);
    let defaults = defaults::read(&root);
    let (pools, services) = match &defaults {
        Ok(defaults) => (pools::read(&root, defaults), services::read(&root, defaults)),
        Err(reported) => (Err(*reported), Err(*reported)),
    };
    let slots = slots.map(|slots| slots.unwrap_or(Located { value: DEFAULT_SLOTS, at: 0 }));
    let default_slots = slots.map(|slots| slots.value);
    let sections = across::Sections { slots, tunnel, nat, limits, interfaces, pools, services };
    sections.check(problems);
    if let (Ok(Some(listen)), Ok(services)) = (&http, &sections.services) {
        http::check(problems, listen, services);
    }
    if let Ok(edge) = &edge {
        let pools = sections.pools.as_deref().unwrap_or_default();
        let services = sections.services.as_deref().unwrap_or_default();
        references::check(problems, &edge.reference_targets, services, pools, &sections.own_addresses());
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
        reference_targets: edge.reference_targets.into_iter().map(|target| target.value).collect(),
        http: http?.map(|found| found.value),
        notify: notify?,
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
