//! Kernel features that the load balancer requires and older kernels lack.

use std::io;

use thiserror::Error;

use super::sys::{self, instruction};

/// The oldest Linux that the load balancer runs on.
const OLDEST: &str = "5.12";

/// A kernel that lacks the most recent feature that the load balancer requires.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("this kernel is Linux {release}; the load balancer needs {OLDEST} or newer (compare-exchange in BPF programs)")]
pub(crate) struct TooOld {
    release: String,
}

/// Tests the kernel with a program that changes a word by compare-exchange: versions don't decide, since distributions
/// backport features.
///
/// # Errors
/// If the kernel lacks the instruction. Without permission to load programs the test passes, and loading reports the
/// error.
pub(crate) fn check_kernel() -> Result<(), TooOld> {
    const FRAME: u8 = 10;
    const EXCHANGE: i32 = 0xf1;
    let program = [
        instruction(0xb7, 0, 0, 0),             // r0 = 0
        instruction(0x7a, FRAME, -8, 0),        // *(u64 *)(r10 - 8) = 0
        instruction(0xdb, FRAME, -8, EXCHANGE), // if it equals r0, it becomes r0; r0 gets the old value
        instruction(0x95, 0, 0, 0),             // return r0
    ];
    judge(&sys::load_xdp(&program), release)
}

/// Only EINVAL, from the verifier, means that an instruction is unknown.
fn judge<T>(loaded: &io::Result<T>, release: impl FnOnce() -> String) -> Result<(), TooOld> {
    match loaded {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Err(TooOld { release: release() }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// A remark for errors of a kernel that refuses a program.
pub(super) fn remark() -> String {
    format!(" (this is Linux {}; {OLDEST} and newer should take it)", release())
}

/// The kernel release, as printed by `uname -r`.
pub(crate) fn release() -> String {
    nix::sys::utsname::uname().map_or_else(|_| "?".to_owned(), |name| name.release().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: i32) -> Result<(), String> {
        let refused = Err::<(), _>(io::Error::from_raw_os_error(code));
        judge(&refused, || "5.10.0-46-cloud-amd64".to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_missing_feature_is_reported_with_the_kernel_version_that_has_it() {
        let message = "this kernel is Linux 5.10.0-46-cloud-amd64; the load balancer needs 5.12 or newer \
                       (compare-exchange in BPF programs)";
        assert_eq!(judged(libc::EINVAL), Err(message.to_owned()));
    }

    #[test]
    fn without_privileges_nothing_is_reported_about_the_kernel() {
        assert_eq!([libc::EPERM, libc::ENOSYS, libc::EAGAIN].map(judged), [Ok(()), Ok(()), Ok(())]);
    }

    #[test]
    fn this_kernel_accepts_the_test_program() {
        assert_eq!(check_kernel(), Ok(()));
    }
}
