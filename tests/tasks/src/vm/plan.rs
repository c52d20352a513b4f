//! The jobs of a guest: test programs, one after the other, and where their results go.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use xtask::{build::Profile, cargo};

use super::{results::Test, tools::Tools};

/// The extent of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The programs load, and every case of the table of packets: the part in each test run.
    Core,
    /// The packet tests that depend on the kernel, and the lab for kernels.
    Whole,
}

impl Extent {
    /// Folder of the extent's results.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Whole => "whole",
        }
    }
}

/// Programs, parts of the names of their tests, and time limits on a slow machine, in seconds.
const CORE: [(&str, &[&str], u64); 1] = [("packets", &["load::", "exits::"], 900)];
const WHOLE: [(&str, &[&str], u64); 2] = [
    // Tests of the kernel's helpers, maps and clocks; tests of the program's own logic run on this machine only.
    (
        "packets",
        &[
            "load::",
            "exits::",
            "routes::",
            "flows::times::the_kernel",
            "slow::fragments::the_",
            "slow::fragments::a_flood",
            "slow::fragments::all_fragments",
        ],
        900,
    ),
    ("lab", &["kernels::", "probe_programs::a_filter_that"], 1200),
];

/// Factor by which timeouts are longer than on a real CPU.
const PATIENCE: u32 = 15;

/// The programs that guests run, with `edge-ctl` beside them, where they look for it. They are separate links: a build
/// while guests run replaces the files in the target directory.
#[derive(Debug)]
pub(super) struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// Contains `edge_ctl` only.
    pub(super) fn of(edge_ctl: &Path) -> Result<Self> {
        // Beside the linked file: the user's target directory may be on another file system than the checkout.
        let dir = edge_ctl.with_file_name(format!("vm-programs-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let programs = Self { dir };
        programs.link(edge_ctl, "edge-ctl")?;
        Ok(programs)
    }

    /// Builds the test programs of the package `edge-tests` with the profile of `edge_ctl`, and links them beside it.
    pub(super) fn build(edge_ctl: &Path, profile: Profile) -> Result<Self> {
        let built = cargo::test_programs(&["packets", "lab"], &["--profile", profile.name()])?;
        let programs = Self::of(edge_ctl)?;
        for (name, path) in built {
            programs.link(&path, &name)?;
        }
        Ok(programs)
    }

    /// Links the program `from`; returns the link's path.
    pub(super) fn link(&self, from: &Path, name: &str) -> Result<PathBuf> {
        let link = self.dir.join(name);
        fs::hard_link(from, &link).with_context(|| format!("could not link {}", from.display()))?;
        Ok(link)
    }
}

impl Drop for Programs {
    fn drop(&mut self) {
        // Remaining files only take up space.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The guest's script.
pub(super) fn script(extent: Extent, programs: &Programs, tools: &Tools) -> Result<String> {
    let parts: &[_] = match extent {
        Extent::Core => &CORE,
        Extent::Whole => &WHOLE,
    };
    let mut script = format!(
        "export EDGE_TEST_VM=1 EDGE_TEST_PATIENCE={PATIENCE}\n\
         export EDGE_TEST_SKIPS=/out/skips EDGE_TEST_FIGURES=/out/figures\n\
         export EDGE_TEST_IPVSADM={}\ncd {}\n",
        tools.ipvsadm.display(),
        // The directory in which cargo runs them.
        cargo::root().join("tests").display(),
    );
    for (name, filters, limit) in parts {
        let path = programs.dir.join(name);
        ensure!(path.exists(), "there is no test program {name}");
        let path = path.display();
        let filters = filters.join(" ");
        writeln!(script, "timeout -k 5 {limit} {path} --test-threads=1 {filters} >/out/{name}.txt 2>&1")?;
        writeln!(script, "echo {name} $? >>/out/runs")?;
    }
    script.push_str("exit 0\n");
    Ok(script)
}

/// Whether these are the results of a complete run.
pub(super) fn is_whole(tests: &[Test]) -> bool {
    WHOLE.iter().all(|(program, ..)| tests.iter().any(|test| test.name.starts_with(&format!("{program} "))))
}

/// Time limit of a guest.
pub(super) fn limit(extent: Extent) -> Duration {
    let parts: &[_] = match extent {
        Extent::Core => &CORE,
        Extent::Whole => &WHOLE,
    };
    // Booting takes seconds, or half a minute on a busy machine.
    Duration::from_secs(60 + parts.iter().map(|(.., seconds)| seconds).sum::<u64>())
}
