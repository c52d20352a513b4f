//! Parts of `cargo xtask test`. Each prints its results in a line like that of a test program, and they are counted alike.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use nix::sys::{prctl, signal::Signal};
use xtask::counts::Counts;

use crate::{budget, outages, vm};

/// A part of the test run. Its prerequisites are built by the test run.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Part {
    /// Compare the programs with their budgets.
    Budgets,
    /// Fetch the kernels of each test run.
    FetchKernels,
    /// Test the programs on these kernels.
    Kernels { edge_ctl: PathBuf },
    /// Replay the outages that take seconds, or those of these names.
    Outages { names: Vec<String> },
}

/// Runs a part, and prints its results.
pub(crate) fn run(part: &Part) -> Result<ExitCode> {
    // A part ends with its test run, however that ends.
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    let mut counts = Counts::default();
    let ran = match part {
        Part::Budgets => budget::check().map(|()| counts.check(true)),
        Part::FetchKernels => return vm::Core::fetch().map(|_| ExitCode::SUCCESS),
        Part::Kernels { edge_ctl } => vm::Core::fetch().and_then(|core| core.test(edge_ctl, &mut counts)),
        Part::Outages { names } => outages::counted(names, &mut counts),
    };
    if let Err(error) = ran {
        eprintln!("xtask: {error:#}");
        if counts.failed == 0 {
            counts.check(false);
        }
    }
    println!("{}", counts.line());
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
