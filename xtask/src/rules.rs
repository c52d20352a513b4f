//! Determines whether the rules that keep flows in place, or the model that judges them, have changed since the model
//! was last seen to notice each broken rule.
//!
//! The result depends on nothing else, so these runs (a million steps) are skipped while none of these files changes but
//! for comments. `tests/rules.seen`, which is committed, contains a hash of them. The long mode runs them always.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use xtask::cargo;

/// Part of the names of tests with a broken rule.
pub(crate) const BROKEN: &str = "broken::";

const SEEN: &str = "tests/rules.seen";
/// Files and folders with these rules, and with what the model sees them through.
const DECIDING: [&str; 15] = [
    "edge-common/src/abi",
    "edge-common/src/flow_table",
    "edge-common/src/hash.rs",
    "edge-common/src/host",
    "edge-common/src/lookup",
    "edge-common/src/maps.rs",
    "edge-common/src/pipeline",
    "edge-common/src/select",
    "edge-common/src/step",
    "edge-common/src/tables",
    "edge-common/src/wire/quic.rs",
    "edge-common/src/wire/tcp.rs",
    "tests/src/world",
    "tests/src/world.rs",
    "tests/tests/model",
];
/// Selects the long mode of all tests.
const LONG: &str = "EDGE_TEST_LONG";

/// Whether the model has noticed the broken rules with these rules and this model, so that they need not be run.
pub(crate) fn were_broken() -> Result<bool> {
    if env::var_os(LONG).is_some_and(|value| value == "1") {
        return Ok(false);
    }
    let seen = match fs::read_to_string(cargo::root().join(SEEN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        seen => seen.context(SEEN)?,
    };
    Ok(seen.trim() == present()?)
}

/// Records that it has, in a file for the next commit.
pub(crate) fn note_broken() -> Result<()> {
    fs::write(cargo::root().join(SEEN), format!("{}\n", present()?)).context(SEEN)?;
    eprintln!("xtask: the model noticed each broken rule: commit {SEEN} with the change");
    Ok(())
}

fn present() -> Result<String> {
    let mut files = Vec::new();
    for path in DECIDING {
        collect(&cargo::root().join(path), &mut files).with_context(|| format!("could not read {path}"))?;
    }
    files.sort();
    let mut hash = Fnv::default();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))?;
        code(&text).for_each(|line| hash.add(line.as_bytes()));
    }
    Ok(format!("{:016x}", hash.0))
}

/// The lines of a source file that are no comments, without their indentation.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    fs::read_dir(path)?.try_for_each(|entry| collect(&entry?.path(), files))
}

/// FNV-1a with 64 bits: the same with every toolchain.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_every_byte() {
        let of = |text: &str| {
            let mut hash = Fnv::default();
            hash.add(text.as_bytes());
            hash.0
        };
        // The published value of this function.
        assert_eq!(of("foobar"), 0x8594_4171_f739_67e8);
        assert_ne!(of("foobaR"), of("foobar"));
    }

    #[test]
    fn comments_decide_nothing() {
        let lines = |text| code(text).collect::<Vec<_>>();
        assert_eq!(lines("/// Why.\nfn a() {\n    // How.\n    b()\n}"), lines("fn a() {\nb()\n}"));
        assert_ne!(lines("fn a() {}"), lines("fn b() {}"));
    }

    #[test]
    fn what_decides_is_there() {
        for path in DECIDING {
            let mut files = Vec::new();
            collect(&cargo::root().join(path), &mut files).expect("a part of the checkout");
            assert!(files.iter().all(|file| file.exists()) && !files.is_empty(), "{path}");
        }
    }
}
