//! What ethtool shows of an interface: its driver, and offloads that change frames before a program sees them.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Commands of `SIOCETHTOOL` (`include/uapi/linux/ethtool.h`), and a flag in the result of the second one.
const GET_DRIVER: u32 = 0x03;
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

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    /// Versions, the bus, and numbers of statistics.
    rest: [u8; 160],
}

/// The offloads of an interface; unsupported ones are off.
pub(super) fn offloads(interface: &str) -> io::Result<Offloads> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let rx_vlan = get(&socket, interface, GET_FLAGS)? & RX_VLAN != 0;
    Ok(Offloads { rx_vlan, gro: get(&socket, interface, GET_GRO)? != 0 })
}

/// The name of the interface's driver, of this process's network namespace.
pub(crate) fn driver(interface: &str) -> io::Result<String> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut info = DriverInfo { command: GET_DRIVER, driver: [0; 32], rest: [0; 160] };
    request(&socket, interface, (&raw mut info).cast())?;
    let name: Vec<u8> = info.driver.into_iter().take_while(|byte| *byte != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

fn get(socket: &OwnedFd, interface: &str, command: u32) -> io::Result<u32> {
    let mut value = Value { command, data: 0 };
    match request(socket, interface, (&raw mut value).cast()) {
        Ok(()) => Ok(value.data),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(0),
        Err(error) => Err(error),
    }
}

/// `data` is a value of the type that its command has, and lives until after the call.
fn request(socket: &OwnedFd, interface: &str, data: *mut libc::c_char) -> io::Result<()> {
    // SAFETY: a struct of integers and a union of such; zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = data;
    // SAFETY: the request points to a value of the command's type; both live until after the call, and the kernel writes
    // only into the value.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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
            assert_eq!(driver("edge0").unwrap(), "veth");
        });
    }
}
