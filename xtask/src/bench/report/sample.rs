//! Results that nobody measured: made up, with something in each section.

use super::super::results::{Baselines, Control, Failover, Latency, Live, Machine, Peer, Profile, Results, Row};
use crate::programs::Size;

pub(super) fn results() -> Results {
    Results {
        machine: Machine {
            processor: "Made-up Processor".to_owned(),
            processors: 2,
            kernel: "6.0.0-sample".to_owned(),
        },
        baselines: Baselines { return_ns: 30.0, head_ns: 50.0 },
        programs: vec![
            Size { program: "edge".to_owned(), translated: 6837, jited: 28_592, verified: 595_729 },
            Size { program: "decap".to_owned(), translated: 1798, jited: 8029, verified: 25_354 },
        ],
        profile: vec![
            profile(["ipip", "4in4", "tcp", "steady"], [417, 9, 1, 60], [11, 130, 80, 50, 0, 0, 60, 45, 30, 0, 11]),
            profile(["dsr", "6", "tcp", "steady"], [360, 9, 0, 40], [11, 110, 80, 50, 0, 0, 23, 45, 30, 0, 11]),
            profile(["none", "none", "arp", "not_ours"], [31, 1, 0, 2], [11, 0, 0, 0, 0, 0, 0, 4, 6, 0, 10]),
        ],
        rows: rows(),
        live: vec![live("ipip", "4in4", 812_345.6), live("dsr", "4", 1_204_000.0)],
        control: vec![
            control("table build", "65,536 slots, 1,000 backends", 12_345_678.0, "ns"),
            control("probe engine", "1,000 backends", 45_678.0, "probes/s"),
        ],
        peers: peers(),
        notes: vec!["something that is not there yet".to_owned()],
        failures: vec!["a way that did not start".to_owned()],
    }
}

/// As many rows as a full run has of what is plotted; a row's cost is made of its properties.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let ways = [("dsr", "4"), ("dsr", "6"), ("ipip", "4in4"), ("ipip", "6in6"), ("ipip", "4in6"), ("ipip", "6in4")];
    for (place, (mode, family)) in (0u32..).zip(ways) {
        for (protocol, more) in [("tcp", 0.0), ("tcp_syn", 12.0), ("udp", 1.0)] {
            for (flows, missed) in [(1, 0.0), (1 << 10, 0.5), (1 << 17, 2.0), (1 << 20, 4.0)] {
                let raw = 62.0 + 3.0 * f64::from(place) + more + missed;
                rows.push(row([mode, family, protocol, "steady"], flows, (1, 3), raw));
            }
        }
    }
    for (v, more) in [("4", 0.0), ("6", 6.0)] {
        rows.push(row(["ipip", v, "tcp", "reject"], 1 << 10, (1, 3), 140.0 + more));
        rows.push(row(["ipip", v, "udp", "reject"], 1 << 10, (1, 3), 120.0 + more));
        rows.push(row(["none", v, "tcp", "fragment"], 1 << 10, (1, 3), 45.0 + more));
        rows.push(row(["none", v, "tcp", "malformed"], 1 << 10, (1, 3), 36.0 + more));
        rows.push(row(["none", v, "icmp", "echo"], 1 << 10, (1, 3), 99.0 + more));
        rows.push(row(["none", v, "tcp", "not_ours"], 1 << 10, (1, 3), 44.0 + more));
        let tunnel = format!("{v}in{v}");
        for (table, times) in [("fresh", 1.0), ("aged", 1.5)] {
            for (protocol, state, raw) in [("tcp", "unconcerned", 101.0), ("tcp_syn", "recorded_at_new", 202.0)] {
                for (flows, missed) in [(1 << 10, 1.0), (1 << 17, 2.0), (1 << 20, 3.0)] {
                    let row = row(["ipip", &tunnel, protocol, state], flows, (1, 3), times * missed * raw + more);
                    rows.push(Row { table: table.to_owned(), ..row });
                }
            }
        }
        let taken_over = row(["ipip", &tunnel, "tcp_syn", "owner_taken_over"], 1 << 20, (1, 3), 210.0 + more);
        rows.push(Row { table: "fresh".to_owned(), ..taken_over });
        rows.push(row(["ipip", &tunnel, "tcp", "steady"], 1 << 10, (1000, 1000), 80.0 + more));
        rows.push(row(["ipip", &tunnel, "tcp", "steady"], 1 << 20, (1000, 1000), 190.0 + more));
    }
    rows.push(row(["none", "none", "arp", "not_ours"], 1 << 10, (1, 3), 33.0));
    rows
}

fn row(kind: [&str; 4], flows: u32, world: (u32, u16), raw_ns: f64) -> Row {
    let [mode, family, protocol, state] = kind.map(str::to_owned);
    let (base_ns, head_ns) = (30.0, 50.0);
    Row {
        program: "edge".to_owned(),
        mode,
        family,
        protocol,
        state,
        table: String::new(),
        flows,
        services: world.0,
        backends: world.1,
        raw_ns,
        net_ns: raw_ns - base_ns,
        ratio_return: raw_ns / base_ns,
        ratio_head: raw_ns / head_ns,
        spread: 0.0123,
        samples: 20,
        quiet: if flows == 1 { 5 } else { 20 },
        noisy: flows == 1,
        base_ns,
        head_ns,
    }
}

fn profile(kind: [&str; 4], [instructions, lookups, calls, stack]: [u32; 4], steps: [u32; 11]) -> Profile {
    let [mode, family, protocol, state] = kind.map(str::to_owned);
    let names = ["link layer", "IP, transport", "hash, index", "owner", "record", "pick", "rewrite"];
    let names = names.into_iter().chain(["maps", "bounds", "odd", "rest"]);
    let steps = names.map(str::to_owned).zip(steps).collect();
    Profile { mode, family, protocol, state, instructions, lookups, calls, stack, steps }
}

fn live(mode: &str, family: &str, packets_per_second: f64) -> Live {
    Live {
        mode: mode.to_owned(),
        family: family.to_owned(),
        protocol: "udp".to_owned(),
        flows: 1,
        packets_per_second,
        ratio: packets_per_second / 2e6,
        spread: 0.02,
        samples: 20,
        quiet: 20,
        noisy: false,
    }
}

fn control(bench: &str, size: &str, value: f64, unit: &str) -> Control {
    let [bench, size, unit] = [bench, size, unit].map(str::to_owned);
    Control { bench, size, value, unit, spread: 0.034 }
}

fn peers() -> Vec<Peer> {
    // Name, configuration, connections/s, p50 µs, failed, gap ms, share of answers while there is a gap.
    let all = [
        ("no balancer", None, 9800.0, 92.0, 4000, 5000.0, 0.0),
        ("edge dsr", Some("bench/peers/edge-dsr.toml"), 9500.0, 96.0, 31, 420.0, 0.3),
        ("edge ipip", Some("bench/peers/edge-ipip.toml"), 9100.0, 101.0, 33, 430.0, 0.3),
        ("nftables numgen", Some("bench/peers/numgen.nft"), 8700.0, 110.0, 900, 2100.0, 0.66),
        ("HAProxy <TCP>", Some("bench/peers/haproxy.cfg"), 4100.0, 230.0, 12, 1200.0, 0.8),
        ("nginx stream", Some("bench/peers/nginx.conf"), 3900.0, 260.0, 55, 3100.0, 0.7),
    ];
    let peer =
        |(name, configuration, connections, p50, failed, gap, left): (&str, Option<&str>, f64, f64, u64, f64, f64)| {
            let answers = (0..80).map(|tenth| {
                let in_gap = (20.0..20.0 + gap / 100.0).contains(&f64::from(tenth));
                if in_gap && left < 0.1 {
                    0
                } else if in_gap {
                    110
                } else {
                    195 + tenth % 11
                }
            });
            Peer {
                name: name.to_owned(),
                version: "1.2.3".to_owned(),
                configuration: configuration.map(str::to_owned),
                connections_per_second: connections,
                requests_per_second: 3.1 * connections,
                latency: Latency { rate: 2000, requests: 20_000, p50_us: p50, p99_us: 7.0 * p50, p999_us: 40.0 * p50 },
                cpu_seconds_per_million: 9e5 / connections,
                failover: Failover {
                    requests: 16_000,
                    failed,
                    longest_gap_ms: gap,
                    answers: answers.collect(),
                    died_at: 20,
                },
            }
        };
    all.map(peer).into()
}
