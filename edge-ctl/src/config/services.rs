//! Services: what clients connect to.

use std::{collections::HashMap, net::IpAddr};

use edge_common::abi::{MAX_POOLS, Mode, WhenExhausted};

use super::{
    Announce, Interface, Protocol, Service,
    defaults::Defaults,
    flows::{self, Flows},
    host::distinct,
    schema::SERVICE,
    values::{self, Entry},
    walk::{Found, Read, Table},
};

/// A service as far as it could be read.
pub(super) struct ServiceDraft {
    pub(super) name: Read<Found<String>>,
    pub(super) vip: Read<Found<IpAddr>>,
    pub(super) port: Read<u16>,
    pub(super) protocol: Read<Protocol>,
    pub(super) mode: Read<Mode>,
    pub(super) pools: Read<Vec<Found<String>>>,
    when_exhausted: Read<WhenExhausted>,
    pub(super) announce: Read<AnnounceDraft>,
    flows: Read<Flows>,
}

/// `announce` and `announce_interface` of a service.
#[derive(Clone, Debug)]
pub(super) struct AnnounceDraft {
    pub(super) l2: bool,
    pub(super) interface: Option<Found<String>>,
    /// Where the service says so.
    pub(super) at: usize,
}

impl AnnounceDraft {
    /// The interface that it means: the named one, or the only one.
    pub(super) fn interface<'a>(&'a self, interfaces: &'a [Found<Interface>]) -> Option<&'a str> {
        match (&self.interface, interfaces) {
            (Some(named), _) => Some(&named.value),
            (None, [only]) => Some(&only.value.name),
            (None, _) => None,
        }
    }
}

impl ServiceDraft {
    /// The service, once everything across sections was checked.
    /// `pools` has the position of each pool by its name.
    pub(super) fn finish(self, pools: &HashMap<String, usize>, interfaces: &[Found<Interface>]) -> Read<Service> {
        let announce = self.announce?;
        let flows = self.flows?;
        Ok(Service {
            name: self.name?.value,
            vip: self.vip?.value,
            port: self.port?,
            protocol: self.protocol?,
            mode: self.mode?,
            // Names that lead nowhere were reported when the sections were checked against each other.
            pools: self.pools?.iter().filter_map(|name| pools.get(&name.value).copied()).collect(),
            when_exhausted: self.when_exhausted?,
            announce: match announce.interface(interfaces) {
                Some(interface) if announce.l2 => Announce::L2 { interface: interface.to_owned() },
                _ => Announce::None,
            },
            tracking: flows.tracking,
            flow_idle_timeout: flows.flow_idle_timeout,
            learn: flows.learn,
            affinity_prefix: flows.affinity_prefix,
        })
    }
}

pub(super) fn read(root: &Table<'_>, defaults: &Defaults<'_>) -> Read<Vec<ServiceDraft>> {
    let tables = root.tables("service", &SERVICE)?;
    if tables.is_empty() {
        let what = "there is no service, so nothing would be served";
        let write =
            "[[service]] with name, vip, port, protocol, mode and pools; `edge-ctl detach` is the way to stop serving";
        return Err(root.problems.add(root.place("service"), what, write));
    }
    let mut names = HashMap::new();
    let tables = tables.into_iter().map(|table| table.with_defaults(defaults.service.as_ref()));
    Ok(tables.map(|table| service(&table, &mut names)).collect())
}

fn service(table: &Table<'_>, names: &mut HashMap<String, usize>) -> ServiceDraft {
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let modes = [("dsr", Mode::Dsr), ("ipip", Mode::Ipip)];
    let policies = [("open", WhenExhausted::Open), ("reject", WhenExhausted::Reject), ("drop", WhenExhausted::Drop)];
    let name = table.required("name", "name = \"web\"", values::name);
    let when_exhausted = table.optional("when_exhausted", values::choice(&policies));
    let vip = table.required("vip", "vip = \"192.0.2.10\"", values::address("vip = \"192.0.2.10\""));
    let protocol = table
        .required("protocol", "protocol = \"tcp\" or protocol = \"udp\"", values::choice(&protocols))
        .map(|found| found.value);
    ServiceDraft {
        name: name.and_then(|name| distinct(table, names, name, "service")),
        flows: flows::read(table, protocol, vip.as_ref().map(|found| found.value).map_err(|&reported| reported)),
        vip,
        port: table
            .required("port", "port = 80, 1 to 65535", values::integer(1..=65_535, "port = 80"))
            .map(|found| found.value),
        protocol,
        mode: table
            .required(
                "mode",
                "mode = \"dsr\" (backends on this L2) or mode = \"ipip\" (anywhere)",
                values::choice(&modes),
            )
            .map(|found| found.value),
        pools: pool_names(table),
        when_exhausted: when_exhausted.map(|found| found.map_or(WhenExhausted::Open, |found| found.value)),
        announce: announce(table),
    }
}

fn pool_names(table: &Table<'_>) -> Read<Vec<Found<String>>> {
    let example = "pools = [\"provider-a\", \"provider-b\"], first the one to prefer, 1 to 8";
    let found = table.required("pools", example, |entry: &Entry<'_>| {
        values::list(entry, 1..=MAX_POOLS, example, |entry| entry.string(example).map(str::to_owned))
    })?;
    let mut names: Vec<Found<String>> = Vec::new();
    let mut result = Ok(());
    for (at, value) in found.value {
        if names.iter().any(|name| name.value == value) {
            let what = format!("pool `{}` is listed twice", super::walk::shorten(&value));
            result = Err(table.problems.add(at, what, "each pool once; the order is the priority"));
        } else {
            names.push(Found { value, at });
        }
    }
    result.map(|()| names)
}

fn announce(table: &Table<'_>) -> Read<AnnounceDraft> {
    let l2 = table.optional("announce", values::choice(&[("none", false), ("l2", true)]));
    let interface = table.optional("announce_interface", values::interface_name);
    let l2 = l2?.is_some_and(|found| found.value);
    if !l2 && table.has("announce_interface") {
        let what = "`announce_interface` without announce = \"l2\" does nothing";
        let write = "announce = \"l2\", or remove `announce_interface`";
        return Err(table.problems.add(table.place("announce_interface"), what, write));
    }
    let at =
        [table.place("announce_interface"), table.place("announce")][usize::from(!table.has("announce_interface"))];
    Ok(AnnounceDraft { l2, interface: interface?, at })
}
