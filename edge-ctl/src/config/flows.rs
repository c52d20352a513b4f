//! How a service tracks its flows: which packets start one, how long one is known, and what of it is hashed.

use std::{net::IpAddr, time::Duration};

use edge_common::abi::Tracking;

use super::{
    Protocol,
    values::{self, Entry},
    walk::{Read, Table},
};

const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_mins(5);
const DEFAULT_LEARN: Duration = Duration::from_secs(30);

/// Leading bits of a client's address that are hashed with `affinity = "source"`. An IPv6 host has a whole /64 to choose
/// its addresses from.
const DEFAULT_PREFIX_V4: u8 = 32;
const DEFAULT_PREFIX_V6: u8 = 64;

/// As in [`Service`](super::Service).
pub(super) struct Flows {
    pub(super) tracking: Tracking,
    pub(super) flow_idle_timeout: Duration,
    pub(super) learn: Duration,
    pub(super) affinity_prefix: Option<u8>,
}

/// Reads it from the table of a service. What goes together is judged only as far as `protocol` and `vip` are known.
pub(super) fn read(table: &Table<'_>, protocol: Read<Protocol>, vip: Read<IpAddr>) -> Read<Flows> {
    let timeouts = Duration::from_secs(1)..=Duration::from_hours(24);
    let flow_idle_timeout =
        table.optional("flow_idle_timeout", values::duration(timeouts, "flow_idle_timeout = \"5m\""));
    let learns = Duration::from_secs(1)..=Duration::from_hours(1);
    let learn = table.optional("learn", values::duration(learns, "learn = \"30s\""));
    let tracking = tracking(table, protocol);
    let affinity_prefix = affinity_prefix(table, vip);
    Ok(Flows {
        tracking: tracking?,
        flow_idle_timeout: flow_idle_timeout?.map_or(DEFAULT_IDLE_TIMEOUT, |found| found.value),
        learn: learn?.map_or(DEFAULT_LEARN, |found| found.value),
        affinity_prefix: affinity_prefix?,
    })
}

fn tracking(table: &Table<'_>, protocol: Read<Protocol>) -> Read<Tracking> {
    let flow_table = table.optional("flow_table", values::boolean);
    let quic = table.optional("quic", values::boolean);
    let udp = table.optional("udp", values::choice(&[("stateless", Tracking::Stateless), ("learn", Tracking::Learn)]));
    match protocol? {
        Protocol::Tcp => {
            let other = |key| refuse(table, key, "is for UDP services, this one is TCP", "protocol = \"udp\"");
            let others = ["quic", "udp", "learn"].map(other);
            let tracking = match flow_table? {
                Some(flow_table) if !flow_table.value => Tracking::Stateless,
                _ => Tracking::Tcp,
            };
            let idle_timeout = check_idle_timeout(table, tracking, "flow_table = true");
            others.into_iter().chain([idle_timeout]).collect::<Read<()>>().map(|()| tracking)
        }
        Protocol::Udp => {
            let write = "quic = true or udp = \"learn\" (those flows are recorded)";
            let other = refuse(table, "flow_table", "is for TCP services, this one is UDP", write);
            let quic = quic?.is_some_and(|found| found.value);
            let both = if quic {
                refuse(
                    table,
                    "udp",
                    "does nothing with quic = true: QUIC's packets show where a flow starts",
                    "quic = false",
                )
            } else {
                Ok(())
            };
            let tracking = match udp? {
                _ if quic => Tracking::Quic,
                Some(udp) => udp.value,
                None => Tracking::Stateless,
            };
            let learn = match tracking {
                Tracking::Learn => Ok(()),
                _ => refuse(table, "learn", "without udp = \"learn\" does nothing", "udp = \"learn\""),
            };
            let idle_timeout = check_idle_timeout(table, tracking, "udp = \"learn\" or quic = true");
            [other, both, learn, idle_timeout].into_iter().collect::<Read<()>>().map(|()| tracking)
        }
    }
}

/// Without a flow table an idle timeout means nothing.
fn check_idle_timeout(table: &Table<'_>, tracking: Tracking, other: &str) -> Read<()> {
    match tracking {
        Tracking::Stateless => {
            refuse(table, "flow_idle_timeout", "does nothing in a service that records no flows", other)
        }
        Tracking::Tcp | Tracking::Quic | Tracking::Learn => Ok(()),
    }
}

fn affinity_prefix(table: &Table<'_>, vip: Read<IpAddr>) -> Read<Option<u8>> {
    let affinity = table.optional("affinity", values::choice(&[("flow", false), ("source", true)]));
    let prefix =
        table.optional("affinity_prefix", |entry: &Entry<'_>| {
            let bits: u8 = values::integer(1..=128, "affinity_prefix = 24")(entry)?;
            match vip {
                Ok(IpAddr::V4(_)) if bits > 32 => Err(entry
                    .wrong("but the addresses of an IPv4 VIP's clients have 32 bits", "affinity_prefix = 32 or less")),
                _ => Ok(bits),
            }
        });
    if !affinity?.is_some_and(|found| found.value) {
        refuse(table, "affinity_prefix", "without affinity = \"source\" does nothing", "affinity = \"source\"")?;
        return Ok(None);
    }
    let default = if vip?.is_ipv4() { DEFAULT_PREFIX_V4 } else { DEFAULT_PREFIX_V6 };
    Ok(Some(prefix?.map_or(default, |found| found.value)))
}

/// Refuses `key` if it is there; `other` is the setting with which it would mean something.
fn refuse(table: &Table<'_>, key: &str, why: &str, other: &str) -> Read<()> {
    if !table.has(key) {
        return Ok(());
    }
    Err(table.problems.add(table.place(key), format!("`{key}` {why}"), format!("{other}, or remove `{key}`")))
}
