//! The plots: what is plotted, from which figures.

mod canvas;
mod axis;
mod lines;
mod bars;
mod latency;
mod failover;

use std::collections::BTreeSet;

use anyhow::Result;

use self::{
    bars::{Bars, Panel},
    canvas::COLOURS,
    lines::{Line, OverFlows, Reference},
};
use super::{
    super::results::{Peer, Results, Row},
    format,
    names::{self, FEW, MANY, SMALL, find},
    targets::{HEAD_AIM, HEAD_LIMIT},
};

/// A plot that there are figures for.
pub(super) struct Plot {
    /// Name of its file.
    pub(super) file: &'static str,
    /// What it shows, for who cannot see it.
    pub(super) title: &'static str,
    pub(super) svg: String,
}

/// Plots one thing; none if it was not measured.
type Draw = fn(&Results, &str) -> Result<Option<String>>;

/// A plot that may be made: its file, its title, and what draws it.
const ALL: [(&str, &str, Draw); 9] = [
    ("flows.svg", "Cost of a packet against the number of flows", flows),
    ("flows-ratio.svg", "Cost of a packet over the program that moves the head, against the number of flows", ratios),
    ("transition.svg", "Cost of a packet while its service is not settled", transition),
    ("kinds.svg", "Cost of each kind of packet", kinds),
    ("services.svg", "Cost of a packet with more services and backends", services),
    ("live.svg", "Packets a second, sent and counted where they arrive", live),
    ("throughput.svg", "Throughput of each load balancer, and the processor time that it takes", throughput),
    ("latency.svg", "Latency of each load balancer", latencies),
    ("failover.svg", "Answers that clients get while a backend dies", failovers),
];

/// Names of all files that may be made.
pub(super) fn files() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(|(file, ..)| file)
}

/// Those that there are figures for.
pub(super) fn all(results: &Results) -> Result<Vec<Plot>> {
    let mut plots = Vec::new();
    for (file, title, draw) in ALL {
        plots.extend(draw(results, title)?.map(|svg| Plot { file, title, svg }));
    }
    Ok(plots)
}

/// A line for each way to forward.
fn over_flows(results: &Results, figure: fn(&Row) -> f64) -> Vec<Line> {
    let rows = || {
        let wanted = |row: &&Row| row.protocol == "tcp" && row.state == "steady" && names::world(row) == SMALL;
        results.rows.iter().filter(wanted)
    };
    let mut ways: Vec<(&str, &str)> = Vec::new();
    for row in rows() {
        let way = (row.mode.as_str(), row.family.as_str());
        if !ways.contains(&way) {
            ways.push(way);
        }
    }
    let line = |(mode, family): (&str, &str)| {
        let mut points: Vec<_> = rows()
            .filter(|row| (row.mode.as_str(), row.family.as_str()) == (mode, family))
            .map(|row| (row.flows, figure(row)))
            .collect();
        points.sort_by_key(|(flows, _)| *flows);
        Line { name: names::way(mode, family), points }
    };
    ways.into_iter().map(line).collect()
}

fn flows(results: &Results, title: &str) -> Result<Option<String>> {
    let lines = over_flows(results, |row| row.raw_ns);
    let reference = |name: &str, value| Reference { name: name.to_owned(), value, limit: false };
    let references = [
        reference("moves the head", results.baselines.head_ns),
        reference("returns at once", results.baselines.return_ns),
    ];
    let subtitle = "TCP data, steady, 1 service, 3 backends; driver included, as in the two baselines (dashed)";
    let plot = OverFlows { title, subtitle, unit: "ns a packet", lines: &lines, references: &references };
    if lines.is_empty() { Ok(None) } else { plot.svg().map(Some) }
}

fn ratios(results: &Results, title: &str) -> Result<Option<String>> {
    let lines = over_flows(results, |row| row.ratio_head);
    let reference = |name: String, value, limit| Reference { name, value, limit };
    let references = [
        reference("moves the head".to_owned(), 1.0, false),
        reference(format!("target {HEAD_LIMIT}"), HEAD_LIMIT, true),
        reference(format!("aim {HEAD_AIM}"), HEAD_AIM, true),
    ];
    let subtitle = "TCP data, steady, 1 service, 3 backends; the target is for ipip 4in4";
    let plot = OverFlows { title, subtitle, unit: "times the baseline", lines: &lines, references: &references };
    if lines.is_empty() { Ok(None) } else { plot.svg().map(Some) }
}

/// A name, and where its two figures are: mode, families of IPv4 and IPv6, protocol, state, flows.
type Kind = (&'static str, &'static str, [&'static str; 2], &'static str, &'static str, u32);

const KINDS: [Kind; 23] = [
    ("ARP", "none", ["none", ""], "arp", "not_ours", FEW),
    ("TCP data, not ours", "none", ["4", "6"], "tcp", "not_ours", FEW),
    ("UDP, not ours", "none", ["4", "6"], "udp", "not_ours", FEW),
    ("malformed", "none", ["4", "6"], "tcp", "malformed", FEW),
    ("fragment, first not seen", "none", ["4", "6"], "tcp", "fragment", FEW),
    ("ICMP error", "none", ["4", "6"], "icmp", "icmp_error", FEW),
    ("ping, answered", "none", ["4", "6"], "icmp", "echo", FEW),
    ("TCP data, dsr", "dsr", ["4", "6"], "tcp", "steady", FEW),
    ("TCP SYN, dsr", "dsr", ["4", "6"], "tcp_syn", "steady", FEW),
    ("UDP, dsr", "dsr", ["4", "6"], "udp", "steady", FEW),
    ("TCP data, ipip", "ipip", ["4in4", "6in6"], "tcp", "steady", FEW),
    ("TCP SYN, ipip", "ipip", ["4in4", "6in6"], "tcp_syn", "steady", FEW),
    ("UDP, ipip", "ipip", ["4in4", "6in6"], "udp", "steady", FEW),
    ("TCP data in a VLAN, ipip", "ipip", ["4in4", "6in6"], "tcp", "vlan", FEW),
    ("TCP data, extension header, ipip", "ipip", ["", "6in6"], "tcp", "extension", FEW),
    ("TCP data, first fragment, ipip", "ipip", ["4in4", "6in6"], "tcp", "first_fragment", FEW),
    ("TCP data, rejected", "ipip", ["4", "6"], "tcp", "reject", FEW),
    ("TCP SYN, rejected", "ipip", ["4", "6"], "tcp_syn", "reject", FEW),
    ("UDP, rejected", "ipip", ["4", "6"], "udp", "reject", FEW),
    ("TTL exceeded, answered", "ipip", ["4in4", "6in6"], "tcp", "ttl_exceeded", FEW),
    ("too big, answered", "ipip", ["4in4", "6in6"], "tcp", "too_big", FEW),
    ("TCP data, decapsulated", "ipip", ["4in4", "6in6"], "tcp", "decapsulated", FEW),
    ("TCP data, not a tunnel's", "none", ["4", "6"], "tcp", "not_tunnel", FEW),
];

/// A group for each state and number of flows, a panel for each family.
fn transition(results: &Results, title: &str) -> Result<Option<String>> {
    const FAMILIES: [(&str, &str); 2] = [("4in4", "ns a packet, ipip 4in4"), ("6in6", "ns a packet, ipip 6in6")];
    const TABLES: [&str; 2] = ["fresh", "aged"];
    let rows = || results.rows.iter().filter(|row| !row.table.is_empty());
    let mut kinds: Vec<(&str, u32)> = Vec::new();
    for row in rows() {
        let kind = (row.state.as_str(), row.flows);
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    let labels: Vec<_> =
        kinds.iter().map(|(state, flows)| format!("{}, {} flows", names::state(state), format::count(flows))).collect();
    let figure = |family: &str, table: &str, kind: (&str, u32)| {
        let is = |row: &&Row| {
            (row.family.as_str(), row.table.as_str()) == (family, table) && (row.state.as_str(), row.flows) == kind
        };
        rows().find(is).map(|row| row.net_ns)
    };
    let panels = FAMILIES.map(|(family, unit)| {
        let groups = kinds.iter().map(|kind| TABLES.map(|table| figure(family, table, *kind)).to_vec()).collect();
        Panel { unit, format: format::significant, groups }
    });
    let steady = FAMILIES.map(|(family, _)| {
        let row = find(results, ["ipip", family, "tcp", "steady"], FEW);
        format::decimals(row.map_or(f64::NAN, |row| row.net_ns), 1)
    });
    let subtitle = format!(
        "1 service, 3 backends; without the driver. While it is settled: {} ns with 1,024 flows",
        steady.join(" and ")
    );
    let plot = Bars {
        title,
        subtitle: &subtitle,
        labels: &labels,
        series: &[("fresh table", COLOURS[0]), ("aged table", COLOURS[5])],
        panels: &panels,
    };
    if labels.is_empty() { Ok(None) } else { plot.svg().map(Some) }
}

fn kinds(results: &Results, title: &str) -> Result<Option<String>> {
    let found = KINDS.map(|(name, mode, families, protocol, state, flows)| {
        let figure = |family| find(results, [mode, family, protocol, state], flows).map(|row| row.net_ns);
        (name, families.map(figure).to_vec())
    });
    let (labels, groups) = measured(found.map(|(name, figures)| (name.to_owned(), figures)).into());
    let plot = Bars {
        title,
        subtitle: "1 service, 3 backends, 1,024 flows; without the driver",
        labels: &labels,
        series: &[("IPv4, or no IP at all", COLOURS[0]), ("IPv6", COLOURS[5])],
        panels: &[Panel { unit: "ns a packet", format: format::nanoseconds, groups }],
    };
    if labels.is_empty() { Ok(None) } else { plot.svg().map(Some) }
}

/// The groups that have a figure.
fn measured(groups: Vec<(String, Vec<Option<f64>>)>) -> (Vec<String>, Vec<Vec<Option<f64>>>) {
    groups.into_iter().filter(|(_, figures)| figures.iter().any(Option::is_some)).unzip()
}

fn services(results: &Results, title: &str) -> Result<Option<String>> {
    let rows = || {
        let kind =
            |row: &&Row| [&row.mode, &row.family, &row.protocol, &row.state] == ["ipip", "4in4", "tcp", "steady"];
        results.rows.iter().filter(kind)
    };
    let worlds: BTreeSet<_> = rows().map(names::world).collect();
    let groups = worlds.iter().map(|&(services, backends)| {
        let plural = if services == 1 { "service" } else { "services" };
        let name = format!("{} {plural}, {} backends", format::count(services), format::count(backends));
        let figure = |flows| rows().find(|row| row.flows == flows && names::world(row) == (services, backends));
        (name, [FEW, MANY].map(|flows| figure(flows).map(|row| row.net_ns)).to_vec())
    });
    let (labels, groups) = measured(groups.collect());
    let plot = Bars {
        title,
        subtitle: "TCP data, ipip 4in4, steady; without the driver",
        labels: &labels,
        series: &[("1,024 flows", COLOURS[0]), ("1,048,576 flows", COLOURS[5])],
        panels: &[Panel { unit: "ns a packet", format: format::nanoseconds, groups }],
    };
    if labels.len() < 2 { Ok(None) } else { plot.svg().map(Some) }
}

fn live(results: &Results, title: &str) -> Result<Option<String>> {
    let label = |live: &super::super::results::Live| {
        let way = names::way(&live.mode, &live.family);
        let plural = if live.flows == 1 { "flow" } else { "flows" };
        format!("{}, {way}, {} {plural}", names::packet(&live.protocol), format::count(live.flows))
    };
    let labels: Vec<_> = results.live.iter().map(label).collect();
    let groups = results.live.iter().map(|live| vec![Some(live.packets_per_second / 1e3)]).collect();
    let plot = Bars {
        title,
        subtitle: "Thousands of frames that arrive on the other side, a second of one processor",
        labels: &labels,
        series: &[("", COLOURS[0])],
        panels: &[Panel { unit: "thousand packets/s", format: format::significant, groups }],
    };
    if labels.is_empty() { Ok(None) } else { plot.svg().map(Some) }
}

fn throughput(results: &Results, title: &str) -> Result<Option<String>> {
    let labels: Vec<_> = results.peers.iter().map(|peer| peer.name.clone()).collect();
    let panel = |unit, figure: fn(&Peer) -> f64| {
        let figures = results.peers.iter().map(figure);
        let groups = figures.map(|figure| vec![(figure > 0.0).then_some(figure)]).collect();
        Panel { unit, format: format::significant, groups }
    };
    let plot = Bars {
        title,
        subtitle: "One machine runs the clients, the load balancer and the backends",
        labels: &labels,
        series: &[("", COLOURS[0])],
        panels: &[
            panel("new connections/s", |peer| peer.connections_per_second),
            panel("requests/s, connections kept", |peer| peer.requests_per_second),
            panel("CPU seconds a million requests", |peer| peer.cpu_seconds_per_million),
        ],
    };
    if labels.is_empty() { Ok(None) } else { plot.svg().map(Some) }
}

fn latencies(results: &Results, title: &str) -> Result<Option<String>> {
    let peers: Vec<_> = results.peers.iter().filter(|peer| peer.latency.p50_us > 0.0).collect();
    let rates: BTreeSet<_> = peers.iter().map(|peer| peer.latency.rate).collect();
    let rates: Vec<_> = rates.into_iter().map(format::count).collect();
    let subtitle = format!("At {} requests a second, over connections that are kept", rates.join(" or "));
    if peers.is_empty() { Ok(None) } else { latency::svg(title, &subtitle, &peers).map(Some) }
}

fn failovers(results: &Results, title: &str) -> Result<Option<String>> {
    let peers: Vec<_> = results.peers.iter().filter(|peer| !peer.failover.answers.is_empty()).collect();
    let subtitle = "Answers in each tenth of a second, in percent of what they were before; at most 150 % are shown";
    if peers.is_empty() { Ok(None) } else { failover::svg(title, subtitle, &peers).map(Some) }
}
