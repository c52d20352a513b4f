//! Source ports of probes: outside of the ports of translated packets, which may have the same addresses.

use std::io;

use crate::config::NatPorts;

/// The ports that the kernel gives to sockets in a new network namespace.
const KERNELS: (u16, u16) = (32768, 60999);
/// Ports for probes, the most suitable first.
const RANGES: [(u16, u16); 3] = [KERNELS, (1024, 65535), (512, 1023)];
/// Number of ports that are tried until one is free.
const TRIES: usize = 64;

/// Calls `bind` with a port outside of `reserved`, or with 0 if the kernel chooses none of `reserved`.
///
/// # Errors
/// Those of `bind`; `AddrInUse` after many tries.
pub(super) fn bind_outside<T>(reserved: Option<NatPorts>, bind: impl Fn(u16) -> io::Result<T>) -> io::Result<T> {
    let Some(reserved) = reserved.filter(|reserved| reserved.meets(KERNELS.0, KERNELS.1)) else { return bind(0) };
    for _ in 0..TRIES {
        match bind(choose(reserved, rand::random())) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return bound,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// A port outside of `reserved`, which begins above the last range.
fn choose(reserved: NatPorts, random: u32) -> u16 {
    let (first, last) = (u32::from(reserved.first), u32::from(reserved.last));
    for (start, end) in RANGES.map(|(start, end)| (u32::from(start), u32::from(end))) {
        let below = first.min(end + 1).saturating_sub(start);
        let after = (last + 1).max(start);
        let count = below + (end + 1).saturating_sub(after);
        if count > 0 {
            let chosen = random % count;
            let port = if chosen < below { start + chosen } else { after + chosen - below };
            return u16::try_from(port).unwrap_or_default();
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet};

    use super::*;

    #[test]
    fn no_reserved_port_is_chosen_and_every_other_one_may_be() {
        for (first, last, range) in [
            (16384, 32767, KERNELS),
            (16384, 49151, (49152, 60999)),
            (40000, 65535, (32768, 39999)),
            (16384, 60999, (1024, 65535)),
            (1024, 65535, (512, 1023)),
        ] {
            let reserved = NatPorts { first, last };
            let chosen: BTreeSet<_> = (0..1 << 16).map(|random| choose(reserved, random)).collect();
            let expected = (range.0..=range.1).filter(|port| !reserved.meets(*port, *port));
            assert_eq!(chosen, expected.collect(), "{reserved}");
        }
    }

    #[test]
    fn the_kernel_chooses_where_it_can_and_used_ports_are_passed_over() {
        let elsewhere = Some(NatPorts { first: 16384, last: 32767 });
        for reserved in [None, elsewhere] {
            assert_eq!(bind_outside(reserved, Ok).unwrap(), 0);
        }
        let tried = RefCell::new(Vec::new());
        let bind = |port| {
            tried.borrow_mut().push(port);
            if tried.borrow().len() < 5 { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(port) }
        };
        let bound = bind_outside(Some(NatPorts { first: 32768, last: 60998 }), bind).unwrap();
        assert_eq!((bound, tried.borrow().len()), (60999, 5));
        let refused = bind_outside(Some(NatPorts { first: 32768, last: 60998 }), |_| -> io::Result<()> {
            Err(io::ErrorKind::PermissionDenied.into())
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
