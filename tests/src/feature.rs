//! Kernel features that tests need. A test whose feature is missing is skipped by name, and fails on a kernel that
//! should have the feature.

use std::{env, fs::File, io::Write as _, path::Path, process::Command};

/// Set in a virtual machine that runs a distribution's kernel with all its modules.
const ALL_MODULES: &str = "EDGE_TEST_VM";
/// A file that gets a line for each skip, besides standard output.
const SKIPS: &str = "EDGE_TEST_SKIPS";
/// Path of `ipvsadm`.
pub const IPVSADM: &str = "EDGE_TEST_IPVSADM";

/// A feature that not every kernel or machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `BPF_PROG_TEST_RUN` carries out an XDP program's verdict (`BPF_F_TEST_XDP_LIVE_FRAMES`).
    LiveFrames,
    /// `BPF_PROG_TEST_RUN` of an XDP program takes a context, including the frame's ingress interface.
    TestContext,
    /// More than 32 bytes of metadata before a frame (`xdp_metalen_invalid` in the kernel's include/net/xdp.h).
    LongMetadata,
    /// Native XDP on a `virtio_net` device without a spare transmit queue for each CPU (`virtnet_xdp_set` in the
    /// kernel's `drivers/net/virtio_net.c`): from this version on, CPUs share the existing queues.
    SharedTransmitQueues,
    /// Several tc programs attached to one interface by links (`kernel/bpf/tcx.c`).
    TcxLinks,
    /// A module, or its code built into the kernel.
    Module(&'static str),
    /// Debian's `ipvsadm`, by [`IPVSADM`].
    Ipvsadm,
    /// Network devices with these MAC addresses.
    Devices(&'static [[u8; 6]]),
}

impl Feature {
    /// The feature's name in one line.
    pub fn describe(self) -> String {
        match self {
            Self::LiveFrames => "live frames in BPF_PROG_TEST_RUN".to_owned(),
            Self::TestContext => "a context in BPF_PROG_TEST_RUN".to_owned(),
            Self::LongMetadata => "more than 32 bytes of XDP metadata".to_owned(),
            Self::SharedTransmitQueues => "native XDP on virtio_net without a transmit queue for each CPU".to_owned(),
            Self::TcxLinks => "TCX links".to_owned(),
            Self::Module(name) => format!("the kernel's module {name}"),
            Self::Ipvsadm => format!("ipvsadm, whose path {IPVSADM} gives"),
            Self::Devices(addresses) => {
                let addresses: Vec<_> = addresses.iter().copied().map(mac).collect();
                format!("network devices {}", addresses.join(", "))
            }
        }
    }

    /// The first Linux version with the feature; `None` if the version does not decide.
    pub const fn since(self) -> Option<(u32, u32)> {
        match self {
            Self::LiveFrames => Some((5, 18)),
            Self::TestContext => Some((5, 15)),
            Self::LongMetadata => Some((6, 8)),
            Self::SharedTransmitQueues => Some((5, 13)),
            Self::TcxLinks => Some((6, 6)),
            Self::Module(_) | Self::Ipvsadm | Self::Devices(_) => None,
        }
    }

    /// Whether the running kernel has the feature.
    ///
    /// # Panics
    /// If the kernel lacks the feature and should have it.
    pub fn is_there(self) -> bool {
        match self {
            Self::LiveFrames | Self::TestContext | Self::LongMetadata | Self::SharedTransmitQueues | Self::TcxLinks => {
                self.since().is_some_and(|since| release() >= since)
            }
            Self::Module(name) => {
                let found = has_module(name);
                assert!(found || env::var_os(ALL_MODULES).is_none(), "this kernel should have the module {name}");
                found
            }
            Self::Ipvsadm => env::var_os(IPVSADM).is_some_and(|path| {
                let path = Path::new(&path);
                assert!(path.exists(), "{IPVSADM} is {}, which is not there", path.display());
                true
            }),
            Self::Devices(addresses) => addresses.iter().all(|address| device(*address).is_some()),
        }
    }
}

/// The first of `features` that is missing, in words: the reason to skip `what`, which names a test or one of its
/// cases. The reason is also printed on standard output and appended to the file of skips.
///
/// # Panics
/// As [`Feature::is_there`].
pub fn missing(what: &str, features: &[Feature]) -> Option<String> {
    let lacks = features.iter().find(|feature| !feature.is_there())?;
    let since = lacks.since().map_or(String::new(), |(major, minor)| format!(" (since Linux {major}.{minor})"));
    let missing = format!("{}{since}", lacks.describe());
    let line = format!("skipped: {what}: needs {missing}\n");
    print!("{line}");
    if let Some(path) = env::var_os(SKIPS) {
        let file = File::options().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    Some(missing)
}

/// The interface with a MAC address in this process's own namespace.
pub fn device(address: [u8; 6]) -> Option<String> {
    let wanted = mac(address);
    let found = std::fs::read_dir("/sys/class/net").ok()?.flatten().find(|entry| {
        std::fs::read_to_string(entry.path().join("address")).is_ok_and(|address| address.trim() == wanted)
    })?;
    Some(found.file_name().to_string_lossy().into_owned())
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// Major and minor version of the running kernel.
fn release() -> (u32, u32) {
    let name = nix::sys::utsname::uname().expect("uname works");
    let release = name.release().to_string_lossy();
    parse_release(&release).unwrap_or_else(|| panic!("{release} is no kernel's release"))
}

fn parse_release(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn has_module(name: &str) -> bool {
    Path::new("/sys/module").join(name).exists()
        || Command::new("modprobe").args(["-q", name]).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert_eq!(parse_release("6.1.0-40-cloud-amd64"), Some((6, 1)));
        assert_eq!(parse_release("6.12-rc3"), Some((6, 12)));
        assert_eq!(parse_release("linux"), None);
        assert!(parse_release("5.15.0-35") < parse_release("5.18.0"));
    }

    #[test]
    fn what_is_missing_is_named_with_its_version() {
        assert_eq!(mac([0x52, 0x54, 0, 0, 0xed, 1]), "52:54:00:00:ed:01");
        let nowhere = Feature::Devices(&[[0x52, 0x54, 0, 0, 0xee, 0xff]]);
        assert_eq!(missing("a test of skips", &[nowhere]).unwrap(), "network devices 52:54:00:00:ee:ff");
        assert_eq!(missing("a test of skips", &[]), None);
    }
}
