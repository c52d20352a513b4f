//! How the flows of a service are tracked on each of its ports: which packets start a flow, how long a flow is known,
//! and which fields of a flow are hashed.

use std::time::Duration;

use edge_common::abi::Tracking;

use super::{
    Affinity, Ports, Protocol,
    destinations::{self, Named, Taken},
    problems::Read,
    schema::SERVICE_PORT,
    values,
    walk::{Located, Table},
};

const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_mins(5);
/// Minimum idle timeouts of address translators (RFC 5382, requirement 5; RFC 4787, requirement 5).
const TRANSLATED_TCP: Duration = Duration::from_mins(124);
const TRANSLATED_UDP: Duration = Duration::from_mins(2);
/// The time for which the port of an answered request is kept where each flow is one request and its answer.
const TRANSLATED_REQUEST: Duration = Duration::from_secs(2);
const DEFAULT_LEARN: Duration = Duration::from_secs(30);

/// Leading bits of a client's address that are hashed with `affinity = "source"`. An IPv6 host has a whole /64 to choose
/// its addresses from.
const DEFAULT_AFFINITY: Affinity = Affinity { v4: 32, v6: 64 };

/// The flow keys of a service or of one of its ports.
#[derive(Clone, Copy, Debug, Default)]
struct Keys {
    flow_table: Option<bool>,
    udp: Option<Tracking>,
    flow_idle_timeout: Option<Duration>,
    learn: Option<Duration>,
}

impl Keys {
    fn read(table: &Table<'_>) -> Read<Self> {
        let timeouts = Duration::from_secs(1)..=Duration::from_hours(24);
        let flow_idle_timeout =
            table.optional("flow_idle_timeout", values::duration(timeouts, "flow_idle_timeout = \"5m\""));
        let learns = Duration::from_secs(1)..=Duration::from_hours(1);
        let learn = table.optional("learn", values::duration(learns, "learn = \"30s\""));
        let flow_table = table.optional("flow_table", values::boolean);
        let udp =
            table.optional("udp", values::choice(&[("stateless", Tracking::Stateless), ("learn", Tracking::Learn)]));
        Ok(Self {
            flow_table: flow_table?.map(|found| found.value),
            udp: udp?.map(|found| found.value),
            flow_idle_timeout: flow_idle_timeout?.map(|found| found.value),
            learn: learn?.map(|found| found.value),
        })
    }

    /// Fills in missing keys from `other`.
    fn or(self, other: Self) -> Self {
        Self {
            flow_table: self.flow_table.or(other.flow_table),
            udp: self.udp.or(other.udp),
            flow_idle_timeout: self.flow_idle_timeout.or(other.flow_idle_timeout),
            learn: self.learn.or(other.learn),
        }
    }

    fn ports(self, named: Named, translated: bool) -> Ports {
        let tracking = match named {
            Named { quic: true, .. } => Tracking::Quic,
            Named { protocol: Protocol::Tcp, .. } if self.flow_table == Some(false) => Tracking::Stateless,
            Named { protocol: Protocol::Tcp, .. } => Tracking::Tcp,
            // In `nat` each flow is recorded, so that nothing is to be learnt. Only the timeouts differ.
            Named { protocol: Protocol::Udp, .. } if translated => self.udp.unwrap_or(Tracking::Learn),
            Named { protocol: Protocol::Udp, .. } => self.udp.unwrap_or(Tracking::Stateless),
        };
        let idle = self.flow_idle_timeout.unwrap_or(match (translated, named.protocol) {
            (false, _) => DEFAULT_IDLE_TIMEOUT,
            (true, Protocol::Tcp) => TRANSLATED_TCP,
            (true, Protocol::Udp) => TRANSLATED_UDP,
        });
        Ports {
            first: named.first,
            last: named.last,
            protocol: named.protocol,
            tracking,
            flow_idle_timeout: if translated && tracking == Tracking::Stateless { TRANSLATED_REQUEST } else { idle },
            translated,
            learn: self.learn.unwrap_or(DEFAULT_LEARN),
        }
    }
}

/// Reads the ports of a service, with the keys that concern their flows.
pub(super) fn read(table: &Table<'_>, translated: bool) -> Read<Vec<Located<Ports>>> {
    let common = Keys::read(table);
    let mut taken = Taken::default();
    let listed = table.optional("ports", |entry| destinations::ports(entry, &mut taken));
    if table.has("port") && !table.has_tables("port") {
        let what = "`port` is one value; ports are listed with their protocol";
        return Err(table.problems.add(table.place("port"), what, destinations::PORTS));
    }
    let own = table.tables("port", &SERVICE_PORT)?;
    if own.is_empty() && !table.has_any("ports") {
        listed?;
        return Err(table.missing("ports", destinations::PORTS));
    }
    let own: Vec<_> = own
        .iter()
        .map(|own| (own, own.required("port", "port = \"53/udp\"", destinations::port), Keys::read(own)))
        .collect();
    let common = common?;
    let listed = listed?.map_or_else(Vec::new, |found| found.value);
    let mut all: Vec<_> =
        listed.iter().map(|named| Located { value: common.ports(named.value, translated), at: named.at }).collect();
    let mut result = Ok(());
    for (own, named, keys) in own {
        let (named, keys) = (named?, keys?);
        if let Err(wrong) = taken.take(named.value) {
            result = Err(table.problems.add(named.at, wrong.what, wrong.write));
            continue;
        }
        let ports = keys.or(common).ports(named.value, translated);
        check_keys(own, std::slice::from_ref(&ports))?;
        all.push(Located { value: ports, at: named.at });
    }
    result?;
    let values: Vec<_> = all.iter().map(|found| found.value.clone()).collect();
    check_keys(table, &values)?;
    Ok(all)
}

/// Refuses a key of `table` that has no effect on any of `ports`.
fn check_keys(table: &Table<'_>, ports: &[Ports]) -> Read<()> {
    let has = |is: &dyn Fn(&Ports) -> bool| ports.iter().any(is);
    let is_quic = |ports: &Ports| ports.tracking == Tracking::Quic;
    let records = |ports: &Ports| ports.tracking != Tracking::Stateless;
    let unless = |means: bool, key, why: &str, other: &str| if means { Ok(()) } else { refuse(table, key, why, other) };
    if has(&|ports| ports.translated) {
        let why = "is for mode \"dsr\", \"ipip\" and \"gue\": in \"nat\" each flow is recorded anyway";
        for key in ["flow_table", "learn"] {
            refuse(table, key, why, "another mode")?;
        }
        if ports.iter().all(|ports| ports.protocol == Protocol::Tcp || ports.tracking != Tracking::Stateless) {
            refuse(table, "udp", why, "udp = \"stateless\" with a port of UDP")?;
        }
    }
    let is_tcp = |ports: &Ports| ports.protocol == Protocol::Tcp;
    let is_plain_udp = |ports: &Ports| ports.protocol == Protocol::Udp && ports.tracking != Tracking::Quic;
    [
        unless(has(&is_tcp), "flow_table", "is for TCP, and no port here is", "\"80/tcp\" among the ports"),
        unless(
            has(&is_plain_udp),
            "udp",
            "is for UDP without QUIC, and no port here is (QUIC's packets show where a flow starts)",
            "\"53/udp\" among the ports",
        ),
        unless(
            has(&|ports| ports.tracking == Tracking::Learn),
            "learn",
            "does nothing without udp = \"learn\" and a UDP port",
            "udp = \"learn\"",
        ),
        unless(has(&is_quic), "quic_cid", "is for QUIC, and no port here is", "\"443/quic\" among the ports"),
        unless(
            has(&records),
            "flow_idle_timeout",
            "does nothing where no flows are recorded",
            "flow_table = true, udp = \"learn\" or a port of QUIC",
        ),
    ]
    .into_iter()
    .collect()
}

/// Reads how many leading bits of a client's address are hashed; `None` if the whole flow is.
pub(super) fn affinity(table: &Table<'_>) -> Read<Option<Affinity>> {
    let affinity = table.optional("affinity", values::choice(&[("flow", false), ("source", true)]));
    let v4 = table.optional("affinity_prefix_v4", values::integer(1..=32, "affinity_prefix_v4 = 24"));
    let v6 = table.optional("affinity_prefix_v6", values::integer(1..=128, "affinity_prefix_v6 = 64"));
    if !affinity?.is_some_and(|found| found.value) {
        for key in ["affinity_prefix_v4", "affinity_prefix_v6"] {
            refuse(table, key, "without affinity = \"source\" does nothing", "affinity = \"source\"")?;
        }
        return Ok(None);
    }
    Ok(Some(Affinity {
        v4: v4?.map_or(DEFAULT_AFFINITY.v4, |found| found.value),
        v6: v6?.map_or(DEFAULT_AFFINITY.v6, |found| found.value),
    }))
}

/// Refuses `key` if the table has it; `other` is the setting with which it would have an effect.
fn refuse(table: &Table<'_>, key: &str, why: &str, other: &str) -> Read<()> {
    if !table.has(key) {
        return Ok(());
    }
    table.problems.needless(table.place(key), format!("`{key}` {why}"), format!("{other}, or remove `{key}`"))
}
