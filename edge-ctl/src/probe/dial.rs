//! A single connection of a probe: its destination and its route.

use std::{
    future::Future as _,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use edge_common::abi::{BackendNumber, Mode};
use futures::future::poll_fn;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream, UdpSocket},
};

use super::{
    carrier::{Arrival, Carriage, Carried, Carrier, Passage, Routes, Watched},
    classify::{Stage, classify},
};
use crate::{
    health::Verdict,
    net::{self, ResolvedRoute},
};

/// Access to backends for probes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// Without a carrier, probes use the host's own network, and so reach backends only at their own addresses.
    pub(crate) carriage: Carriage,
    pub(crate) routes: Routes,
    pub(crate) watched: Watched,
}

impl Network {
    /// The route to a backend, and the carrier for it.
    pub(super) fn to(&self, backend: BackendNumber) -> Option<(ResolvedRoute, Arc<Carrier>)> {
        let route = self.routes.of(backend)?;
        Some((route, self.carriage.by(route)?))
    }
}

/// A service through which a backend is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Through {
    pub(crate) mode: Mode,
    pub(crate) vip: IpAddr,
    /// Source address of the probe on this host; `None` for the one that the kernel would choose.
    pub(crate) source: Option<IpAddr>,
}

/// The destination of a connection.
#[derive(Clone, Debug)]
pub(super) struct Dial<'a> {
    pub(super) network: &'a Network,
    /// `None` for a host that is no backend, such as a reference target.
    pub(super) backend: Option<BackendNumber>,
    /// The backend's own address.
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// `None` to probe the backend's own address.
    pub(super) through: Option<Through>,
    pub(super) arrival: Arrival,
}

/// A TCP connection. `_carried` is dropped last, after the reset was sent.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    _carried: Option<Carried>,
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A socket that receives datagrams of a single address and port.
#[derive(Debug)]
pub(super) struct Datagrams {
    pub(super) socket: UdpSocket,
    _carried: Option<Carried>,
}

impl Dial<'_> {
    pub(super) async fn connect(&self) -> Result<Connection, Verdict> {
        let (to, socket, carried) = match self.passage()? {
            Some((carrier, passage)) => {
                let to = passage.to;
                let (socket, carried) = carrier.tcp(passage).await.map_err(local)?;
                (to, socket, Some(carried))
            }
            None => (self.own(), bound(self.own(), self.route()).map_err(local)?, None),
        };
        // Closed by a reset, as load balancers do: otherwise one probe per second of thousands of backends would each
        // leave a port in TIME_WAIT for a minute.
        socket.set_zero_linger().map_err(local)?;
        limit_syns(&socket).map_err(local)?;
        let mut connecting = pin!(socket.connect(to));
        // The first poll makes the system call. An error at this point comes from this host alone.
        let first = poll_fn(|context| Poll::Ready(connecting.as_mut().poll(context))).await;
        let stream = match first {
            Poll::Ready(result) => result.map_err(local),
            Poll::Pending => connecting.await.map_err(|error| classify(&error, Stage::Network)),
        };
        Ok(Connection { stream: stream?, _carried: carried })
    }

    pub(super) async fn datagrams(&self) -> Result<Datagrams, Verdict> {
        if let Some((carrier, passage)) = self.passage()? {
            let (socket, carried) = carrier.udp(passage).await.map_err(local)?;
            return Ok(Datagrams { socket, _carried: Some(carried) });
        }
        let any: IpAddr =
            if self.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let source = self.route().and_then(|route| route.source).filter(|source| source.is_ipv4() == any.is_ipv4());
        let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await.map_err(local)?;
        if let Some(name) = self.route().map_or(Ok(None), |route| net::name_of(route.interface)).map_err(local)? {
            socket.bind_device(Some(name.as_bytes())).map_err(local)?;
        }
        socket.connect(self.own()).await.map_err(local)?;
        Ok(Datagrams { socket, _carried: None })
    }

    /// Makes a socket for an echo request that starts with `ends`; also returns its destination. `make` makes the
    /// socket, with or without a source address.
    pub(super) async fn echo(
        &self,
        ends: [u8; 4],
        make: fn(to: IpAddr, from: Option<IpAddr>) -> io::Result<OwnedFd>,
    ) -> Result<(OwnedFd, IpAddr, Option<Carried>), Verdict> {
        match self.passage()? {
            Some((carrier, passage)) => {
                let to = passage.to.ip();
                let made = carrier.echo(passage, ends, move |source| make(to, Some(source))).await;
                made.map(|(socket, carried)| (socket, to, Some(carried))).map_err(local)
            }
            None => make(self.address, None).map(|socket| (socket, self.address, None)).map_err(local),
        }
    }

    fn own(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    fn route(&self) -> Option<ResolvedRoute> {
        self.backend.and_then(|backend| self.network.routes.of(backend))
    }

    /// The carrier and endpoints for the backend; `None` if the host's own network is used, to the backend's own
    /// address.
    fn passage(&self) -> Result<Option<(Arc<Carrier>, Passage)>, Verdict> {
        let carried = self.backend.and_then(|backend| Some((backend, self.network.to(backend)?)));
        // There is no known route, or no carrier for it.
        let Some((backend, (known, carrier))) = carried else { return Ok(None) };
        let (to, mode) = match self.through {
            None => (self.own(), Mode::Dsr),
            Some(Through { mode: Mode::Dsr, .. }) if known.next_hop != self.address => {
                return Err(Verdict::Fail(format!("behind the router {}, where dsr does not reach", known.next_hop)));
            }
            Some(Through { mode, vip, .. }) => (SocketAddr::new(vip, self.port), mode),
        };
        let source = self.through.and_then(|through| through.source).or(known.source);
        match source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
            Some(source) => {
                let arrival = self.arrival.clone();
                Ok(Some((carrier, Passage { to, source, backend, mode, arrival })))
            }
            None if self.through.is_none() => Ok(None),
            None => Err(Verdict::Inconclusive(format!("no address of this host to probe {} from", to.ip()))),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "to be passed to map_err")]
fn local(error: io::Error) -> Verdict {
    classify(&error, Stage::Local)
}

/// A socket in the host's own network whose packets leave by the interface of `route`. The kernel chooses the next hop
/// behind that interface.
fn bound(to: SocketAddr, route: Option<ResolvedRoute>) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(route) = route {
        // If the interface has just disappeared, the kernel reports the missing route.
        if let Some(name) = net::name_of(route.interface)? {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        if let Some(source) = route.source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
    }
    Ok(socket)
}

/// Limits the SYNs, so that a dead backend gets no more packets than a live one, which gets a SYN, an ACK and a reset.
fn limit_syns(socket: &TcpSocket) -> io::Result<()> {
    // SYNs are retransmitted after one and three seconds; after seven the connection attempt is given up.
    let again: libc::c_int = 2;
    let length = libc::socklen_t::try_from(size_of_val(&again)).map_err(io::Error::other)?;
    let value = (&raw const again).cast();
    // SAFETY: the option is read from an integer of the length that is passed with it.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SYNCNT, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
