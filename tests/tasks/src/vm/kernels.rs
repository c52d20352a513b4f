//! Distribution kernels, each unpacked into a folder of the project's, with the files to boot it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use xtask::{cargo, step::step};

use super::{apt::Apt, tools::Tools};

/// A kernel to test with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Name on the command line and in tables.
    pub(crate) name: &'static str,
    /// The range of versions: the oldest one, and the first one after the range.
    versions: [(u64, u64); 2],
    /// Description of the kernel.
    pub(crate) whose: &'static str,
}

pub(crate) const ALL: [Kernel; 3] = [
    Kernel { name: "6.1", versions: [(6, 1), (6, 2)], whose: "Debian 12" },
    Kernel { name: "6.12", versions: [(6, 12), (6, 13)], whose: "Debian 12, backported" },
    Kernel { name: "newest", versions: [(6, 13), (u64::MAX, 0)], whose: "Debian sid" },
];

/// The kernels of each test run.
pub(crate) const USUAL: [&str; 2] = ["6.1", "6.12"];

impl Kernel {
    /// Whether a package contains this kernel, in the edition for virtual machines, which has qemu's drivers.
    fn fits(self, package: &str) -> bool {
        let version = ["linux-image-", "linux-binary-"].iter().find_map(|kind| package.strip_prefix(kind));
        let mut numbers = version.unwrap_or_default().split(['.', '+', '-']).map(str::parse);
        // A package without a third number only depends on the newest one, and has no content.
        let [Some(Ok(major)), Some(Ok(minor)), Some(Ok(_))] = [(); 3].map(|()| numbers.next()) else { return false };
        let [from, to] = self.versions;
        package.ends_with("-cloud-amd64") && from <= (major, minor) && (major, minor) < to
    }
}

/// The kernel with this name.
pub(crate) fn named(name: &str) -> Result<Kernel> {
    let names = || ALL.map(|kernel| kernel.name).join(", ");
    ALL.into_iter()
        .find(|kernel| kernel.name == name)
        .with_context(|| format!("no kernel {name}; there are {}", names()))
}

/// A kernel that is ready to boot.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) kernel: Kernel,
    /// Output of `uname -r`.
    pub(crate) release: String,
    dir: PathBuf,
}

/// Modules that a kernel needs to mount the shared root.
const EARLY: [&str; 4] = ["virtio_pci", "virtiofs", "overlay", "virtio_rng"];
/// The first process of a guest.
const INIT: &str = include_str!("init.sh");

impl Prepared {
    pub(super) fn image(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    pub(super) fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }

    /// Directory that contains `lib/modules`.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Fetches and unpacks a kernel, unless it exists and `fresh` is false.
    pub(super) fn ensure(kernel: Kernel, apt: &Apt, tools: &Tools, fresh: bool) -> Result<Self> {
        let dir = cargo::tools().join("kernels").join(kernel.name);
        let release = dir.join("release");
        if fresh || !release.exists() {
            step(&format!("fetching Linux {} of {}", kernel.name, kernel.whose), || fetch(kernel, apt, tools, &dir))?;
        }
        let prepared = Self { kernel, release: fs::read_to_string(release)?.trim().to_owned(), dir };
        // The initrd contains this program's init, so each version of the program makes it anew.
        prepared.make_initrd(tools)?;
        Ok(prepared)
    }

    /// Makes the initrd, with the programs that run before the shared root is mounted.
    fn make_initrd(&self, tools: &Tools) -> Result<()> {
        let root = self.dir.join("initrd.root");
        if root.exists() {
            fs::remove_dir_all(&root)?;
        }
        for folder in ["bin", "proc", "sys", "dev", "lower", "rw", "new", "modules"] {
            fs::create_dir_all(root.join(folder))?;
        }
        fs::copy(&tools.busybox, root.join("bin/busybox"))?;
        let mut order = Vec::new();
        for module in EARLY {
            let mut modprobe = Command::new(&tools.modprobe);
            modprobe.arg("-d").arg(&self.dir).args(["-S", &self.release, "--show-depends", module]);
            let listed = cargo::output(&mut modprobe).unwrap_or_default();
            // A built-in module is listed differently, or not at all.
            let files = listed.lines().filter_map(|line| line.strip_prefix("insmod ")?.split_whitespace().next());
            for file in files.map(PathBuf::from) {
                if !order.contains(&file) {
                    order.push(file);
                }
            }
        }
        for (place, module) in order.iter().enumerate() {
            let name = module.file_name().context("a module is a file")?.to_string_lossy();
            fs::copy(module, root.join(format!("modules/{place:02}-{name}")))?;
        }
        fs::write(root.join("init"), INIT)?;
        let script = "chmod +x init && find . | \"$0\" cpio -o -H newc 2>/dev/null >../initrd.new";
        cargo::run(Command::new("sh").args(["-c", script]).arg(&tools.busybox).current_dir(&root))?;
        fs::rename(self.dir.join("initrd.new"), self.initrd())?;
        fs::remove_dir_all(root)?;
        Ok(())
    }
}

/// Number of versions of a kernel to try: a mirror may list files that it does not have (yet, or any more).
const ATTEMPTS: usize = 3;

fn fetch(kernel: Kernel, apt: &Apt, tools: &Tools, dir: &Path) -> Result<()> {
    let mut failure = None;
    for name in apt.newest_first(|package| kernel.fits(package))?.iter().take(ATTEMPTS) {
        match fetch_package(name, apt, tools, dir) {
            Ok(()) => return Ok(()),
            Err(error) => {
                eprintln!("xtask: {name}: {error:#}");
                failure = Some(error);
            }
        }
    }
    Err(failure.with_context(|| format!("the package lists have no Linux {}", kernel.name))?)
}

fn fetch_package(name: &str, apt: &Apt, tools: &Tools, dir: &Path) -> Result<()> {
    // Debian splits its newest kernels into three packages.
    let packages = match name.strip_prefix("linux-binary-") {
        Some(rest) => vec![name.to_owned(), format!("linux-modules-{rest}"), format!("linux-base-{rest}")],
        None => vec![name.to_owned()],
    };
    let draft = dir.with_extension("new");
    for leftover in [&draft, &dir.to_owned()] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    apt.unpack(&packages, &draft)?;
    let modules = ["lib/modules", "usr/lib/modules"].map(|folder| draft.join(folder));
    let modules = modules.into_iter().find(|folder| folder.exists()).context("the packages have no modules")?;
    let release = only_entry(&modules)?;
    let image = [draft.join("boot").join(format!("vmlinuz-{release}")), modules.join(&release).join("vmlinuz")];
    let Some(image) = image.into_iter().find(|file| file.exists()) else { bail!("{name} has no vmlinuz") };
    fs::create_dir_all(dir.join("lib"))?;
    fs::rename(image, dir.join("vmlinuz"))?;
    fs::rename(modules, dir.join("lib/modules"))?;
    fs::remove_dir_all(&draft)?;
    // Modules of newer kernels are compressed, which the early insmod does not support.
    let unpack = "find lib/modules -name '*.ko.xz' -exec \"$0\" unxz {} +";
    cargo::run(Command::new("sh").args(["-c", unpack]).arg(&tools.busybox).current_dir(dir))?;
    cargo::run(Command::new(&tools.depmod).arg("-b").arg(dir).arg(&release))?;
    fs::write(dir.join("release"), release)?;
    Ok(())
}

fn only_entry(dir: &Path) -> Result<String> {
    let names: Vec<_> = fs::read_dir(dir)?.collect::<Result<_, _>>()?;
    ensure!(names.len() == 1, "{} has {} entries", dir.display(), names.len());
    Ok(names[0].file_name().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_by_their_names() {
        let of = |package| {
            ALL.into_iter().filter(|kernel| kernel.fits(package)).map(|kernel| kernel.name).collect::<Vec<_>>()
        };
        assert_eq!(of("linux-image-6.1.0-56-cloud-amd64"), ["6.1"]);
        assert_eq!(of("linux-image-6.12.117+deb12-cloud-amd64"), ["6.12"]);
        assert_eq!(of("linux-binary-7.2.13+deb14-cloud-amd64"), ["newest"]);
        for other in [
            "linux-image-5.10.0-46-cloud-amd64",
            "linux-image-6.1.0-56-amd64",
            "linux-image-6.1.0-56-cloud-amd64-dbg",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-cloud-amd64",
            "linux-image-6.1-cloud-amd64",
            "linux-modules-7.2.13+deb14-cloud-amd64",
        ] {
            assert!(of(other).is_empty(), "{other}");
        }
    }
}
