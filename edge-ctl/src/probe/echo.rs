//! The socket of echo requests.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::sys::socket::SockaddrStorage;
use tokio::io::unix::AsyncFd;

use super::classify::{Stage, classify};
use crate::health::Verdict;

/// A socket for echo requests to this address and what it answers.
pub(super) fn echo(address: IpAddr) -> Result<AsyncFd<OwnedFd>, Verdict> {
    let local = |error: io::Error| classify(&error, Stage::Local);
    let socket = raw(address).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => Verdict::Inconclusive("no right to send ICMP (CAP_NET_RAW)".to_owned()),
        _ => local(error),
    })?;
    let to = SockaddrStorage::from(SocketAddr::new(address, 0));
    nix::sys::socket::connect(socket.as_raw_fd(), &to).map_err(|error| local(error.into()))?;
    // SAFETY: the descriptor is owned, and closed only after it is no longer registered.
    unsafe { AsyncFd::register(socket) }.map_err(|error| local(error.into()))
}

fn raw(address: IpAddr) -> io::Result<OwnedFd> {
    let (family, protocol) =
        if address.is_ipv4() { (libc::AF_INET, libc::IPPROTO_ICMP) } else { (libc::AF_INET6, libc::IPPROTO_ICMPV6) };
    // SAFETY: no memory is passed.
    match unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nobody else has.
        socket => Ok(unsafe { OwnedFd::from_raw_fd(socket) }),
    }
}
