//! The library that packet tests and labs share.

#![warn(clippy::wildcard_enum_match_arm, reason = "a new exit must not fall into an old arm")]

pub mod packet;
pub mod world;

pub mod decap;
pub mod feature;
pub mod kernel;
pub mod mss;
pub mod killed;
pub mod shared;
pub mod namespace;
pub mod both;
pub mod cases;
pub mod hostile;

pub mod lab;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

/// The root of the checkout.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a member of the workspace")
}

/// Path of the binary `name`, built with the same profile and in the same target directory as the running binary or
/// test.
///
/// # Errors
/// If `name` has not been built.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let found = this.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.exists());
    found.ok_or_else(|| anyhow::anyhow!("{name} is not built: run `cargo xtask build`"))
}

/// Appends a number to the file that `EDGE_TEST_FIGURES` names, if any, for the runner of the tests.
///
/// # Panics
/// If the file cannot be written.
pub fn figure(name: &str, value: u64) {
    let Some(path) = std::env::var_os("EDGE_TEST_FIGURES") else { return };
    let file = std::fs::File::options().create(true).append(true).open(path);
    writeln!(file.expect("the file for figures"), "{name}={value}").expect("room for a line");
}
