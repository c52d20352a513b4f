//! `cargo xtask bench`: what a packet costs, what the control plane costs, and how others do beside it.

mod packets;
mod peers;
mod results;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};

use self::results::{Machine, Results};
use crate::{build, cargo, programs::Size, setup};

/// How long it takes, and where the figures go.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Fewer rows and shorter samples: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Write the figures as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only rows whose name (as in the table, spaces between its words) contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Take the objects in target/bpf as they are.
    #[arg(long)]
    no_build: bool,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    setup::root("bench")?;
    if !options.no_build {
        build::object(false)?;
    }
    let mut results = Results { machine: Machine::this(), ..Results::default() };
    // A thread of its own, since it leaves its processor and its network namespace changed.
    std::thread::scope(|scope| {
        let packets = scope.spawn(|| packets::measure(&mut results, options.quick, options.only.as_deref()));
        packets.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let edge_ctl = if options.no_build {
        cargo::target_dir()?.join("release/edge-ctl")
    } else {
        build::all(build::Options { release: true, trace: false })?
    };
    peers::measure(&mut results, options.quick, &edge_ctl)?;
    print(&results);
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&results)?)
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(results: &Results) {
    println!("\n{:<14} {:>10} {:>10} {:>10}", "program", "translated", "jited", "verified");
    for Size { program, translated, jited, verified } in &results.programs {
        println!("{program:<14} {translated:>10} {jited:>10} {verified:>10}");
    }
    println!("\n{}", results.machine);
    let results::Baselines { return_ns, head_ns } = results.baselines;
    println!("baselines, driver included: returns at once {return_ns:.1} ns, moves the head {head_ns:.1} ns");
    for note in &results.notes {
        println!("not measured: {note}");
    }
}
