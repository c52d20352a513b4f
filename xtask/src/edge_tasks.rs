//! Builds the program of tasks, and starts it.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
};

use anyhow::{Context as _, Result, bail};
use xtask::{
    build, cargo, setup,
    step::step,
    tasks::{self, PROGRAM, Task},
};

/// Builds the program, and in its first build sets up what the task needs. Then replaces this process by the program.
pub(crate) fn run(task: Task, words: &[OsString]) -> Result<ExitCode> {
    let needs_set_up = task.needs_set_up(words);
    if needs_set_up {
        // Before a build that takes minutes.
        setup::root(if task == tasks::LAB { "lab up" } else { task.name })?;
    }
    let program = if needs_set_up && !path()?.exists() { build_beside_set_up(task)? } else { build()? };
    take_over(&program, words)
}

/// Replaces this process by the program with these arguments. The program then receives the signals that are sent to this
/// process, and determines its exit code.
pub(crate) fn take_over(program: &Path, words: &[impl AsRef<OsStr>]) -> Result<ExitCode> {
    let error = Command::new(program).args(words).exec();
    Err(error).with_context(|| format!("could not start {}", program.display()))
}

/// Builds the program; returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let path = path()?;
    let mut build = cargo::cargo();
    build.args(["build", "--quiet", "--bin", PROGRAM, "--target-dir"]).arg(cargo::target_dir()?);
    if path.exists() {
        cargo::run(&mut build)?;
    } else {
        step(&format!("building {PROGRAM} (minutes, once)"), || cargo::run(&mut build))?;
    }
    Ok(path)
}

/// Builds the program for the first time, and sets up the task's prerequisites meanwhile.
fn build_beside_set_up(task: Task) -> Result<PathBuf> {
    thread::scope(|scope| {
        let program = scope.spawn(build);
        if task.has_lab {
            setup::lab()?;
        }
        build::object(false)?;
        program.join().unwrap_or_else(|_| bail!("the build of {PROGRAM} panicked"))
    })
}

fn path() -> Result<PathBuf> {
    Ok(cargo::target_dir()?.join("debug").join(PROGRAM))
}

/// A command for a part of the test run. Its output has a line with results, like that of a test program.
pub(crate) fn part(program: &Path, name: &str) -> Command {
    let mut part = Command::new(program);
    part.args(["part", name]);
    part
}
