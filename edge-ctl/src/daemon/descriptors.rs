//! Shares of this process's file descriptors: work that keeps the traffic flowing never waits for probes or clients.

use std::{fs, io};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors reserved for work with the kernel: netlink sockets, looks at links, attaching, reading the file,
/// loading.
const KERNEL: usize = 24;
/// Maximum number of connections to the API.
const MOST_CONNECTIONS: usize = 128;
/// Maximum number of connections to the status page.
const MOST_PAGES: usize = 8;
/// Connections get one in so many of the remaining descriptors, and probes the others.
const PART: usize = 4;

/// A limit that suffices to load two programs at once; any login has at least as many. A program takes thirty
/// descriptors while it is loaded.
const PLENTY: u64 = 512;

/// Maximum numbers of descriptors for the two users that could otherwise take all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) probes: usize,
    pub(super) connections: usize,
    /// Connections to the status page.
    pub(super) pages: usize,
}

/// Raises the limit as far as this process may, and shares out the free descriptors.
pub(super) fn share_out() -> io::Result<Shares> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    let used = fs::read_dir("/proc/self/fd")?.count();
    Ok(shares(usize::try_from(hard).unwrap_or(usize::MAX), used))
}

/// Whether the limit suffices to load two programs at once, whatever else needs descriptors.
pub(super) fn are_plenty() -> bool {
    getrlimit(Resource::RLIMIT_NOFILE).is_ok_and(|(_, hard)| hard >= PLENTY)
}

/// The shares of a process with `limit` descriptors, `used` of which stay open.
fn shares(limit: usize, used: usize) -> Shares {
    let free = limit.saturating_sub(used).saturating_sub(KERNEL);
    // At least one each, whatever the limit: a daemon without connections is worse than one that runs out of
    // descriptors.
    let connections = (free / PART).clamp(1, MOST_CONNECTIONS);
    let pages = (connections / PART).clamp(1, MOST_PAGES);
    Shares { probes: free.saturating_sub(connections + pages).max(1), connections, pages }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_share_is_left_whatever_the_limit() {
        for limit in [64, 256, 1024, 65_536, usize::MAX] {
            for used in [0, 20, 30] {
                let Shares { probes, connections, pages } = shares(limit, used);
                assert!(used + probes + connections + pages <= limit - KERNEL, "{limit} {used}");
            }
        }
        assert_eq!(shares(64, 24), Shares { probes: 11, connections: 4, pages: 1 });
        assert_eq!(shares(65_536, 24), Shares { probes: 65_352, connections: MOST_CONNECTIONS, pages: MOST_PAGES });
        assert_eq!(shares(16, 40), Shares { probes: 1, connections: 1, pages: 1 });
    }
}
