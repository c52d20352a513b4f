//! `cargo xtask vm`: runs the programs, packets and a lab on common kernels, each booted under qemu's emulation.

mod apt;
mod tools;
mod kernels;
mod machine;
mod plan;
mod results;
mod page;
pub(crate) mod cost;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use xtask::{
    build::{self, Profile},
    cargo,
    counts::Counts,
    setup,
    step::step,
};

use self::{
    apt::Apt,
    kernels::{Kernel, Prepared},
    machine::{Job, MEMORY},
    plan::{Extent, Programs},
    results::Outcome,
    tools::Tools,
};
use crate::interrupt;

/// Kernels, and the tests that run on them.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct Options {
    /// Kernels by name, with commas between them: 6.1, 6.12, newest.
    #[arg(long, value_name = "KERNELS", value_delimiter = ',', default_values_t = kernels::USUAL.map(str::to_owned))]
    kernel: Vec<String>,
    /// All kernels there are, and write the page about them, docs/kernels.md.
    #[arg(long, conflicts_with_all = ["kernel", "quick", "command"])]
    all: bool,
    /// Write the page from the last whole run of each kernel, and run nothing.
    #[arg(long, exclusive = true)]
    page: bool,
    /// Only the checks of each test run: the programs load, and each packet of the table of cases leaves as expected.
    #[arg(long)]
    quick: bool,
    /// Get the newest packages of the kernels, also where older ones are there.
    #[arg(long)]
    fetch: bool,
    /// Guests at one time; by default as many as processors and memory allow.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Seconds that a guest may take.
    #[arg(long, value_name = "SECONDS")]
    limit: Option<u64>,
    /// Write the results as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Count the instructions of a packet's whole path, in this load balancer and in the kernel's alternatives.
    #[arg(long, conflicts_with_all = ["all", "quick", "command"])]
    icount: bool,
    /// Run this in each guest, as root and with this machine's files, in place of the tests.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    setup::root("vm")?;
    interrupt::install()?;
    let kernels = if options.all {
        kernels::ALL.to_vec()
    } else {
        options.kernel.iter().map(|name| kernels::named(name)).collect::<Result<_>>()?
    };
    let tools = Tools::ensure()?;
    if options.page {
        return last_runs(&tools).and_then(|outcomes| page::write(&outcomes)).map(|()| ExitCode::SUCCESS);
    }
    let prepared = prepare(&kernels, &tools, options.fetch)?;
    if !options.command.is_empty() {
        return command(&prepared, &tools, options);
    }
    setup::everything()?;
    if options.icount {
        cost::run(&prepared, &tools, options)?;
        return Ok(ExitCode::SUCCESS);
    }
    // The tests' own build exists already, or is needed soon; for the whole, an additional build costs less time than
    // emulating it.
    let (extent, profile) = if options.quick { (Extent::Core, Profile::Dev) } else { (Extent::Whole, Profile::Guest) };
    let edge_ctl = build::all(profile, false)?;
    let programs = step("building the tests", || Programs::build(&edge_ctl, profile))?;
    let outcomes = test(&programs, &prepared, &tools, extent, options.jobs, options.limit)?;
    for outcome in &outcomes {
        print!("{}", page::summary(outcome));
    }
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&outcomes)?;
        std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    if options.all {
        page::write(&outcomes)?;
    }
    let failed = outcomes.iter().any(|outcome| !outcome.failures().is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Results of each kernel's last complete run.
fn last_runs(tools: &Tools) -> Result<Vec<Outcome>> {
    let prepared = prepare(&kernels::ALL, tools, false)?;
    let run = |kernel: &Prepared| {
        let out = out(kernel, Extent::Whole.name());
        let ended = std::fs::read_to_string(out.join("rc")).map(|_| 0).context("it has not come to its end");
        let outcome = Outcome::read(kernel, &out, Duration::ZERO, &ended)?;
        ensure!(
            plan::is_whole(&outcome.tests),
            "Linux {} has not run everything: cargo xtask vm --kernel {}",
            kernel.release,
            kernel.kernel.name
        );
        Ok(outcome)
    };
    prepared.iter().map(run).collect()
}

/// The part that `cargo xtask test` runs on kernels.
#[derive(Debug)]
pub(crate) struct Core {
    tools: Tools,
    kernels: Vec<Prepared>,
}

impl Core {
    /// Fetches missing parts.
    ///
    /// # Errors
    /// If a part can't be fetched here; the error names it.
    pub(crate) fn fetch() -> Result<Self> {
        let tools = Tools::ensure()?;
        let kernels = kernels::USUAL.map(kernels::named).into_iter().collect::<Result<Vec<_>>>()?;
        let kernels = prepare(&kernels, &tools, false)?;
        Ok(Self { tools, kernels })
    }

    /// Tests each kernel, counting each result as a test.
    pub(crate) fn test(&self, edge_ctl: &Path, counts: &mut Counts) -> Result<()> {
        let programs = step("building the tests", || Programs::build(edge_ctl, Profile::Dev))?;
        for outcome in test(&programs, &self.kernels, &self.tools, Extent::Core, None, None)? {
            print!("{}", page::summary(&outcome));
            counts.passed += outcome.passed();
            counts.failed += outcome.failures().len();
        }
        Ok(())
    }
}

fn prepare(kernels: &[Kernel], tools: &Tools, fresh: bool) -> Result<Vec<Prepared>> {
    let apt = Apt::open(fresh)?;
    let prepare =
        || kernels.iter().map(|kernel| Prepared::ensure(*kernel, &apt, tools, fresh)).collect::<Result<Vec<_>>>();
    prepare().or_else(|_| {
        // Outdated package lists name files that no longer exist.
        let apt = Apt::open(true)?;
        kernels.iter().map(|kernel| Prepared::ensure(*kernel, &apt, tools, false)).collect()
    })
}

/// Runs the tests on each kernel.
fn test(
    programs: &Programs,
    prepared: &[Prepared],
    tools: &Tools,
    extent: Extent,
    jobs: Option<usize>,
    limit: Option<u64>,
) -> Result<Vec<Outcome>> {
    let script = plan::script(extent, programs, tools)?;
    let limit = limit.map_or(plan::limit(extent), Duration::from_secs);
    side_by_side(prepared, jobs, |kernel| {
        let out = out(kernel, extent.name());
        let job = Job { kernel, tools, script: &script, out: &out, limit, counts_instructions: false };
        let start = Instant::now();
        let ended = step(&format!("Linux {}", kernel.release), || job.run());
        interrupt::check()?;
        Outcome::read(kernel, &out, start.elapsed(), &ended)
    })
}

/// Runs a user's command on each kernel, one after the other; ends with the first failure's exit code.
fn command(prepared: &[Prepared], tools: &Tools, options: &Options) -> Result<ExitCode> {
    let words = options.command.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    let script = format!("cd '{}'\n{}\n", cargo::root().display(), words.collect::<Vec<_>>().join(" "));
    let limit = Duration::from_secs(options.limit.unwrap_or(600));
    let mut worst = 0;
    for kernel in prepared {
        let out = out(kernel, "command");
        let job = Job { kernel, tools, script: &script, out: &out, limit, counts_instructions: false };
        let code = step(&format!("Linux {}", kernel.release), || job.run())?;
        print!("{}", String::from_utf8_lossy(&std::fs::read(out.join("log"))?));
        if worst == 0 {
            worst = code;
        }
    }
    Ok(ExitCode::from(u8::try_from(worst).unwrap_or(1)))
}

/// Runs `work` for each kernel, as many at a time as the machine has room for.
fn side_by_side<T: Send>(
    prepared: &[Prepared],
    jobs: Option<usize>,
    work: impl Fn(&Prepared) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let jobs = jobs.unwrap_or_else(room).clamp(1, prepared.len().max(1));
    let next = Mutex::new(0..prepared.len());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(place) = next.lock().ok().and_then(|mut places| places.next()) {
                    let result = work(&prepared[place]);
                    if let Ok(mut done) = done.lock() {
                        done.push((place, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().map_err(|_| anyhow::anyhow!("a guest's thread panicked"))?;
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Number of guests that this machine has room for: a CPU each, and twice the memory of a guest.
fn room() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next());
    let mib = available.and_then(|kib| kib.parse::<usize>().ok()).unwrap_or(0) / 1024;
    processors.min(mib / (2 * MEMORY as usize)).max(1)
}

/// Directory of the output of a guest's job `what`.
fn out(kernel: &Prepared, what: &str) -> PathBuf {
    cargo::root().join("target/vm").join(what).join(kernel.kernel.name)
}
