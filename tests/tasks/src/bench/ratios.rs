//! The targets, and whether a run met them: the cost of a kind of packet relative to another, which also holds on other
//! machines, and instructions.

use super::{
    format,
    results::{FlowTable, Results, Row},
    table::Table,
};

/// Numbers of flows that fit into a cache, and that do not.
const FEW: u32 = 1 << 10;
const SOME: u32 = 1 << 17;
const MANY: u32 = 1 << 20;
/// Targets: the maximum of each ratio, and of the instructions of a packet.
const HEAD: f64 = 1.7;
const RETURN: f64 = 1.5;
const FAMILY: f64 = 1.15;
const UDP: f64 = 1.05;
const GUE: f64 = 1.15;
const FLOWS: f64 = 1.2;
const UNCONCERNED: f64 = 1.15;
const READS: f64 = 1.3;
const TRANSLATED: f64 = 2.5;
const HASH_MAPS: f64 = 0.67;
const DOORS: f64 = 1.3;
const SERVICES: f64 = 2.5;
const INSTRUCTIONS: u32 = 340;

/// A table with a line for each target whose rows were measured.
pub(super) fn table(results: &Results) -> Table<'static> {
    let mut table = Table::new(&["packets", "over", ">flows", ">target", ">measured", "result"]);
    let result = |is_met: bool| if is_met { "met" } else { "missed" }.to_owned();
    if let Some(kind) = results.profile.iter().find(|kind| kind.name() == "ipip 4in4 tcp") {
        let (target, measured) = (format!("≤ {INSTRUCTIONS}"), format::count(kind.instructions));
        let what = ["instructions of ipip 4in4 tcp", format::NONE, format::NONE].map(str::to_owned);
        table.row(what.into_iter().chain([target, measured, result(kind.instructions <= INSTRUCTIONS)]));
    }
    let mut add = |packets: String, over: &str, flows: u32, target: f64, measured: Option<f64>| {
        if let Some(measured) = measured {
            let cells = [packets, over.to_owned(), format::count(flows)];
            let figures = [format!("≤ {target}"), format::decimals(measured, 3), result(measured <= target)];
            table.row(cells.into_iter().chain(figures));
        }
    };
    let steady = |mode, family, protocol, flows| find(results, [mode, family, protocol, "steady"], flows);
    for flows in [FEW, MANY] {
        let of = |mode, family, protocol| steady(mode, family, protocol, flows);
        let head = of("ipip", "4in4", "tcp").map(|row| row.ratio_head);
        add("ipip 4in4 tcp".to_owned(), "moves the head", flows, HEAD, head);
        for family in ["4in4", "6in6"] {
            let measured = over(of("gue", family, "tcp"), of("ipip", family, "tcp"));
            add(format!("gue {family} tcp"), &format!("ipip {family} tcp"), flows, GUE, measured);
        }
        for (mode, v4, v6) in [("ipip", "4in4", "6in6"), ("dsr", "4", "6")] {
            let measured = over(of(mode, v6, "tcp"), of(mode, v4, "tcp"));
            add(format!("{mode} {v6} tcp"), &format!("{mode} {v4} tcp"), flows, FAMILY, measured);
            for family in [v4, v6] {
                let measured = over(of(mode, family, "udp"), of(mode, family, "tcp"));
                add(format!("{mode} {family} udp"), &format!("{mode} {family} tcp"), flows, UDP, measured);
            }
        }
    }
    for (family, protocol) in [("4", "tcp"), ("4", "udp"), ("6", "tcp"), ("6", "udp")] {
        let row = find(results, ["none", family, protocol, "not_ours"], FEW);
        let measured = row.map(|row| row.ratio_return);
        add(format!("not ours {family} {protocol}"), "returns at once", FEW, RETURN, measured);
    }
    for family in ["4in4", "6in6"] {
        // Without the driver, whose cost does not depend on the number of flows.
        let cost = |flows| steady("ipip", family, "tcp", flows).map(|row| row.net_ns / row.base_ns);
        let measured = cost(MANY).zip(cost(FEW)).map(|(many, few)| many / few);
        add(format!("ipip {family} tcp, net"), "1,024 flows", MANY, FLOWS, measured);
        for (services, layout, what, target) in
            [(1, "x600", "600 destinations", DOORS), (1000, "/4096", "1,000 services of 4,096 slots", SERVICES)]
        {
            let row = results.rows.iter().find(|row| {
                row.family == family
                    && row.state == "steady"
                    && (row.services, row.layout.as_str()) == (services, layout)
            });
            let measured = over_net(row, steady("ipip", family, "tcp", MANY));
            add(format!("ipip {family} tcp, {what}, net"), "one service", MANY, target, measured);
        }
    }
    for row in results.nat.iter().filter(|row| row.work.starts_with("nat")) {
        let reads = if row.work.ends_with("forward") { "two reads" } else { "one read" };
        if row.flows == FEW {
            add(format!("{}, net", row.work), "dsr", FEW, TRANSLATED, Some(row.ratio_dsr));
        } else if row.flows > FEW {
            add(format!("{}, more than dsr", row.work), reads, row.flows, READS, Some(row.more_reads));
        }
        add(format!("{}, net", row.work), "two hash maps", row.flows, HASH_MAPS, Some(row.ratio_hash_maps));
    }
    for family in ["4in4", "6in6"] {
        for flows in [FEW, SOME, MANY] {
            let stable = steady("ipip", family, "tcp", flows);
            let with = |state| find(results, ["ipip", family, "tcp", state], flows);
            let measured = over_net(with("unconcerned"), stable);
            add(format!("ipip {family} tcp unconcerned, net"), "steady", flows, UNCONCERNED, measured);
            let is_reads = |row: &&FlowTable| row.table == "two reads" && row.flows == flows;
            let Some(reads) = results.flow_tables.iter().find(is_reads).map(|row| row.net_ns) else { continue };
            for (state, count, what) in
                [("record_read", 2.0, "two reads"), ("record_aged", 2.0, "two reads"), ("no_record", 1.0, "one read")]
            {
                let more = with(state).zip(stable).map(|(row, stable)| row.net_ns - stable.net_ns);
                let measured = more.map(|more| more / (reads / 2.0 * count));
                add(format!("ipip {family} tcp {state}, more than steady"), what, flows, READS, measured);
            }
        }
    }
    table
}

/// Ratio of net costs, each first divided by the driver's own time beside it.
fn over_net(row: Option<&Row>, other: Option<&Row>) -> Option<f64> {
    let net = |row: &Row| row.net_ns / row.base_ns;
    Some(net(row?) / net(other?))
}

/// The row of a kind with one service and three backends, if it was measured.
fn find<'a>(results: &'a Results, kind: [&str; 4], flows: u32) -> Option<&'a Row> {
    let is = |row: &&Row| {
        [&row.mode, &row.family, &row.protocol, &row.state] == kind
            && (row.flows, row.services, row.backends, row.layout.as_str()) == (flows, 1, 3, "")
    };
    results.rows.iter().find(is)
}

/// Ratio of two rows, each first divided by the same baseline in its own samples: the machine's speed may change
/// between two rows.
fn over(row: Option<&Row>, other: Option<&Row>) -> Option<f64> {
    Some(row?.ratio_head / other?.ratio_head)
}
