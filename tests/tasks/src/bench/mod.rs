//! `cargo xtask bench`: measures packets, the control plane, and other load balancers beside this one.

mod packets;
mod flow_tables;
mod places;
mod control;
mod peers;
mod results;
mod report;
mod ratios;
mod table;
mod format;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use xtask::{build, cargo, setup};

pub(crate) use self::results::Profile;
use self::results::{Machine, Results};
use crate::interrupt;

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Section {
    /// Nanoseconds a packet, of every kind of packet.
    Packets,
    /// Cost of the dense flow table beside the kernel's hash map.
    FlowTables,
    /// Cost of translating a packet, in either direction, beside `dsr`, bare reads, and two hash maps of the kernel's.
    Nat,
    /// Packets a second, sent and counted where they arrive.
    Live,
    /// Tables, publication, liveness, configuration and probes.
    Control,
    /// This load balancer and others in the lab, with real clients.
    Peers,
}

/// Sections, durations, and files for the figures.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Sections to measure; without any, all.
    sections: Vec<Section>,
    /// Fewer rows and shorter samples: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Write the figures as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only rows of packets whose name (as in the table, spaces between its words) contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Write the tables as Markdown, too.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Use the programs in target/ without a build.
    #[arg(long)]
    no_build: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    setup::root("bench")?;
    let edge_ctl = build(options)?;
    let (quick, only) = (options.quick, options.only.as_deref());
    let mut results = Results { machine: Machine::this(), ..Results::default() };
    // The lab comes last, since it handles Ctrl-C itself.
    for section in Section::value_variants().iter().filter(|section| options.wants(**section)) {
        let measured = match section {
            Section::Packets => alone(|| packets::measure(&mut results, quick, only)),
            Section::FlowTables => alone(|| flow_tables::measure(&mut results, quick)),
            Section::Nat => alone(|| packets::measure_nat(&mut results, quick)),
            Section::Live => alone(|| packets::measure_live(&mut results, quick, only)),
            Section::Control => control::measure(&mut results, quick),
            Section::Peers => peers::measure(&mut results, quick, &edge_ctl),
        };
        // Earlier results must not be lost with a failure.
        if let Err(error) = measured {
            interrupt::check()?;
            results.failures.push(format!("{error:#}"));
        }
    }
    if let Some(text) = only
        && results.rows.is_empty()
        && results.live.is_empty()
    {
        results.failures.push(format!("no row has `{text}` in its name: run without --only to see the names"));
    }
    let page = report::markdown(&results);
    print!("{page}");
    if let Some(path) = &options.json {
        write(path, &serde_json::to_string_pretty(&results)?)?;
    }
    if let Some(path) = &options.report {
        write(path, &page)?;
    }
    Ok(if results.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the programs of the selected sections, before any of them measures; returns the path of `edge-ctl`.
fn build(options: &Options) -> Result<PathBuf> {
    let edge_ctl = cargo::target_dir()?.join("release/edge-ctl");
    if options.no_build {
        return Ok(edge_ctl);
    }
    build::object(false)?;
    if options.wants(Section::Control) {
        // This builds edge-ctl as well.
        control::build()?;
    } else if options.wants(Section::Peers) {
        return build::all(build::Profile::Release, false);
    }
    Ok(edge_ctl)
}

impl Options {
    fn wants(&self, section: Section) -> bool {
        let has_rows = matches!(section, Section::Packets | Section::Live);
        self.sections.contains(&section) || self.sections.is_empty() && (has_rows || self.only.is_none())
    }
}

/// Counts the instructions that packets execute; needs no root.
///
/// # Errors
/// If the host pipeline treats one of the packets differently.
pub(crate) fn profile() -> Result<Vec<Profile>> {
    packets::profile()
}

/// Runs `measure` in a new thread, since it changes its CPU and its network namespace.
fn alone(measure: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| scope.spawn(measure).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
