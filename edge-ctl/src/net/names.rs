//! Names and indices of interfaces, with absence distinguished from failure.

use std::io;

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType,
        netdevice::{index_to_name, name_to_index},
        socket_with,
    },
};

/// The index of the interface with this name; `None` if there is no such interface.
///
/// # Errors
/// If it can't be looked up, as without a descriptor for the lookup. The C library reports `ENOENT` then.
pub(crate) fn index_of(name: &str) -> io::Result<Option<u32>> {
    known(name_to_index(socket()?, name))
}

/// The name of the interface with this index; `None` if there is no such interface.
///
/// # Errors
/// As for [`index_of`].
pub(crate) fn name_of(index: u32) -> io::Result<Option<String>> {
    known(index_to_name(socket()?, index))
}

/// Any socket: the kernel looks an interface up in its network namespace.
fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?)
}

fn known<T>(looked_up: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match looked_up {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NODEV) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_there_or_absent() {
        let index = index_of("lo").expect("a lookup").expect("a loopback");
        assert_eq!(name_of(index).expect("a lookup").as_deref(), Some("lo"));
        assert_eq!(index_of("no-such-device").expect("a lookup"), None);
        assert_eq!(name_of(u32::MAX >> 1).expect("a lookup"), None);
    }
}
