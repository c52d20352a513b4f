//! What the programs need of the kernel, and since which version of Linux kernels have it.

use std::{borrow::Cow, fmt};

use aya::{
    programs::ProgramType,
    sys::{BpfHelper, is_helper_supported},
};
use edge_common::object;

use super::OBJECT;

/// A version of Linux: major and minor.
type Version = (u32, u32);

/// The oldest Linux that the programs were seen to work on.
const OLDEST: Version = (5, 10);

/// What the controller and the programs can't do without, in the order of its age.
const NEEDED: [(Version, &str); 5] = [
    (OLDEST, "what this version was tested with"),
    (XDP_LINKS, "XDP links, which stay attached without a process"),
    ((5, 6), "programs in functions that are verified apart, and batch reads of hash maps"),
    ((5, 5), "memory-mapped arrays"),
    ((5, 1), "32-bit jumps"),
];
const XDP_LINKS: Version = (5, 9);

/// The embedded object, as this kernel takes it.
pub(super) fn object() -> Cow<'static, [u8]> {
    // Whoever may not look may not load, either, and hears of that.
    let coarse = is_helper_supported(ProgramType::Xdp, BpfHelper::BPF_FUNC_ktime_get_coarse_ns).unwrap_or(true);
    object::for_kernel(OBJECT, coarse)
}

/// What a kernel that refuses the programs lacks, as the end of a message. Only its version is known, and distributions
/// add features to old versions; so this explains a failure and never causes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lacks {
    release: String,
}

impl Lacks {
    /// Of the running kernel.
    pub(crate) fn here() -> Self {
        let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
        Self { release: release.unwrap_or_default() }
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(running) = version(&self.release) else { return Ok(()) };
        let mut missing = NEEDED.into_iter().filter(|(since, _)| running < *since).peekable();
        if missing.peek().is_none() {
            return write!(f, " (this is Linux {}; {}.{} and newer should take it)", self.release, OLDEST.0, OLDEST.1);
        }
        write!(f, ": this is Linux {}, which lacks", self.release)?;
        for (position, ((major, minor), what)) in missing.enumerate() {
            write!(f, "{} {what} (since {major}.{minor})", if position == 0 { "" } else { ";" })?;
        }
        write!(f, ". Boot {}.{} or newer", OLDEST.0, OLDEST.1)
    }
}

fn version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|other: char| !other.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(release: &str) -> String {
        Lacks { release: release.to_owned() }.to_string()
    }

    #[test]
    fn an_old_kernel_is_told_what_it_lacks_and_since_when_others_have_it() {
        assert_eq!(
            shown("5.4.0-216-generic"),
            ": this is Linux 5.4.0-216-generic, which lacks what this version was tested with (since 5.10); XDP \
             links, which stay attached without a process (since 5.9); programs in functions that are verified apart, and \
             batch reads of hash maps (since 5.6); memory-mapped arrays (since 5.5). Boot 5.10 or newer"
        );
        assert!(shown("4.19.0-27-amd64").contains("32-bit jumps (since 5.1)"));
    }

    #[test]
    fn a_kernel_that_should_take_them_is_named() {
        assert_eq!(shown("6.1.0-56-amd64"), " (this is Linux 6.1.0-56-amd64; 5.10 and newer should take it)");
        assert_eq!(shown("7.2.13+deb14-cloud-amd64").matches("should take it").count(), 1);
        assert_eq!(shown("nonsense"), "");
    }
}
