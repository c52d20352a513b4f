//! Results of a run as Markdown tables, both for the terminal and for files.

use std::fmt::Write as _;

use super::{
    format, ratios,
    results::{Peer, Results},
    table::Table,
};

/// All tables with figures, each with a line that explains them.
pub(super) fn markdown(results: &Results) -> String {
    let machine = &results.machine;
    let mut page =
        format!("# Performance\n\nBy `cargo xtask bench` on: {machine}. Another machine has other figures.\n");
    let mut add = |heading: &str, meaning: &str, table: &Table<'_>| {
        if !table.is_empty() {
            write!(page, "\n## {heading}\n\n{meaning}\n\n{table}").expect("a string takes all");
        }
    };
    add(
        "Targets",
        "Ratios of raw costs, unless it says *net*. Where two kinds are compared, each is first divided by moving the head, as\n\
         measured beside it. A row that the machine disturbed (\\*, below) may miss a target that it would meet.",
        &ratios::table(results),
    );
    let (base, head) = (results.baselines.return_ns, results.baselines.head_ns);
    let meaning = format!(
        "Medians, nanoseconds a packet. *raw*: with the driver, which costs {} ns with a program that returns at once and\n\
         {} ns with one that moves the head by 20 bytes; *net*: without it; *x return* and *x head*: raw over these two.\n\
         Half of the samples lie within *spread* of the median. \\*: slower than this machine is at its best.",
        format::decimals(base, 1),
        format::decimals(head, 1)
    );
    add("Packets", &meaning, &packets(results));
    add(
        "Instructions",
        "Exact, of the built object. *look-ups*: in arrays, which the kernel replaces by some seven instructions each;\n\
         *calls*: of functions of the kernel; *stack*: loads from the stack and stores to it.",
        &instructions(results),
    );
    add(
        "Programs",
        "*translated*: instructions after the kernel's own rewriting; *verified*: what the verifier looked at, on all paths.",
        &programs(results),
    );
    add(
        "Flow tables",
        "For one flow, without what all of them do. *executed*: instructions of the object, a call of the kernel's is one. *two reads*: of arrays as large as those of the dense table;\n\
         *x reads* and *x hash map*: net over those of the same turn. Tables are half full.",
        &flow_tables(results),
    );
    add(
        "Translation",
        "Packets of flows that are known, without the driver. *x dsr*, *x hash maps*: net over those of the same turn. *more, x reads*:\n\
         what is more than `dsr`, over two bare reads of arrays of that size (forward), or one (back). Tables are half full.",
        &nat(results),
    );
    add(
        "Packets a second",
        "Sent through the program and out of a device by one processor, and counted where they arrive. *x plain*: over a\n\
         program that sends each frame back as it is.",
        &live(results),
    );
    add("Control plane", "Medians; half of the samples lie within *spread* of them.", &control(results));
    add(
        "Beside others",
        "One lab, the same clients and backends. CPU seconds are the whole machine's, at the rate of the latencies, which\n\
         count from when a request was due. *failed*, *gap*: requests, and the longest time without an answer, when a\n\
         backend dies.",
        &peers(&results.peers),
    );
    for (heading, lines) in [("Notes", &results.notes), ("What failed", &results.failures)] {
        if !lines.is_empty() {
            write!(page, "\n## {heading}\n").expect("a string takes all");
            for line in lines {
                write!(page, "\n- {line}").expect("a string takes all");
            }
            page.push('\n');
        }
    }
    page
}

fn packets(results: &Results) -> Table<'static> {
    let mut table = Table::new(&[
        "program",
        "mode",
        "family",
        "packet",
        "state",
        ">flows",
        ">services",
        ">backends",
        ">raw ns",
        ">net ns",
        ">x return",
        ">x head",
        ">spread",
    ]);
    for row in &results.rows {
        let star = if row.noisy { "\\*" } else { "" };
        let texts = [&row.program, &row.mode, &row.family, &row.protocol, &row.state].map(Clone::clone);
        let [flows, services, backends] = [row.flows, row.services, row.backends.into()].map(format::count);
        let counts = [flows, services + &row.layout, backends];
        let times = [row.raw_ns, row.net_ns].map(|time| format!("{}{star}", format::decimals(time, 1)));
        let ratios = [row.ratio_return, row.ratio_head].map(format::ratio);
        table.row(texts.into_iter().chain(counts).chain(times).chain(ratios).chain([format::percent(row.spread)]));
    }
    table
}

fn instructions(results: &Results) -> Table<'static> {
    let mut table = Table::new(&["packets", ">executed", ">look-ups", ">calls", ">stack"]);
    for kind in &results.profile {
        let counts = [kind.instructions, kind.lookups, kind.calls, kind.stack].map(format::count);
        table.row([kind.name()].into_iter().chain(counts));
    }
    table
}

fn programs(results: &Results) -> Table<'static> {
    let mut table = Table::new(&["program", ">translated", ">machine code, bytes", ">verified"]);
    for size in &results.programs {
        let counts = [size.translated, size.jited, size.verified].map(format::count);
        table.row([size.program.clone()].into_iter().chain(counts));
    }
    table
}

fn flow_tables(results: &Results) -> Table<'static> {
    let mut table =
        Table::new(&["work", "table", ">executed", ">flows", ">net ns", ">x reads", ">x hash map", ">spread"]);
    for row in &results.flow_tables {
        let ratios = [row.ratio_reads, row.ratio_hash_map].map(format::ratio);
        let figures = [row.instructions, row.flows].map(format::count).into_iter();
        let figures = figures.chain([format::decimals(row.net_ns, 1)]).chain(ratios);
        table
            .row([row.work.clone(), row.table.clone()].into_iter().chain(figures).chain([format::percent(row.spread)]));
    }
    table
}

fn nat(results: &Results) -> Table<'static> {
    let mut table =
        Table::new(&["work", ">flows", ">net ns", ">x dsr", ">more, x reads", ">x hash maps", ">spread", ">turns"]);
    for row in &results.nat {
        let ratios = [row.ratio_dsr, row.more_reads, row.ratio_hash_maps].map(format::ratio);
        let figures = [format::count(row.flows), format::decimals(row.net_ns, 1)].into_iter().chain(ratios);
        let turns = format::count(u32::try_from(row.turns).unwrap_or(u32::MAX));
        table.row([row.work.clone()].into_iter().chain(figures).chain([format::percent(row.spread), turns]));
    }
    table
}

fn live(results: &Results) -> Table<'static> {
    let mut table = Table::new(&["mode", "family", "packet", ">flows", ">packets/s", ">x plain", ">spread"]);
    for live in &results.live {
        let texts = [&live.mode, &live.family, &live.protocol].map(Clone::clone);
        let star = if live.noisy { "\\*" } else { "" };
        let rate = format!("{}{star}", format::decimals(live.packets_per_second, 0));
        let figures = [format::count(live.flows), rate, format::ratio(live.ratio), format::percent(live.spread)];
        table.row(texts.into_iter().chain(figures));
    }
    table
}

fn control(results: &Results) -> Table<'static> {
    let mut table = Table::new(&["what", "size", ">median", "unit", ">spread"]);
    for control in &results.control {
        let (value, unit) = format::with_unit(control.value, &control.unit);
        table.row([control.bench.clone(), control.size.clone(), value, unit, format::percent(control.spread)]);
    }
    table
}

fn peers(peers: &[Peer]) -> Table<'static> {
    let mut table = Table::new(&[
        "load balancer",
        "version",
        ">new connections/s",
        ">requests/s",
        ">at /s",
        ">p50 µs",
        ">p99 µs",
        ">p99.9 µs",
        ">CPU s a million",
        ">failed",
        ">gap ms",
    ]);
    // Figures that were not measured are 0.
    let figure = |value: f64, places| format::decimals(if value > 0.0 { value } else { f64::NAN }, places);
    for peer in peers {
        let Peer { latency, failover, .. } = peer;
        table.row([
            peer.name.clone(),
            peer.version.clone(),
            figure(peer.connections_per_second, 0),
            figure(peer.requests_per_second, 0),
            format::count(latency.rate),
            figure(latency.p50_us, 0),
            figure(latency.p99_us, 0),
            figure(latency.p999_us, 0),
            figure(peer.cpu_seconds_per_million, 1),
            format!("{} of {}", format::count(failover.failed), format::count(failover.requests)),
            format::decimals(if failover.requests > 0 { failover.longest_gap_ms } else { f64::NAN }, 0),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{
        super::results::{Control, FlowTable, Live, Profile, Row},
        *,
    };

    fn row(protocol: &str, ratio_head: f64) -> Row {
        let [program, mode, family, state] = ["edge", "ipip", "4in4", "steady"].map(str::to_owned);
        Row {
            program,
            mode,
            family,
            protocol: protocol.to_owned(),
            state,
            flows: 1024,
            services: 1,
            layout: String::new(),
            backends: 3,
            raw_ns: 50.0 * ratio_head,
            net_ns: 50.0 * ratio_head - 30.0,
            ratio_return: 50.0 * ratio_head / 30.0,
            ratio_head,
            spread: 0.0123,
            samples: 20,
            quiet: 20,
            noisy: protocol == "udp",
            base_ns: 30.0,
            head_ns: 50.0,
        }
    }

    fn in_state(state: &str, ratio_head: f64) -> Row {
        Row { state: state.to_owned(), ..row("tcp", ratio_head) }
    }

    #[test]
    fn targets_of_services_in_transition_are_met_or_missed() {
        let mut results = Results {
            rows: vec![
                row("tcp", 1.4),
                in_state("unconcerned", 1.5),
                in_state("record_read", 2.0),
                in_state("no_record", 1.5),
            ],
            ..Results::default()
        };
        assert!(!markdown(&results).contains("record_read, more"), "the reads were not measured");
        results.flow_tables.push(FlowTable {
            work: "find".to_owned(),
            table: "two reads".to_owned(),
            flows: 1024,
            instructions: 40,
            net_ns: 20.0,
            ratio_hash_map: 0.5,
            ratio_reads: 1.0,
            spread: 0.01,
            turns: 9,
        });
        let page = markdown(&results);
        for (what, last) in [
            ("unconcerned, net", ["steady", "1,024", "≤ 1.15", "1.125", "met"]),
            ("record_read, more than steady", ["two reads", "1,024", "≤ 1.3", "1.500", "missed"]),
            ("no_record, more than steady", ["one read", "1,024", "≤ 1.3", "0.500", "met"]),
        ] {
            assert_eq!(cells(&page, &format!("ipip 4in4 tcp {what}"))[1..], last, "{what}");
        }
    }

    fn cells(page: &str, begins: &str) -> Vec<String> {
        let line = page.lines().find(|line| line.starts_with(&format!("| {begins}")));
        let line = line.unwrap_or_else(|| panic!("no line {begins}: {page}"));
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    }

    #[test]
    fn every_section_has_its_figures() {
        let [mode, family, protocol, state] = ["ipip", "4in4", "tcp", "steady"].map(str::to_owned);
        let results = Results {
            rows: vec![row("tcp", 1.4), row("udp", 1.5)],
            profile: vec![Profile {
                mode: mode.clone(),
                family: family.clone(),
                protocol: protocol.clone(),
                state,
                instructions: 1428,
                lookups: 8,
                calls: 1,
                stack: 90,
            }],
            live: vec![Live {
                mode,
                family,
                protocol,
                flows: 1,
                packets_per_second: 1_204_000.4,
                ratio: 0.6,
                spread: 0.02,
                samples: 20,
                quiet: 20,
                noisy: false,
            }],
            control: vec![Control {
                bench: "table build".to_owned(),
                size: "65,536 slots".to_owned(),
                value: 12_345_678.0,
                unit: "ns".to_owned(),
                spread: 0.034,
            }],
            peers: vec![Peer {
                name: "HAProxy <TCP>".to_owned(),
                version: "1|2".to_owned(),
                configuration: None,
                connections_per_second: 9800.0,
                requests_per_second: 0.0,
                latency: super::super::results::Latency::default(),
                cpu_seconds_per_million: 91.84,
                failover: super::super::results::Failover::default(),
            }],
            failures: vec!["a contender that did not start".to_owned()],
            ..Results::default()
        };
        let page = markdown(&results);
        assert_eq!(cells(&page, "edge")[8..], ["70.0", "40.0", "2.33", "1.40", "1.2 %"]);
        assert!(page.contains("75.0\\*"), "{page}");
        assert_eq!(cells(&page, "ipip 4in4 tcp")[1..], ["moves the head", "1,024", "≤ 1.7", "1.400", "met"]);
        assert_eq!(cells(&page, "ipip 4in4 udp")[3..], ["≤ 1.05", "1.071", "missed"]);
        assert_eq!(cells(&page, "instructions of ipip 4in4 tcp")[3..], ["≤ 340", "1,428", "missed"]);
        assert!(page.contains("|    1,428 |        8 |     1 |    90 |"), "{page}");
        assert_eq!(cells(&page, "ipip | 4in4   | tcp")[3..], ["1", "1,204,000", "0.60", "2.0 %"]);
        assert_eq!(cells(&page, "table build")[2..4], ["12.3", "ms"]);
        assert!(page.contains("| HAProxy \\<TCP> | 1\\|2    |             9,800 |          – |"), "{page}");
        assert!(page.ends_with("## What failed\n\n- a contender that did not start\n"), "{page}");
    }

    #[test]
    fn what_was_not_measured_is_left_out() {
        assert!(!markdown(&Results::default()).contains("##"));
    }
}
