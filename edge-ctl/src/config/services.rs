//! Reads services, which clients connect to.

use std::{cell::Cell, collections::HashMap, net::IpAddr};

use edge_common::abi::{MAX_POOLS, Mode, WhenExhausted};

use super::{
    Affinity, Announce, Clients, Interface, Ports, QuicCid, Service,
    defaults::Defaults,
    destinations, flows,
    host::{self, MOST, distinct},
    problems::Read,
    quic_cid,
    schema::SERVICE,
    values::{self, Entry, shorten},
    walk::{Located, Table},
};

const MODES: &str = "mode = \"nat\" (any backend, anywhere), mode = \"ipip\" or \"gue\" (anywhere, prepared) or mode = \"dsr\" (on this L2, prepared)";

/// A service as far as it could be read.
pub(super) struct ServiceDraft {
    pub(super) name: Read<Located<String>>,
    /// Where the section stands.
    pub(super) at: usize,
    pub(super) vips: Read<Vec<Located<IpAddr>>>,
    pub(super) ports: Read<Vec<Located<Ports>>>,
    pub(super) slots: Read<Option<Located<u32>>>,
    pub(super) mode: Read<Mode>,
    backend_port: Read<Option<u16>>,
    sticks: Read<bool>,
    tells_client: Read<bool>,
    pub(super) pools: Read<Vec<Located<String>>>,
    when_exhausted: Read<WhenExhausted>,
    pub(super) announce: Read<AnnounceDraft>,
    affinity: Read<Option<Affinity>>,
    quic_cid: Read<Option<QuicCid>>,
}

/// `announce` and `announce_interface` of a service.
#[derive(Clone, Debug)]
pub(super) struct AnnounceDraft {
    pub(super) l2: bool,
    pub(super) interface: Option<Located<String>>,
    /// Place of `announce_interface`, else of `announce`.
    pub(super) at: usize,
}

impl AnnounceDraft {
    /// The interface to announce on: the named one, or the only one.
    pub(super) fn interface<'a>(&'a self, interfaces: &'a [Located<Interface>]) -> Option<&'a str> {
        match (&self.interface, interfaces) {
            (Some(named), _) => Some(&named.value),
            (None, [only]) => Some(&only.value.name),
            (None, _) => None,
        }
    }
}

impl ServiceDraft {
    pub(super) fn vips(&self) -> &[Located<IpAddr>] {
        self.vips.as_deref().unwrap_or_default()
    }

    pub(super) fn ports(&self) -> &[Located<Ports>] {
        self.ports.as_deref().unwrap_or_default()
    }

    /// Position of the server number in connection IDs of the QUIC ports; `None` if there are no such ports.
    pub(super) fn quic_cid(&self) -> Option<QuicCid> {
        let has_quic = self.ports().iter().any(|ports| quic_cid::is_quic(&ports.value));
        self.quic_cid.ok().flatten().filter(|_| has_quic)
    }

    /// Whether the result of `quic_cid` is unreliable, since its keys or the ports could not be read.
    pub(super) const fn is_cid_unread(&self) -> bool {
        self.quic_cid.is_err() || self.ports.is_err()
    }

    /// Number of slots and its place; `default` if the service has no `slots`.
    pub(super) fn slots_or(&self, default: Located<u32>) -> Located<u32> {
        self.slots.ok().flatten().unwrap_or(default)
    }

    /// The clients that get a service of their own. `is_split` if a pool of this service has parts by IP version.
    pub(super) fn parts(&self, is_split: bool) -> &'static [Clients] {
        let is_dual =
            Clients::BOTH.iter().all(|clients| self.vips().iter().any(|vip| Clients::of(vip.value) == *clients));
        if is_split && is_dual { &Clients::BOTH } else { &[Clients::All] }
    }

    /// Finishes the service after the checks across sections: two services, one for the clients of each IP version, if
    /// its pools have such parts. `slots` is the default number of slots, and `pools` has the position of each pool by
    /// name.
    pub(super) fn finish(
        self,
        slots: u32,
        pools: &HashMap<String, usize>,
        interfaces: &[Located<Interface>],
    ) -> Read<Vec<Service>> {
        let quic_cid = self.quic_cid();
        let names = self.pools.as_ref().map_err(|reported| *reported)?;
        let parts = self.parts(names.iter().any(|name| !pools.contains_key(&name.value)));
        let position =
            |name: &str, clients: Clients| pools.get(name).or_else(|| pools.get(&clients.part(name))).copied();
        let vips: Vec<_> = self.vips?.into_iter().map(|found| found.value).collect();
        let ports: Vec<_> = self.ports?.into_iter().map(|found| found.value).collect();
        let (name, mode, when_exhausted, affinity) =
            (self.name?.value, self.mode?, self.when_exhausted?, self.affinity?);
        self.quic_cid?;
        let slots = self.slots?.map_or(slots, |found| found.value);
        let (backend_port, sticks, tells_client) = (self.backend_port?, self.sticks?, self.tells_client?);
        let announce = self.announce?;
        let announce = match announce.interface(interfaces) {
            Some(interface) if announce.l2 => Announce::L2 { interface: interface.to_owned() },
            _ => Announce::None,
        };
        let part = |&clients: &Clients| {
            let is_for = |vip: &&IpAddr| clients == Clients::All || Clients::of(**vip) == clients;
            let vips: Vec<_> = vips.iter().filter(is_for).copied().collect();
            // All clients are of one IP version, or the pools have no parts by IP version.
            let come = vips.first().map_or(Clients::All, |vip| Clients::of(*vip));
            Service {
                name: clients.part(&name),
                // Unknown names of pools were reported by the checks across sections.
                pools: names.iter().filter_map(|name| position(&name.value, come)).collect(),
                vips,
                ports: ports.clone(),
                slots,
                mode,
                backend_port,
                sticks,
                tells_client,
                when_exhausted,
                announce: announce.clone(),
                affinity,
                quic_cid,
            }
        };
        Ok(parts.iter().map(part).collect())
    }
}

pub(super) fn read(root: &Table<'_>, defaults: &Defaults<'_>) -> Read<Vec<ServiceDraft>> {
    let tables = root.tables("service", &SERVICE)?;
    if tables.is_empty() {
        let what = "there is no service, so nothing would be served";
        let write = "[[service]] with name, vips, ports, mode and pools; `edge-ctl detach` is the way to stop serving";
        return Err(root.problems.add(root.place("service"), what, write));
    }
    let mut names = HashMap::new();
    let vips = Cell::new(MOST.destinations as usize);
    let tables = tables.into_iter().map(|table| table.with_defaults(defaults.service.as_ref()));
    Ok(tables.map(|table| service(&table, &mut names, &vips)).collect())
}

fn service(table: &Table<'_>, names: &mut HashMap<String, usize>, vips_left: &Cell<usize>) -> ServiceDraft {
    let modes = [("nat", Mode::Nat), ("dsr", Mode::Dsr), ("ipip", Mode::Ipip), ("gue", Mode::Gue)];
    let policies = [("open", WhenExhausted::Open), ("reject", WhenExhausted::Reject), ("drop", WhenExhausted::Drop)];
    let name = table.required("name", "name = \"web\"", values::name);
    let when_exhausted = table.optional("when_exhausted", values::choice(&policies));
    let mode = table.required("mode", MODES, values::choice(&modes)).map(|found| found.value);
    let backend_port = table.optional("backend_port", values::integer(1..=65_535, "backend_port = 8443"));
    let sticks = table.optional("on_backend_down", values::choice(&[("reset", false), ("stick", true)]));
    let tells_client = table.optional("client_address", values::choice(&[("none", false), ("toa", true)]));
    ServiceDraft {
        name: name.and_then(|name| distinct(table, names, name, "service")),
        at: table.at,
        vips: table
            .required("vips", destinations::VIPS, |entry| destinations::vips(entry, vips_left))
            .map(|found| found.value),
        ports: flows::read(table, matches!(mode, Ok(Mode::Nat))),
        slots: host::slots(table),
        mode,
        backend_port: backend_port.and_then(|found| only_in_nat(table, mode, "backend_port", found)),
        sticks: sticks
            .and_then(|found| only_in_nat(table, mode, "on_backend_down", found))
            .map(Option::unwrap_or_default),
        tells_client: tells_client
            .and_then(|found| only_in_nat(table, mode, "client_address", found))
            .map(Option::unwrap_or_default),
        pools: pool_names(table),
        when_exhausted: when_exhausted.map(|found| found.map_or(WhenExhausted::Open, |found| found.value)),
        announce: announce(table),
        affinity: flows::affinity(table),
        quic_cid: quic_cid::read(table),
    }
}

/// Refuses a key that has an effect only in `nat` if the mode is another one; ignores it if it is a default.
fn only_in_nat<T>(
    table: &Table<'_>,
    mode: Read<Mode>,
    key: &'static str,
    found: Option<Located<T>>,
) -> Read<Option<T>> {
    match (found, mode) {
        (Some(_), Ok(Mode::Dsr | Mode::Ipip | Mode::IpipRange | Mode::Gue)) if !table.has(key) => Ok(None),
        (Some(found), Ok(Mode::Dsr | Mode::Ipip | Mode::IpipRange | Mode::Gue)) => {
            let what = format!("`{key}` is for mode = \"nat\": else packets go to backends as they came");
            table.problems.needless(found.at, what, format!("mode = \"nat\", or remove `{key}`")).map(|()| None)
        }
        (found, _) => Ok(found.map(|found| found.value)),
    }
}

fn pool_names(table: &Table<'_>) -> Read<Vec<Located<String>>> {
    let example = "pools = [\"provider-a\", \"provider-b\"], first the one to prefer, 1 to 8";
    let found = table.required("pools", example, |entry: &Entry<'_>| {
        values::list(entry, 1..=MAX_POOLS, example, |entry| entry.string(example).map(str::to_owned))
    })?;
    let mut names: Vec<Located<String>> = Vec::new();
    let mut result = Ok(());
    for (at, value) in found.value {
        if names.iter().any(|name| name.value == value) {
            let what = format!("pool `{}` is listed twice", shorten(&value));
            result = Err(table.problems.add(at, what, "each pool once; the order is the priority"));
        } else {
            names.push(Located { value, at });
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
        table.problems.needless(table.place("announce_interface"), what, write)?;
    }
    let at =
        [table.place("announce_interface"), table.place("announce")][usize::from(!table.has("announce_interface"))];
    Ok(AnnounceDraft { l2, interface: interface?, at })
}
