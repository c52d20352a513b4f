//! Sockets whose packets take the path of clients' packets to a backend: its next hop, its tunnel.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use edge_common::{
    abi::{BackendNumber, FlowKeyV4, FlowKeyV6, Mode, ProbeRoute},
    wire::protocol,
};
use tokio::{
    net::{TcpSocket, UdpSocket},
    sync::Mutex,
};

use crate::{
    config::NatPorts,
    net::{Door, PrivateNet, ResolvedRoute},
    probe::ports::bind_outside,
};

/// The flow of a probe, as in the programs' maps: the edge is the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeFlow {
    V4(FlowKeyV4),
    V6(FlowKeyV6),
}

/// The table of probe flows and their routes, which the programs look up.
pub(crate) trait ProbeTable: fmt::Debug + Send + Sync {
    fn add(&self, flow: &ProbeFlow, route: ProbeRoute) -> io::Result<()>;
    /// Index of the interface by which the last answer arrived, if there was one.
    fn answered_by(&self, flow: &ProbeFlow) -> Option<u32>;
    fn remove(&self, flow: &ProbeFlow);
}

/// The present routes to backends, shared with the task that updates them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Arc<RwLock<BTreeMap<BackendNumber, ResolvedRoute>>>);

impl Routes {
    pub(crate) fn set(&self, changes: &[(BackendNumber, Option<ResolvedRoute>)]) {
        let mut routes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (backend, route) in changes {
            match route {
                Some(route) => drop(routes.insert(*backend, *route)),
                None => drop(routes.remove(backend)),
            }
        }
    }

    pub(crate) fn of(&self, backend: BackendNumber) -> Option<ResolvedRoute> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&backend).copied()
    }

    /// Indexes of the interfaces that receive the answers.
    pub(crate) fn interfaces(&self) -> BTreeSet<u32> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().flat_map(|route| route.interfaces()).collect()
    }
}

/// The carrier of all probes, if there is one at present.
#[derive(Clone, Debug, Default)]
pub(crate) struct Carriage(Arc<RwLock<Option<Arc<Carrier>>>>);

impl Carriage {
    pub(crate) fn set(&self, carrier: Option<Arc<Carrier>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = carrier;
    }

    /// The carrier for probes on this route; `None` if there is no carrier, or it does not receive the answers.
    pub(super) fn by(&self, route: ResolvedRoute) -> Option<Arc<Carrier>> {
        let carrier = self.0.read().unwrap_or_else(PoisonError::into_inner).clone()?;
        carrier.hears(route).then_some(carrier)
    }
}

/// Indexes of the interfaces where the packet path sees what arrives, shared with the task that updates them; `None` while they
/// are not known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched(Arc<RwLock<Option<BTreeSet<u32>>>>);

impl Watched {
    pub(crate) fn set(&self, interfaces: Option<BTreeSet<u32>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = interfaces;
    }

    /// Whether the packet path is known to miss what arrives by an interface.
    pub(super) fn lacks(&self, interface: u32) -> bool {
        let watched = self.0.read().unwrap_or_else(PoisonError::into_inner);
        watched.as_ref().is_some_and(|watched| !watched.contains(&interface))
    }
}

/// Makes sockets for probes that are sent like clients' packets.
#[derive(Debug)]
pub(crate) struct Carrier {
    net: PrivateNet,
    table: Box<dyn ProbeTable>,
    /// Interfaces on which answers are received.
    heard: RwLock<BTreeSet<u32>>,
    /// Ports of translated packets, which may have the same addresses.
    reserved: RwLock<Option<NatPorts>>,
    /// Source addresses that were added to the network.
    addresses: Mutex<BTreeSet<IpAddr>>,
}

/// By which interface the answers of a probe arrived; known when its sockets are closed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival(Arc<AtomicU32>);

impl Arrival {
    /// Index of the interface; `None` if no answer arrived, or the programs were not asked for it.
    pub(super) fn by(&self) -> Option<u32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|index| *index != 0)
    }

    fn note(&self, index: u32) {
        self.0.store(index, Ordering::Relaxed);
    }
}

/// The endpoints of a socket, and the backend and mode that its packets are forwarded with.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    pub(crate) to: SocketAddr,
    pub(crate) source: IpAddr,
    pub(crate) backend: BackendNumber,
    pub(crate) mode: Mode,
    pub(crate) arrival: Arrival,
}

/// Keeps a socket's flow in the table; it has to outlive the socket.
#[derive(Debug)]
pub(crate) struct Carried {
    carrier: Arc<Carrier>,
    flow: ProbeFlow,
    arrival: Arrival,
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Some(index) = self.carrier.table.answered_by(&self.flow) {
            self.arrival.note(index);
        }
        self.carrier.table.remove(&self.flow);
    }
}

impl Carrier {
    pub(crate) fn new(net: PrivateNet, table: Box<dyn ProbeTable>) -> Self {
        Self {
            net,
            table,
            heard: RwLock::default(),
            reserved: RwLock::default(),
            addresses: Mutex::new(BTreeSet::new()),
        }
    }

    /// The device by which probes leave the private network.
    pub(crate) fn door(&self) -> &Door {
        self.net.door()
    }

    /// Sets the interfaces on which answers are received.
    pub(crate) fn hear(&self, interfaces: BTreeSet<u32>) {
        *self.heard.write().unwrap_or_else(PoisonError::into_inner) = interfaces;
    }

    /// Sets the ports that no probe may be sent from: the answers could be those of a client's flow.
    pub(crate) fn reserve(&self, ports: Option<NatPorts>) {
        *self.reserved.write().unwrap_or_else(PoisonError::into_inner) = ports;
    }

    fn reserved(&self) -> Option<NatPorts> {
        *self.reserved.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn hears(&self, route: ResolvedRoute) -> bool {
        let heard = self.heard.read().unwrap_or_else(PoisonError::into_inner);
        route.interfaces().all(|interface| heard.contains(&interface))
    }

    /// Makes a TCP socket, whose packets go to the backend as those of a service in this mode do.
    ///
    /// # Errors
    /// Errors of this host; no packet has been sent.
    pub(crate) async fn tcp(self: &Arc<Self>, passage: Passage) -> io::Result<(TcpSocket, Carried)> {
        let (to, source) = (passage.to, passage.source);
        self.prepare(source).await?;
        let socket = self.net.run(move || if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() });
        let socket = socket.await??;
        bind_outside(self.reserved(), |port| socket.bind(SocketAddr::new(source, port)))?;
        let carried = self.carry(flow(socket.local_addr()?, to, protocol::TCP), passage)?;
        Ok((socket, carried))
    }

    /// As [`tcp`](Self::tcp), for a UDP socket that receives datagrams of the other end only.
    pub(crate) async fn udp(self: &Arc<Self>, passage: Passage) -> io::Result<(UdpSocket, Carried)> {
        let (to, source) = (passage.to, passage.source);
        self.prepare(source).await?;
        let reserved = self.reserved();
        let bind = move || bind_outside(reserved, |port| std::net::UdpSocket::bind((source, port)));
        let socket = self.net.run(bind).await??;
        socket.set_nonblocking(true)?;
        let carried = self.carry(flow(socket.local_addr()?, to, protocol::UDP), passage)?;
        let socket = UdpSocket::from_std(socket)?;
        socket.connect(to).await?;
        Ok((socket, carried))
    }

    /// As [`tcp`](Self::tcp), for an echo request that starts with this identifier and sequence number. `make` makes the
    /// socket for a source address.
    pub(crate) async fn echo(
        self: &Arc<Self>,
        passage: Passage,
        ends: [u8; 4],
        make: impl FnOnce(IpAddr) -> io::Result<OwnedFd> + Send + 'static,
    ) -> io::Result<(OwnedFd, Carried)> {
        let (to, source) = (passage.to, passage.source);
        self.prepare(source).await?;
        let socket = self.net.run(move || make(source)).await??;
        let protocol = if to.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
        let carried = self.carry(key(source, to.ip(), ends, protocol), passage)?;
        Ok((socket, carried))
    }

    fn carry(self: &Arc<Self>, flow: ProbeFlow, passage: Passage) -> io::Result<Carried> {
        let Passage { backend, mode, arrival, .. } = passage;
        let route = ProbeRoute { door: self.net.door().index, backend, mode: mode as u8, ..ProbeRoute::default() };
        self.table.add(&flow, route)?;
        Ok(Carried { carrier: Arc::clone(self), flow, arrival })
    }

    async fn prepare(&self, source: IpAddr) -> io::Result<()> {
        let mut addresses = self.addresses.lock().await;
        if !addresses.contains(&source) {
            self.net.add_address(source).await.map_err(io::Error::other)?;
            addresses.insert(source);
        }
        Ok(())
    }
}

/// The flow from `edge` to `to`.
fn flow(edge: SocketAddr, to: SocketAddr, protocol: u8) -> ProbeFlow {
    let [a, b] = edge.port().to_be_bytes();
    let [c, d] = to.port().to_be_bytes();
    key(edge.ip(), to.ip(), [a, b, c, d], protocol)
}

/// The key of a flow; `ends` are its ports, or the identifier and sequence number of an echo.
fn key(edge: IpAddr, to: IpAddr, ends: [u8; 4], protocol: u8) -> ProbeFlow {
    let (ports, protocol) = (u32::from_ne_bytes(ends), protocol.into());
    match (edge, to) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => {
            let word = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
            ProbeFlow::V4(FlowKeyV4 { client: word(client), vip: word(vip), ports, protocol })
        }
        (client, vip) => {
            let words = |address: IpAddr| {
                let octets = match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                    IpAddr::V6(v6) => v6,
                };
                bytemuck::cast(Ipv6Addr::octets(&octets))
            };
            ProbeFlow::V6(FlowKeyV6 { client: words(client), vip: words(vip), ports, protocol })
        }
    }
}
