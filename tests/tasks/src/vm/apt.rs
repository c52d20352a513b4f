//! The project's own apt view of Debian's packages: other suites beside the system's, whose lists and caches stay
//! untouched.

use std::{cmp::Reverse, collections::BTreeSet, fmt::Write as _, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use xtask::{cargo, packages, step::step};

/// Suites with the kernels, and whether they have a security archive.
const SUITES: [(&str, bool); 2] = [("bookworm", true), ("sid", false)];
/// Keyring of these suites, included in every Debian.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An apt with its own folders.
#[derive(Debug)]
pub(super) struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Opens apt with fresh lists, unless lists exist and `fresh` is false.
    pub(super) fn open(fresh: bool) -> Result<Self> {
        let apt = Self { dir: cargo::tools().join("kernels/apt") };
        let lists = apt.dir.join("lists");
        let has_lists = std::fs::read_dir(&lists).is_ok_and(|mut files| {
            files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().contains("_Packages")))
        });
        if has_lists && !fresh {
            return Ok(apt);
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(apt.dir.join(folder))?;
        }
        std::fs::write(apt.dir.join("sources.list"), sources()?)?;
        step("fetching the package lists of the kernels' suites", || cargo::run(apt.get().args(["-qq", "update"])))?;
        Ok(apt)
    }

    /// Packages whose names match, newest first.
    pub(super) fn newest_first(&self, fits: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        let mut names = self.command("apt-cache");
        let listed = cargo::output(names.args(["pkgnames", "linux-"])).context("apt-cache fails")?;
        let mut found: Vec<_> = listed.lines().filter(|name| fits(name)).map(str::to_owned).collect();
        found.sort_by_cached_key(|name| {
            // The groups of digits are compared, as in versions.
            let groups = name.split(|other: char| !other.is_ascii_digit());
            Reverse(groups.filter_map(|group| group.parse::<u64>().ok()).collect::<Vec<_>>())
        });
        Ok(found)
    }

    /// Fetches and unpacks `packages` into `to`.
    pub(super) fn unpack(&self, packages: &[String], to: &std::path::Path) -> Result<()> {
        let downloads = to.with_extension("debs");
        if downloads.exists() {
            std::fs::remove_dir_all(&downloads)?;
        }
        std::fs::create_dir_all(&downloads)?;
        cargo::run(self.get().args(["-qq", "download"]).args(packages).current_dir(&downloads))?;
        for package in std::fs::read_dir(&downloads)? {
            cargo::run(cargo::command("dpkg").arg("-x").arg(package?.path()).arg(to))?;
        }
        std::fs::remove_dir_all(&downloads)?;
        Ok(())
    }

    fn get(&self) -> Command {
        let mut command = self.command("apt-get");
        command.stdout(std::io::stderr());
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = cargo::command(program);
        let folder = |name: &str| self.dir.join(name).display().to_string();
        for (setting, value) in [
            ("Dir::Etc::sourcelist", folder("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            ("Dir::State::lists", folder("lists")),
            ("Dir::Cache", folder("cache")),
            // The user `_apt` may not be able to read this folder.
            ("APT::Sandbox::User", "root".to_owned()),
        ] {
            command.args(["-o", &format!("{setting}={value}")]);
        }
        command
    }
}

/// A sources.list with these suites on the system's mirrors.
fn sources() -> Result<String> {
    if mirrors()?.is_empty() {
        packages::update()?;
    }
    let mirrors = mirrors()?;
    let find = |label: &str| mirrors.iter().find(|(of, _)| of == label).map(|(_, uri)| uri.as_str());
    let main = find("Debian").context(
        "none of this system's package sources is a Debian mirror, which has the kernels to test with: add one to \
         /etc/apt/sources.list",
    )?;
    let mut list = String::new();
    for (suite, has_security) in SUITES {
        writeln!(list, "deb [signed-by={KEYRING}] {main} {suite} main")?;
        match find("Debian-Security") {
            Some(security) if has_security => {
                writeln!(list, "deb [signed-by={KEYRING}] {security} {suite}-security main")?;
            }
            _ => {}
        }
    }
    Ok(list)
}

/// Labels and addresses of the archives of the system's own lists.
fn mirrors() -> Result<BTreeSet<(String, String)>> {
    let mut targets = cargo::command("apt-get");
    let listed =
        cargo::output(targets.args(["indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"]));
    let listed = listed.context("`apt-get indextargets` fails")?;
    ensure!(!listed.contains("E:"), "`apt-get indextargets` fails: {listed}");
    Ok(listed.lines().filter_map(|line| line.split_once('|')).map(|(label, uri)| (label.into(), uri.into())).collect())
}
