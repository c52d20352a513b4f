//! Runs cargo from within cargo.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// Root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a member of the workspace")
}

/// Folder of the project's own tools.
pub fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Cargo's target directory, which contains this program and the builds (`debug`, `release`).
pub fn target_dir() -> Result<PathBuf> {
    let this = std::env::current_exe().context("could not find this program's own file")?;
    Ok(this.parent().and_then(Path::parent).context("this program is not in a target directory")?.to_owned())
}

/// The cargo that runs this task, as the user would start it.
pub fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = command(cargo);
    // Some of the dependencies name an old toolchain, which rustup would try to use.
    if let Some(toolchain) = std::env::var_os("RUSTUP_TOOLCHAIN") {
        cargo.env("RUSTUP_TOOLCHAIN", toolchain);
    }
    cargo
}

/// A command in the checkout, without the environment variables of the running cargo and rustup, which a nested cargo
/// of another toolchain would use. The user's settings for registries and the network stay.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    for (name, _) in std::env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let of_this_run = name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name.starts_with("CARGO_BIN_")
            || name.starts_with("CARGO_TARGET_BPFEL")
            || ["CARGO", "CARGO_PRIMARY_PACKAGE", "CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "RUSTC", "RUSTDOC"]
                .contains(&name)
            || name.starts_with("RUSTC_")
            || name.starts_with("RUSTUP_TOOLCHAIN");
        if of_this_run {
            command.env_remove(name);
        }
    }
    command
}

/// Builds these test programs, with additional options `more` of cargo; returns their paths by name.
pub fn test_programs(names: &[&str], more: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let mut build = cargo();
    build.args(["test", "--no-run", "--quiet", "--message-format=json"]).args(more);
    for name in names {
        build.args(["--test", name]);
    }
    let messages = output(&mut build).context("the test programs do not build: `cargo test --no-run`")?;
    let mut programs = BTreeMap::new();
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line)?;
        let target = &message["target"];
        let is_test = target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
        if let (true, Some(path), Some(name)) = (is_test, message["executable"].as_str(), target["name"].as_str()) {
            programs.insert(name.to_owned(), path.into());
        }
    }
    Ok(programs)
}

/// Runs `command` with its output on the terminal.
///
/// # Errors
/// If the command can't be started, or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("could not start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", shown(command));
    }
    Ok(())
}

/// Output of `command`; `None` if it can't be run or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    format!("`{}`", words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "))
}
