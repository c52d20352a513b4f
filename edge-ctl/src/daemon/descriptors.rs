//! The file descriptors of this process, shared out: what keeps the traffic flowing never waits for probes or clients.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Left to the work with the kernel: sockets of netlink, to look at links and attach, to read the file, to load.
const KERNEL: usize = 24;
/// Connections to the API, at most.
const MOST_CONNECTIONS: usize = 128;
/// Of what is left, connections get one in so many, and probes the others.
const PART: usize = 4;

/// As many as a login has at least: a program takes thirty while it is loaded.
const PLENTY: u64 = 512;

/// How many descriptors each of those may have at once who could take all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) probes: usize,
    pub(super) connections: usize,
}

/// Raises the limit as far as this process may, and shares out what is free.
pub(super) fn share_out() -> io::Result<Shares> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let used = fs::read_dir("/proc/self/fd")?.count();
    Ok(shares(usize::try_from(hard).unwrap_or(usize::MAX), used))
}

/// Whether there are enough to load two programs at once, whoever else needs some.
pub(super) fn are_plenty() -> bool {
    getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(_, hard)| hard >= PLENTY)
}

/// The shares of a process that may have `limit` descriptors and has `used` ones that stay.
fn shares(limit: usize, used: usize) -> Shares {
    let free = limit.saturating_sub(used).saturating_sub(KERNEL);
    // One each, whatever the limit: a daemon that can't be asked is worse than one that runs out.
    let connections = (free / PART).clamp(1, MOST_CONNECTIONS);
    Shares { probes: free.saturating_sub(connections).max(1), connections }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_share_is_left_whatever_the_limit() {
        for limit in [64, 256, 1024, 65_536, usize::MAX] {
            for used in [0, 20, 30] {
                let Shares { probes, connections } = shares(limit, used);
                assert!(used + probes + connections <= limit - KERNEL, "{limit} {used}");
            }
        }
        assert_eq!(shares(64, 24), Shares { probes: 12, connections: 4 });
        assert_eq!(shares(65_536, 24), Shares { probes: 65_360, connections: MOST_CONNECTIONS });
        assert_eq!(shares(16, 40), Shares { probes: 1, connections: 1 });
    }
}
