//! Offloads that change frames before a program sees them (ethtool's features).

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Commands of `SIOCETHTOOL` (`include/uapi/linux/ethtool.h`), and a flag in the result of the first one.
const GET_FLAGS: u32 = 0x25;
const GET_GRO: u32 = 0x2b;
const RX_VLAN: u32 = 1 << 8;

/// Offloads that change what a program sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offloads {
    /// The driver removes VLAN tags from frames.
    pub(crate) rx_vlan: bool,
    /// The kernel merges segments (GRO).
    pub(crate) gro: bool,
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// The offloads of an interface; unsupported ones are off.
pub(super) fn offloads(interface: &str) -> io::Result<Offloads> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let rx_vlan = get(&socket, interface, GET_FLAGS)? & RX_VLAN != 0;
    Ok(Offloads { rx_vlan, gro: get(&socket, interface, GET_GRO)? != 0 })
}

fn get(socket: &OwnedFd, interface: &str, command: u32) -> io::Result<u32> {
    let mut value = Value { command, data: 0 };
    // SAFETY: a struct of integers and a union of such; zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request points to a value of the command's type; both live until after the call, and the kernel writes
    // only into the value.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } == 0 {
        return Ok(value.data);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(0),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::lab::{in_lab, sh};

    #[test]
    fn they_are_as_ethtool_sets_them() {
        in_lab(|_| {
            for rx_vlan in [false, true] {
                for gro in [true, false] {
                    let word = |on| if on { "on" } else { "off" };
                    sh(&format!("ethtool -K edge0 rxvlan {} gro {}", word(rx_vlan), word(gro)));
                    assert_eq!(offloads("edge0").unwrap(), Offloads { rx_vlan, gro });
                }
            }
            assert!(offloads("nowhere0").is_err());
        });
    }
}
