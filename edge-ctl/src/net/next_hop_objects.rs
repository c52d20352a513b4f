//! Changes of next hop objects, of which the library of netlink messages knows nothing: only that there was one.

use std::io;

use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

/// `RTNLGRP_NEXTHOP`, as a bit of the groups of an address.
const GROUP: u32 = 1 << (32 - 1);

/// The kernel's notifications of next hop objects.
pub(super) struct NextHopObjects(TokioSocket);

impl NextHopObjects {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, GROUP))?;
        Ok(Self(socket))
    }

    /// Waits for a change.
    ///
    /// # Errors
    /// If the socket can't be read any more.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        match self.0.recv_from_full().await {
            // The buffer overflowed: there were changes.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            received => received.map(drop),
        }
    }
}
