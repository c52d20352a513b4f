//! `cargo xtask lab`: a lab that stays until the user takes it down.
//!
//! A lab belongs to a process. `up` starts the keeper in the background, which owns the lab and waits for SIGTERM;
//! `down` sends it. The lab's processes end with the keeper, even if it is killed.

use std::{
    fs::File,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{self, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Subcommand;
use edge_tests::lab::{self, Lab, Options};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use xtask::{
    build::{self, Profile},
    cargo, setup,
    step::step,
};

use crate::interrupt;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lay out the lab and leave it running.
    Up,
    /// Take the lab down.
    Down,
    /// A shell on a host of the lab: client1, client2, edge, router, a1 to a3, b1 to b3.
    Shell {
        host: String,
        /// A command to run instead of the shell.
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// The process that `up` starts in the background.
    #[command(hide = true)]
    Keep { edge_ctl: PathBuf },
}

/// The running lab, stored by `up` for `down` and `shell`.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    pid: i32,
    prefix: String,
    dir: PathBuf,
}

pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up => up().map(|()| ExitCode::SUCCESS),
        Command::Down => down().map(|()| ExitCode::SUCCESS),
        Command::Shell { host, command } => shell(&host, &command),
        Command::Keep { edge_ctl } => keep(edge_ctl).map(|()| ExitCode::SUCCESS),
    }
}

fn up() -> Result<()> {
    if let Some(kept) = kept() {
        bail!("a lab is up already (PID {}): `cargo xtask lab down` takes it down", kept.pid);
    }
    setup::root("lab up")?;
    setup::lab()?;
    let edge_ctl = build::all(Profile::Dev, false)?;
    std::fs::create_dir_all(lab::base())?;
    let log = lab::base().join("keeper.log");
    let kept = step("laying out the lab", || {
        let out = File::create(&log)?;
        let mut keeper = process::Command::new(std::env::current_exe()?);
        keeper.args(["lab", "keep"]).arg(edge_ctl).process_group(0);
        let mut keeper = keeper.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?;
        loop {
            if let Some(kept) = kept() {
                return Ok(kept);
            }
            if keeper.try_wait()?.is_some() {
                bail!("{}", std::fs::read_to_string(&log)?.trim());
            }
            thread::sleep(Duration::from_millis(20));
        }
    })?;
    println!(
        "The lab is up. Its files are in {dir}.\n\n  \
         cargo xtask lab shell client1 -- curl -s http://192.0.2.10/\n  \
         cargo xtask lab shell edge          # then: edge-ctl status --watch\n  \
         cargo xtask lab down",
        dir = kept.dir.display()
    );
    Ok(())
}

fn down() -> Result<()> {
    let Some(kept) = kept() else {
        lab::sweep()?;
        println!("No lab is up.");
        return Ok(());
    };
    kill(Pid::from_raw(kept.pid), Signal::SIGTERM)?;
    let gone = lab::wait_until(Duration::from_secs(30), || Ok(!alive(kept.pid)))?;
    ensure!(gone, "the lab's keeper (PID {}) does not end; see {}", kept.pid, lab::base().join("keeper.log").display());
    println!("The lab is down.");
    Ok(())
}

fn shell(host: &str, command: &[String]) -> Result<ExitCode> {
    let kept = kept().context("no lab is up: `cargo xtask lab up`")?;
    let namespace = PathBuf::from("/run/netns").join(format!("{}{host}", kept.prefix));
    ensure!(namespace.exists(), "the lab has no host {host}: client1, client2, edge, router, a1 to a3, b1 to b3");
    let mut nsenter = process::Command::new("nsenter");
    nsenter.arg(format!("--net={}", namespace.display()));
    match command {
        [] => nsenter.arg(std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into())),
        command => nsenter.args(command),
    };
    // Commands in the shell refer to this lab and this build.
    let path = std::env::var("PATH").unwrap_or_default();
    nsenter.env("PATH", format!("{}:{path}", cargo::target_dir()?.join("debug").display()));
    nsenter.env("EDGE_PIN_DIR", kept.dir.join("bpf").join(host));
    nsenter.env("EDGE_RUN_DIR", kept.dir.join(host).join("run"));
    nsenter.env("EDGE_STATE_DIR", kept.dir.join(host).join("state"));
    let status = nsenter.status().context("could not start nsenter")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn keep(edge_ctl: PathBuf) -> Result<()> {
    interrupt::install()?;
    let lab = Lab::up(&Options { edge_ctl: Some(edge_ctl), ..Options::default() })?;
    let kept = Kept { pid: i32::try_from(process::id())?, prefix: lab.prefix().to_owned(), dir: lab.dir().to_owned() };
    // Written atomically: `up` reads the file as soon as it exists.
    let draft = lab::base().join("up.json.new");
    std::fs::write(&draft, serde_json::to_vec(&kept)?)?;
    std::fs::rename(&draft, state())?;
    while interrupt::pause(Duration::from_secs(1)).is_ok() {}
    std::fs::remove_file(state())?;
    drop(lab);
    Ok(())
}

/// The running lab, if its keeper lives.
fn kept() -> Option<Kept> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(state()).ok()?).ok()?;
    // Another process may have the PID by now; only the keeper's PID is in the prefix.
    let owns = kept.dir.exists() && kept.prefix.contains(&format!("{}x", kept.pid));
    (owns && alive(kept.pid)).then_some(kept)
}

fn alive(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

fn state() -> PathBuf {
    lab::base().join("up.json")
}
