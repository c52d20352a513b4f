//! What a row is called in a table or beside a line, and where to find it.

use super::super::results::{Results, Row};

/// The services of most rows, and the backends of each.
pub(super) const SMALL: (u32, u16) = (1, 3);
/// Flows that fit into a cache, and flows that do not.
pub(super) const FEW: u32 = 1 << 10;
pub(super) const MANY: u32 = 1 << 20;

/// All numbers of flows of which there are rows.
pub(super) const FLOWS: [u32; 4] = [1, FEW, 1 << 17, MANY];

/// How many services and backends a row was measured with.
pub(super) fn world(row: &Row) -> (u32, u16) {
    (row.services, row.backends)
}

/// The row of a kind, if it was measured.
pub(super) fn find<'a>(results: &'a Results, kind: [&str; 4], flows: u32) -> Option<&'a Row> {
    let is = |row: &&Row| {
        [&row.mode, &row.family, &row.protocol, &row.state] == kind && row.flows == flows && world(row) == SMALL
    };
    results.rows.iter().find(is)
}

/// A way to forward.
pub(super) fn way(mode: &str, family: &str) -> String {
    format!("{mode} {family}")
}

pub(super) fn packet(protocol: &str) -> &str {
    match protocol {
        "tcp" => "TCP data",
        "tcp_syn" => "TCP SYN",
        "udp" => "UDP",
        "icmp" => "ICMP",
        "arp" => "ARP",
        other => other,
    }
}

pub(super) fn state(state: &str) -> String {
    state.replace('_', " ")
}
