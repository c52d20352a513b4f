//! An echo request, as sent by `ping`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use nix::sys::socket::SockaddrStorage;
use tokio::io::unix::AsyncFd;

use super::super::{
    classify::{Stage, classify},
    dial::Dial,
};
use crate::health::Verdict;

/// Types of the request and the reply.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

pub(super) async fn look(dial: &Dial<'_>) -> Result<(), Verdict> {
    let local = |error: io::Error| classify(&error, Stage::Local);
    let network = |error: io::Error| classify(&error, Stage::Network);
    // Distinguishes this probe from other pings to the same address.
    let mark: [u8; 12] = rand::random();
    let [a, b, c, d, ..] = mark;
    let (socket, address, _carried) = dial.echo([a, b, c, d], socket).await?;
    // SAFETY: the descriptor is owned, and closed only after it is deregistered.
    let socket = unsafe { AsyncFd::register(socket) }.map_err(|error| local(error.into()))?;
    let request = request(address, &mark);
    nix::unistd::write(&socket, &request).map_err(|error| local(error.into()))?;
    let mut answer = [0; 256];
    loop {
        let mut ready = socket.readable().await.map_err(local)?;
        let read = ready.try_io(|socket| nix::unistd::read(socket, &mut answer).map_err(io::Error::from));
        match read {
            Ok(Ok(length)) if is_reply(address, answer.get(..length).unwrap_or_default(), &mark) => return Ok(()),
            // Another message, or no further message.
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => return Err(network(error)),
        }
    }
}

/// A socket for echo requests to this address and the replies.
fn socket(to: IpAddr, from: Option<IpAddr>) -> io::Result<OwnedFd> {
    let socket = raw(to).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => io::Error::other("no right to send ICMP (CAP_NET_RAW)"),
        _ => error,
    })?;
    let at = |address| SockaddrStorage::from(SocketAddr::new(address, 0));
    if let Some(from) = from {
        nix::sys::socket::bind(socket.as_raw_fd(), &at(from))?;
    }
    nix::sys::socket::connect(socket.as_raw_fd(), &at(to))?;
    Ok(socket)
}

fn raw(address: IpAddr) -> io::Result<OwnedFd> {
    let (family, protocol) =
        if address.is_ipv4() { (libc::AF_INET, libc::IPPROTO_ICMP) } else { (libc::AF_INET6, libc::IPPROTO_ICMPV6) };
    // SAFETY: no memory is passed.
    match unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, protocol) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a new descriptor that nothing else owns.
        socket => Ok(unsafe { OwnedFd::from_raw_fd(socket) }),
    }
}

/// The request: type, code, checksum; the mark fills identifier, sequence number and data. For `ICMPv6` the kernel
/// computes the checksum.
fn request(address: IpAddr, mark: &[u8; 12]) -> [u8; 16] {
    let mut message = [0; 16];
    message[0] = if address.is_ipv4() { V4.0 } else { V6.0 };
    message[4..].copy_from_slice(mark);
    if address.is_ipv4() {
        let words = message.chunks_exact(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let sum: u32 = words.sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
        let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// Whether the received bytes (with IP header, in IPv4) are the reply to the request with this mark.
fn is_reply(address: IpAddr, received: &[u8], mark: &[u8; 12]) -> bool {
    let (kind, header) = match (address, received.first()) {
        (IpAddr::V4(_), Some(first)) => (V4.1, usize::from(first & 0xf) * 4),
        (IpAddr::V6(_), Some(_)) => (V6.1, 0),
        (_, None) => return false,
    };
    let message = received.get(header..).unwrap_or_default();
    message.first() == Some(&kind) && message.get(4..16) == Some(mark.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_replies() {
        let v4: IpAddr = "192.0.2.1".parse().unwrap();
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let mark = *b"0123456789ab";
        let mut message = request(v4, &mark);
        let sum: u32 = message.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "RFC 1071");
        assert!(!is_reply(v4, &[&[0x45; 20][..], &message].concat(), &mark), "what is sent to itself is no reply");
        message[0] = 0;
        assert!(is_reply(v4, &[&[0x45; 20][..], &message].concat(), &mark));
        assert!(!is_reply(v4, &[&[0x45; 20][..], &message].concat(), b"another mark"));
        assert!(!is_reply(v4, &[], &mark));
        message[0] = 129;
        assert!(is_reply(v6, &message, &mark));
    }
}
