//! How others do beside it.

use std::fmt;

use super::{
    super::{
        super::results::{Peer, Results},
        format,
        table::Table,
    },
    Page,
};

impl Page<'_> {
    pub(super) fn peers(&mut self, results: &Results) -> fmt::Result {
        self.heading("## Beside others")?;
        self.prose(
            "The same clients and backends in network namespaces of one machine, with one load balancer after the other \
             between them. All share the machine's processors, so these are figures of the whole lab, and compare within \
             this run only.",
        )?;
        self.each_peer(results, &["load balancer", "version", "configuration"], |peer| {
            let name = |path: &String| path.rsplit('/').next().unwrap_or(path).to_owned();
            let link = |path| format!("[{}](../{path})", name(path));
            [peer.version.clone(), peer.configuration.as_ref().map_or_else(|| format::NONE.to_owned(), link)]
        })?;

        self.heading("### Throughput")?;
        self.prose(
            "*new connections*: one request on each. *requests*: over connections that are kept. *CPU*: of the whole \
             machine, clients and backends included, at the rate of the latencies below.",
        )?;
        self.plot("throughput.svg")?;
        let headings = ["load balancer", ">new connections/s", ">requests/s", ">CPU s a million requests"];
        self.each_peer(results, &headings, |peer| {
            let figure = |value, decimals| format::decimals(if value > 0.0 { value } else { f64::NAN }, decimals);
            [
                figure(peer.connections_per_second, 0),
                figure(peer.requests_per_second, 0),
                figure(peer.cpu_seconds_per_million, 1),
            ]
        })?;

        self.heading("### Latency")?;
        self.prose(
            "At a fixed rate, counted from when a request was due and not from when it could be sent: who stalls, pays \
             for all that wait.",
        )?;
        self.plot("latency.svg")?;
        let headings = ["load balancer", ">requests/s", ">requests", ">p50 µs", ">p99 µs", ">p99.9 µs"];
        self.each_peer(results, &headings, |peer| {
            let latency = &peer.latency;
            let [p50, p99, p999] = [latency.p50_us, latency.p99_us, latency.p999_us]
                .map(|value| format::decimals(if latency.requests > 0 { value } else { f64::NAN }, 0));
            [format::count(latency.rate), format::count(latency.requests), p50, p99, p999]
        })?;

        self.heading("### When a backend dies")?;
        self.prose(
            "*longest gap* is the longest time in which a client that asked had no answer; *failed* are the requests that \
             had none in time.",
        )?;
        self.plot("failover.svg")?;
        let headings = ["load balancer", ">requests", ">failed", ">longest gap, ms"];
        self.each_peer(results, &headings, |peer| {
            let failover = &peer.failover;
            let gap = if failover.requests > 0 { failover.longest_gap_ms } else { f64::NAN };
            [format::count(failover.requests), format::count(failover.failed), format::decimals(gap, 0)]
        })
    }

    /// A table with a row for each peer, which begins with its name.
    fn each_peer<const N: usize>(
        &mut self,
        results: &Results,
        headings: &[&'static str],
        cells: impl Fn(&Peer) -> [String; N],
    ) -> fmt::Result {
        let mut table = Table::new(headings);
        for peer in &results.peers {
            table.row([peer.name.clone()].into_iter().chain(cells(peer)));
        }
        self.table(&table)
    }
}
