//! The page: what each figure means, and the figures.

use std::fmt::{self, Write as _};

use super::{
    super::results::{Peer, Results, Row},
    format, names,
    plots::Plot,
    table::Table,
    targets,
};

/// All of docs/performance.md.
pub(super) fn markdown(results: &Results, plots: &[Plot]) -> Result<String, fmt::Error> {
    let mut page = Page { text: String::new(), plots };
    page.opening(results)?;
    if !results.rows.is_empty() {
        page.targets(results)?;
        page.packets(results)?;
    }
    if !results.programs.is_empty() {
        page.programs(results)?;
    }
    if !results.live.is_empty() {
        page.live(results)?;
    }
    if !results.control.is_empty() {
        page.control(results)?;
    }
    if !results.peers.is_empty() {
        page.peers(results)?;
    }
    if !results.notes.is_empty() {
        page.paragraph("## Not measured")?;
        page.text.push('\n');
        for note in &results.notes {
            writeln!(page.text, "- {note}")?;
        }
    }
    Ok(page.text)
}

struct Page<'a> {
    text: String,
    plots: &'a [Plot],
}

impl Page<'_> {
    fn paragraph(&mut self, text: &str) -> fmt::Result {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        writeln!(self.text, "{text}")
    }

    /// Puts the plot here, if it was made.
    fn plot(&mut self, file: &str) -> fmt::Result {
        match self.plots.iter().find(|plot| plot.file == file) {
            Some(plot) => self.paragraph(&format!("![{}](performance/{file})", plot.title)),
            None => Ok(()),
        }
    }

    fn table(&mut self, table: &Table) -> fmt::Result {
        self.text.push('\n');
        write!(self.text, "{table}")
    }

    fn opening(&mut self, results: &Results) -> fmt::Result {
        self.paragraph("# Performance")?;
        self.paragraph(&format!(
            "What a packet costs, what the control plane costs, and how others do beside it, as measured by\n\n```console\n\
             # cargo xtask bench\n```\n\nwhich made this page. The machine: {}. Figures of another machine differ: run it \
             on yours.",
            results.machine
        ))
    }

    fn targets(&mut self, results: &Results) -> fmt::Result {
        self.paragraph("## Targets")?;
        self.paragraph(
            "Each line divides two costs of a packet. Those over a baseline are with the driver on both sides (see \
             below). Where two kinds of packets are compared, each is first divided by the program that moves the head, \
             measured in the same moments.",
        )?;
        let mut table = Table::new(&["cost over that of", ">target", ">measured", ""]);
        for target in targets::all(results) {
            let measured = target.measured.map_or_else(|| "–".to_owned(), format::ratio);
            let (bound, verdict) = (target.bound(), target.verdict().to_owned());
            table.row([target.what, bound, measured, verdict]);
        }
        self.table(&table)
    }

    fn packets(&mut self, results: &Results) -> fmt::Result {
        self.paragraph("## Cost of a packet")?;
        self.paragraph(
            "The kernel's test run hands a program the same packet over and over, as the last round left it. So what is \
             timed is a driver: an XDP program that undoes what was done to the packet, restores its bytes, stamps the \
             next flow into it, and tail-calls the program under test. Right before and after each sample the driver is \
             timed with two programs that do next to nothing, the *baselines*: one returns at once, one moves the head of \
             the frame by 20 bytes and sends it.",
        )?;
        let mut table = Table::new(&["baseline", ">ns a packet"]);
        table.row(["returns at once".to_owned(), format::nanoseconds(results.baselines.return_ns)]);
        table.row(["moves the head".to_owned(), format::nanoseconds(results.baselines.head_ns)]);
        self.table(&table)?;
        self.paragraph(
            "*raw* is a packet's time with the driver, *net* is without it; *× return* and *× head* are *raw* over the \
             baselines. All are medians. *spread*: half of the samples lie within this part of the median. The ratios \
             compare across machines; the nanoseconds do not. A family like `4in6` is IPv4 within IPv6; a SYN is the \
             first packet of a connection. Steady: the backend that owns the flow's slot is alive, and new flows of the \
             slot go to it.",
        )?;
        self.plot("flows.svg")?;
        self.plot("flows-ratio.svg")?;
        let is_small = |row: &&Row| names::world(row) == names::SMALL;
        let steady: Vec<_> = results.rows.iter().filter(is_small).filter(|row| row.state == "steady").collect();
        let other: Vec<_> = results.rows.iter().filter(is_small).filter(|row| row.state != "steady").collect();
        let large: Vec<_> = results.rows.iter().filter(|row| !is_small(row)).collect();
        self.rows("### Forwarded, steady", "With one service of each kind, and three backends.", &steady)?;
        if !other.is_empty() {
            self.paragraph("### All kinds of packets")?;
            self.plot("kinds.svg")?;
        }
        self.rows(
            "",
            "What is not forwarded, or not to the slot's old owner. *owner moved*: each SYN finds that its slot has to \
             go to another backend, and writes that down. *reject*: no backend is left, and the client is told so. \
             Fragments, malformed packets and what is not ours go to the host as they are.",
            &other,
        )?;
        if !large.is_empty() {
            self.paragraph("### More services and backends")?;
            self.plot("services.svg")?;
        }
        self.rows(
            "",
            "Flows are spread over all services, and each service has slots of its own: with many services, the \
             slots that packets read do not fit into the processor's caches.",
            &large,
        )
    }

    fn rows(&mut self, heading: &str, says: &str, rows: &[&Row]) -> fmt::Result {
        if rows.is_empty() {
            return Ok(());
        }
        if !heading.is_empty() {
            self.paragraph(heading)?;
        }
        self.paragraph(says)?;
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
            ">× return",
            ">× head",
            ">spread",
        ]);
        for row in rows {
            table.row([
                row.program.clone(),
                row.mode.clone(),
                row.family.clone(),
                names::packet(&row.protocol).to_owned(),
                names::state(&row.state),
                format::count(row.flows),
                format::count(row.services),
                format::count(row.backends),
                format::nanoseconds(row.raw_ns),
                format::nanoseconds(row.net_ns),
                format::ratio(row.ratio_return),
                format::ratio(row.ratio_head),
                format::percent(row.spread),
            ]);
        }
        self.table(&table)
    }

    fn programs(&mut self, results: &Results) -> fmt::Result {
        self.paragraph("## Size of the programs")?;
        self.paragraph(
            "*translated* are the instructions that the kernel has after its own rewriting, *machine code* is what they \
             become here, and *verified* are the instructions that the verifier looked at, on all paths together.",
        )?;
        let mut table = Table::new(&["program", ">translated", ">machine code, bytes", ">verified"]);
        for size in &results.programs {
            let [translated, jited, verified] = [size.translated, size.jited, size.verified].map(format::count);
            table.row([size.program.clone(), translated, jited, verified]);
        }
        self.table(&table)
    }

    fn live(&mut self, results: &Results) -> fmt::Result {
        self.paragraph("## Packets a second")?;
        self.paragraph(
            "Frames that the kernel makes, runs the program on and sends out of a device, counted where they arrive. \
             *× plain* is the same over a program that sends each frame back as it is.",
        )?;
        self.plot("live.svg")?;
        let mut table =
            Table::new(&["mode", "family", "packet", ">flows", ">packets/s of one processor", ">× plain", ">spread"]);
        for live in &results.live {
            table.row([
                live.mode.clone(),
                live.family.clone(),
                names::packet(&live.protocol).to_owned(),
                format::count(live.flows),
                format::decimals(live.packets_per_second, 0),
                format::ratio(live.ratio),
                format::percent(live.spread),
            ]);
        }
        self.table(&table)
    }

    fn control(&mut self, results: &Results) -> fmt::Result {
        self.paragraph("## Control plane")?;
        self.paragraph("Medians; half of the samples lie within *spread* of them.")?;
        let mut table = Table::new(&["what", "size", ">median", "unit", ">spread"]);
        for control in &results.control {
            let (value, unit) = format::with_unit(control.value, &control.unit);
            table.row([control.bench.clone(), control.size.clone(), value, unit, format::percent(control.spread)]);
        }
        self.table(&table)
    }

    fn peers(&mut self, results: &Results) -> fmt::Result {
        self.paragraph("## Beside others")?;
        self.paragraph(
            "The same clients and backends in network namespaces of one machine, with one load balancer after the other \
             between them, each with its health checks on. All share the machine's processors, so the throughput is that \
             of the whole lab: compare within this run only.",
        )?;
        let mut table = Table::new(&["load balancer", "version", "configuration"]);
        for peer in &results.peers {
            let link = |path: &String| {
                let name = path.rsplit('/').next().unwrap_or(path);
                format!("[{name}](../{path})")
            };
            let configuration = peer.configuration.as_ref().map_or_else(|| "–".to_owned(), link);
            table.row([peer.name.clone(), peer.version.clone(), configuration]);
        }
        self.table(&table)?;

        self.paragraph("### Throughput")?;
        self.paragraph(
            "Connections: one request on each. Requests: over connections that are kept. CPU: of the whole machine, \
             clients and backends included, at the rate of the latencies below.",
        )?;
        self.plot("throughput.svg")?;
        let headings = ["load balancer", ">new connections/s", ">requests/s", ">CPU s a million requests"];
        self.each_peer(results, &headings, |peer| {
            [
                format::decimals(peer.connections_per_second, 0),
                format::decimals(peer.requests_per_second, 0),
                format::decimals(peer.cpu_seconds_per_million, 1),
            ]
        })?;

        self.paragraph("### Latency")?;
        self.paragraph(
            "At a fixed rate, counted from when a request was due, not from when it could be sent: a stall is not left \
             out.",
        )?;
        self.plot("latency.svg")?;
        let headings = ["load balancer", ">requests/s", ">requests", ">p50 µs", ">p99 µs", ">p99.9 µs"];
        self.each_peer(results, &headings, |peer| {
            let latency = &peer.latency;
            [
                format::count(latency.rate),
                format::count(latency.requests),
                format::decimals(latency.p50_us, 0),
                format::decimals(latency.p99_us, 0),
                format::decimals(latency.p999_us, 0),
            ]
        })?;

        self.paragraph("### When a backend dies")?;
        self.paragraph(
            "*longest gap* is the longest time in which a client that asked had no answer; *failed* are the requests \
             that never had one.",
        )?;
        self.plot("failover.svg")?;
        let headings = ["load balancer", ">requests", ">failed", ">longest gap ms"];
        self.each_peer(results, &headings, |peer| {
            let failover = &peer.failover;
            let gap = format::decimals(failover.longest_gap_ms, 0);
            [format::count(failover.requests), format::count(failover.failed), gap]
        })
    }

    fn each_peer<const N: usize>(
        &mut self,
        results: &Results,
        headings: &[&'static str],
        cells: impl Fn(&Peer) -> [String; N],
    ) -> fmt::Result {
        let mut table = Table::new(headings);
        for peer in &results.peers {
            table.row([vec![peer.name.clone()], cells(peer).into()].concat());
        }
        self.table(&table)
    }
}
