//! The tasks of `cargo xtask` that need a lab or loaded programs. `cargo xtask` builds this program and starts it.

mod bench;
mod booted;
mod budget;
mod demo;
mod interpreter;
mod interrupt;
mod lab;
#[cfg(test)]
mod measured;
mod outages;
mod part;
mod programs;
mod vm;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{build, setup, tasks};

/// Tasks of `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 120)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(name = tasks::BENCH.name, about = tasks::BENCH.about)]
    Bench(bench::Options),
    #[command(name = tasks::BUDGETS.name, about = tasks::BUDGETS.about)]
    Budgets,
    #[command(name = tasks::VM.name, about = tasks::VM.about)]
    Vm(vm::Options),
    #[command(name = tasks::LAB.name, about = tasks::LAB.about)]
    #[command(subcommand)]
    Lab(lab::Command),
    #[command(name = tasks::OUTAGES.name, about = tasks::OUTAGES.about)]
    Outages(outages::Options),
    #[command(name = tasks::DEMO.name, about = tasks::DEMO.about)]
    Demo {
        /// Print one JSON object instead of the timeline.
        #[arg(long)]
        json: bool,
    },
    /// The test that `package --test` runs once the packages are made.
    #[command(hide = true)]
    Booted { deb: PathBuf, successor: PathBuf },
    /// A part of `test`.
    #[command(hide = true, subcommand)]
    Part(part::Part),
    /// The measurement that `vm --icount` runs in a guest.
    #[command(hide = true)]
    VmCost(vm::cost::GuestOptions),
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Bench(options) => bench::run(&options),
        Command::Budgets => budgets().map(|()| ExitCode::SUCCESS),
        Command::Vm(options) => vm::run(&options),
        Command::Lab(command) => lab::run(command),
        Command::Outages(options) => outages::run(&options),
        Command::Demo { json } => demo::run(json),
        Command::Booted { deb, successor } => booted::test(&deb, &successor).map(|()| ExitCode::SUCCESS),
        Command::Part(part) => part::run(&part),
        Command::VmCost(options) => vm::cost::guest(&options).map(|()| ExitCode::SUCCESS),
    }
}

fn budgets() -> Result<()> {
    setup::root(tasks::BUDGETS.name)?;
    build::object(false)?;
    budget::check()
}
