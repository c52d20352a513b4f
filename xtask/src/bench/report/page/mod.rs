//! The page: what each figure means, and the figures.

mod packets;
mod peers;
mod profile;

use std::fmt::{self, Write as _};

use super::{super::results::Results, format, names, plots::Plot, table::Table, targets};

/// All of performance.md.
pub(super) fn markdown(results: &Results, plots: &[Plot]) -> Result<String, fmt::Error> {
    let mut page = Page { text: "# Performance\n".to_owned(), plots };
    page.opening(results)?;
    if !results.rows.is_empty() {
        page.targets(results)?;
        page.packets(results)?;
    }
    if !results.profile.is_empty() {
        page.profile(&results.profile)?;
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
    for (heading, lines) in [("## Notes", &results.notes), ("## What failed", &results.failures)] {
        if !lines.is_empty() {
            page.heading(heading)?;
            page.text.push('\n');
            lines.iter().try_for_each(|line| writeln!(page.text, "- {line}"))?;
        }
    }
    Ok(page.text)
}

struct Page<'a> {
    text: String,
    plots: &'a [Plot],
}

impl Page<'_> {
    fn heading(&mut self, text: &str) -> fmt::Result {
        writeln!(self.text, "\n{text}")
    }

    /// A paragraph, in lines that a terminal has room for.
    fn prose(&mut self, text: &str) -> fmt::Result {
        let mut column = 0;
        for word in text.split_whitespace() {
            let width = word.chars().count();
            let fits = column > 0 && column + 1 + width <= 120;
            write!(self.text, "{}{word}", if fits { " " } else { "\n" })?;
            column = if fits { column + 1 + width } else { width };
        }
        writeln!(self.text)
    }

    /// Puts the plot here, if it was made.
    fn plot(&mut self, file: &str) -> fmt::Result {
        match self.plots.iter().find(|plot| plot.file == file) {
            Some(plot) => writeln!(self.text, "\n![{}](performance/{file})", plot.title),
            None => Ok(()),
        }
    }

    fn table(&mut self, table: &Table<'_>) -> fmt::Result {
        write!(self.text, "\n{table}")
    }

    fn opening(&mut self, results: &Results) -> fmt::Result {
        self.prose(
            "What a packet costs, what the control plane costs, and how others do beside it. This page is made by",
        )?;
        self.heading("```console\n# cargo xtask bench\n```")?;
        self.prose(&format!(
            "and not by hand. It was measured on: {}. Another machine has other figures: run it on yours.",
            results.machine
        ))
    }

    fn targets(&mut self, results: &Results) -> fmt::Result {
        self.heading("## Targets")?;
        self.prose(
            "Each line divides what a packet costs by another cost. Costs over a baseline are with the driver on both \
             sides (see below). Where two kinds of packets are compared, each is first divided by the program that moves \
             the head, as measured beside it, since the machine's pace may change between two rows.",
        )?;
        let mut table = Table::new(&["packets", "over", ">flows", ">target", ">measured", ""]);
        for target in targets::all(results) {
            let measured = format::decimals(target.measured.unwrap_or(f64::NAN), 3);
            let (bound, verdict) = (target.bound(), target.verdict().to_owned());
            table.row([target.packets, target.over, target.flows, bound, measured, verdict]);
        }
        self.table(&table)?;
        self.prose(&format!(
            "The lines over *{}* divide the dearest by the cheapest of 1, 1,024, 131,072 and 1,048,576 flows, both without \
             the driver. It is the cache that would tell them apart. Of one service with 65,536 slots, packets of ever more \
             flows read ever more of its owners, up to 128 KiB: more than a first-level cache has. Nothing else that they \
             read grows with the flows.",
            targets::CHEAPEST
        ))
    }

    fn programs(&mut self, results: &Results) -> fmt::Result {
        self.heading("## Size of the programs")?;
        self.prose(
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
        self.heading("## Packets a second")?;
        self.prose(
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
        self.heading("## Control plane")?;
        self.prose("Medians; half of the samples lie within *spread* of them.")?;
        let mut table = Table::new(&["what", "size", ">median", "unit", ">spread"]);
        for control in &results.control {
            let (value, unit) = format::with_unit(control.value, &control.unit);
            table.row([control.bench.clone(), control.size.clone(), value, unit, format::percent(control.spread)]);
        }
        self.table(&table)
    }
}
