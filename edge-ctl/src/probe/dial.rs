//! One connection of a probe: to where, and by which way.

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
use nix::net::if_::if_indextoname;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream, UdpSocket},
};

use super::{
    carrier::{Carriage, Carried, Carrier, Passage, Ways},
    classify::{Stage, classify},
};
use crate::{health::Verdict, net::Way};

/// How packets of this host get to backends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// Without it probes are sent by the host's own network, and so to backends' own addresses only.
    pub(crate) carriage: Carriage,
    pub(crate) ways: Ways,
}

impl Network {
    /// The way to a backend, and what carries probes there.
    pub(super) fn to(&self, backend: BackendNumber) -> Option<(Way, Arc<Carrier>)> {
        let way = self.ways.of(backend)?;
        Some((way, self.carriage.by(way)?))
    }
}

/// A service through which a backend is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Through {
    pub(crate) mode: Mode,
    pub(crate) vip: IpAddr,
    /// Address of this host that such a probe comes from; `None`: the one that the kernel would send from.
    pub(crate) source: Option<IpAddr>,
}

/// What a connection is made to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial<'a> {
    pub(super) network: &'a Network,
    /// `None`: no backend, but a host that is asked for an answer.
    pub(super) backend: Option<BackendNumber>,
    /// The backend's own address.
    pub(super) address: IpAddr,
    pub(super) port: u16,
    /// `None`: to its own address.
    pub(super) through: Option<Through>,
}

/// A connection. What carries its packets goes after it, when its reset has been sent.
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

/// A socket that takes datagrams of one address and port alone, with what carries them.
#[derive(Debug)]
pub(super) struct Datagrams {
    pub(super) socket: UdpSocket,
    _carried: Option<Carried>,
}

impl Dial<'_> {
    pub(super) async fn connect(&self) -> Result<Connection, Verdict> {
        let (to, socket, carried) = match self.passage()? {
            Some((carrier, passage)) => {
                let (socket, carried) = carrier.tcp(passage).await.map_err(local)?;
                (passage.to, socket, Some(carried))
            }
            None => (self.own(), bound(self.own(), self.way()).map_err(local)?, None),
        };
        // Closed by a reset, as load balancers do: a probe a second of thousands of backends would else leave a port each in
        // TIME_WAIT for a minute.
        socket.set_zero_linger().map_err(local)?;
        limit_syns(&socket).map_err(local)?;
        let mut connecting = pin!(socket.connect(to));
        // The first poll makes the system call. What it refuses at once, nobody else had a say in.
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
        let socket = UdpSocket::bind((any, 0)).await.map_err(local)?;
        if let Some(name) = self.way().and_then(|way| if_indextoname(way.interface).ok()) {
            socket.bind_device(Some(name.as_bytes())).map_err(local)?;
        }
        socket.connect(self.own()).await.map_err(local)?;
        Ok(Datagrams { socket, _carried: None })
    }

    /// A socket for an echo request that begins with `ends`, and the address that it is for. `make` makes the socket, from an
    /// address or from any.
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

    fn way(&self) -> Option<Way> {
        self.backend.and_then(|backend| self.network.ways.of(backend))
    }

    /// What takes the packets to the backend; `None`: the host's own network, to its own address.
    fn passage(&self) -> Result<Option<(Arc<Carrier>, Passage)>, Verdict> {
        let carried = self.backend.and_then(|backend| Some((backend, self.network.to(backend)?)));
        // Nothing is known of a way by which packets could be forwarded, or nothing takes them there.
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
            Some(source) => Ok(Some((carrier, Passage { to, source, backend, mode }))),
            None if self.through.is_none() => Ok(None),
            None => Err(Verdict::Inconclusive(format!("no address of this host to probe {} from", to.ip()))),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "to be passed to map_err")]
fn local(error: io::Error) -> Verdict {
    classify(&error, Stage::Local)
}

/// A socket of the host's own network whose packets leave by the interface of `way`. Which next hop behind that they take is
/// the kernel's choice.
fn bound(to: SocketAddr, way: Option<Way>) -> io::Result<TcpSocket> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(way) = way {
        // An interface that has just gone is no way any more, as the kernel will say.
        if let Ok(name) = if_indextoname(way.interface) {
            socket.bind_device(Some(name.as_bytes()))?;
        }
        if let Some(source) = way.source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
    }
    Ok(socket)
}

/// A backend that is dead gets no more packets than one that answers, which gets a SYN, an ACK and a reset.
fn limit_syns(socket: &TcpSocket) -> io::Result<()> {
    // SYNs that are sent again, after one and three seconds; after seven the connection is given up.
    let again: libc::c_int = 2;
    let length = libc::socklen_t::try_from(size_of_val(&again)).map_err(io::Error::other)?;
    let value = (&raw const again).cast();
    // SAFETY: the option is read from an integer of the length that is passed with it.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SYNCNT, value, length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
