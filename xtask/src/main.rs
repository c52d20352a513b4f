//! `cargo xtask`: the entry point for set-up, build, test, lab, demo and bench.

mod bench;
mod budget;
mod build;
mod cargo;
mod counts;
mod demo;
mod ebpf_toolchain;
mod fuzz;
mod interpreter;
mod interrupt;
mod lab;
mod labs;
mod linker;
mod lints;
#[cfg(test)]
mod measured;
mod nginx;
mod dnsmasq;
mod outages;
mod package;
mod packages;
mod programs;
mod rules;
mod setup;
mod slowest;
mod step;
mod test;
mod test_run;
mod traced;
mod unpacked;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, tests and shows the load balancer.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 120)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Get everything that the others need: eBPF toolchain, bpf-linker, packages. They do it by themselves.
    Setup,
    /// Build the eBPF programs, then edge-ctl with them inside.
    Build {
        /// As it is shipped.
        #[arg(long)]
        release: bool,
        /// With traces in the packet path, for development; never in a release.
        #[arg(long, conflicts_with = "release")]
        trace: bool,
    },
    /// Run every check and every test there is (root, for packets and labs).
    Test {
        /// What a developer runs between two edits: without other kernels, the model of flows, labs, and kills at each step.
        #[arg(long)]
        quick: bool,
    },
    /// Measure packets, the control plane, and others beside this load balancer (root).
    Bench(bench::Options),
    /// Let libFuzzer look for frames that break a rule of the packet path, or for what the controller can't read.
    Fuzz(fuzz::Options),
    /// Formatting, clippy and dependencies.
    Lints,
    /// Count the instructions of the programs, and compare them with `tests/budgets.toml` (root).
    Budgets,
    /// Load the programs, and run packets and a lab, on other kernels under qemu (root).
    Vm(vm::Options),
    /// What `vm --icount` runs in a guest.
    #[command(hide = true)]
    VmCost(vm::cost::GuestOptions),
    /// A network of namespaces with clients, the load balancer, and two providers.
    #[command(subcommand)]
    Lab(lab::Command),
    /// Make a Debian and an RPM package.
    Package(package::Options),
    /// Replay real outages in the lab, and see whether each is met (root).
    Outages(outages::Options),
    /// Show what the load balancer does while backends, a provider and its own controller die.
    Demo {
        /// One JSON object instead of the story.
        #[arg(long)]
        json: bool,
    },
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
        Command::Setup => setup::everything().map(|_| ExitCode::SUCCESS),
        Command::Build { release, trace } => {
            let profile = if release { build::Profile::Release } else { build::Profile::Dev };
            build::all(profile, trace).map(|_| ExitCode::SUCCESS)
        }
        Command::Test { quick } => test::all(quick),
        Command::Bench(options) => bench::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Budgets => budgets(),
        Command::Lints => lints::all().map(|()| ExitCode::SUCCESS),
        Command::Vm(options) => vm::run(&options),
        Command::VmCost(options) => vm::cost::guest(&options).map(|()| ExitCode::SUCCESS),
        Command::Lab(command) => lab::run(command),
        Command::Package(options) => package::run(options),
        Command::Outages(options) => outages::run(&options),
        Command::Demo { json } => demo::run(json),
    }
}

fn budgets() -> Result<ExitCode> {
    setup::root("budgets")?;
    build::object(false)?;
    budget::check().map(|()| ExitCode::SUCCESS)
}
