//! Requests to the kernel over rtnetlink, each with a deadline.

use std::{collections::BTreeSet, io, net::IpAddr, time::Duration};

use futures::{Stream, StreamExt as _, TryStreamExt, stream};
use rtnetlink::{
    Handle,
    packet_route::{
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkLayerType, LinkMessage, LinkXdp, XdpAttached},
        neighbour::{NeighbourFlags, NeighbourMessage, NeighbourState},
        route::RouteMessage,
        tc::TcMessage,
    },
};
use tokio::{task::AbortHandle, time::timeout};

use super::{next_hop::NeighbourKey, tables};

/// Timeout for an answer. The kernel answers during the system call; a missing answer was lost or could not be parsed. On
/// a starved host it may take more than a second until this process reads the answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// Number of concurrent requests: their answers must fit into the socket's buffer.
pub(super) const PARALLEL: usize = 32;

/// Error of a request to the kernel.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetError {
    #[error("can't open a netlink socket")]
    Open(#[source] io::Error),
    #[error("can't start a thread")]
    Thread(#[source] io::Error),
    #[error("can't make a network of its own")]
    Namespace(#[source] io::Error),
    #[error("can't open a packet socket")]
    PacketSocket(#[source] io::Error),
    #[error("can't send on the packet socket")]
    Send(#[source] io::Error),
    #[error("the netlink socket was closed")]
    Closed,
    #[error("the kernel did not answer over netlink within {} s", DEADLINE.as_secs())]
    Late,
    #[error("no interface `{0}`; `ip link` lists those that there are")]
    NoInterface(String),
    #[error("interface `{0}` has no Ethernet address, so nothing can be announced on it")]
    NotEthernet(String),
    #[error("the kernel refused to {what}")]
    Refused {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("can't {what}")]
    Request {
        what: &'static str,
        #[source]
        source: rtnetlink::Error,
    },
}

impl NetError {
    fn new(what: &'static str, error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => Self::Refused { what, source: message.to_io() },
            source => Self::Request { what, source },
        }
    }
}

/// A socket for requests. It has no subscriptions, so that a flood of notifications cannot displace an answer.
pub(super) struct Requests {
    handle: Handle,
    connection: AbortHandle,
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The properties of an interface that an announcement depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Interface {
    pub index: u32,
    /// `None` if the interface is not Ethernet.
    pub mac: Option<[u8; 6]>,
    pub up: bool,
}

impl Requests {
    pub(super) fn open() -> Result<Self, NetError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetError::Open)?;
        Ok(Self { handle, connection: tokio::spawn(connection).abort_handle() })
    }

    pub(super) async fn links(&self) -> Result<Vec<LinkMessage>, NetError> {
        all("list links", self.handle.link().get().execute()).await
    }

    pub(super) async fn neighbours(&self) -> Result<Vec<NeighbourMessage>, NetError> {
        all("list neighbours", self.handle.neighbours().get().execute()).await
    }

    pub(super) async fn addresses(&self) -> Result<Vec<AddressMessage>, NetError> {
        all("list addresses", self.handle.address().get().execute()).await
    }

    pub(super) async fn add_address(&self, message: AddressMessage) -> Result<(), NetError> {
        let mut request = self.handle.address().add(0, std::net::Ipv4Addr::UNSPECIFIED.into(), 32).replace();
        *request.message_mut() = message;
        one("add an address", request.execute()).await
    }

    pub(super) async fn delete_address(&self, message: AddressMessage) -> Result<(), NetError> {
        one("delete an address", self.handle.address().del(message).execute()).await
    }

    pub(super) async fn add_link(&self, message: LinkMessage) -> Result<(), NetError> {
        one("make a link", self.handle.link().add(message).execute()).await
    }

    pub(super) async fn change_link(&self, message: LinkMessage) -> Result<(), NetError> {
        one("change a link", self.handle.link().set(message).execute()).await
    }

    pub(super) async fn add_route(&self, message: RouteMessage) -> Result<(), NetError> {
        one("add a route", self.handle.route().add(message).execute()).await
    }

    /// The filters of an interface's `clsact` for outgoing or for incoming packets; none without a `clsact`.
    pub(super) async fn filters(&self, index: u32, is_egress: bool) -> Result<Vec<TcMessage>, NetError> {
        let request = self.handle.traffic_filter(index.cast_signed()).get();
        let request = if is_egress { request.egress() } else { request.ingress() };
        all("list filters", request.execute()).await
    }

    /// The interface `name`; `None` if it does not exist.
    pub(super) async fn interface(&self, name: &str) -> Result<Option<Interface>, NetError> {
        Ok(self.link(name).await?.map(|link| Interface {
            index: link.header.index,
            mac: link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Address(bytes) if link.header.link_layer_type == LinkLayerType::Ether => {
                    bytes.as_slice().try_into().ok()
                }
                _ => None,
            }),
            up: link.header.flags.contains(tables::UP),
        }))
    }

    async fn link(&self, name: &str) -> Result<Option<LinkMessage>, NetError> {
        let found = all("look a link up", self.handle.link().get().match_name(name).execute()).await;
        match found {
            Ok(links) => Ok(links.into_iter().next()),
            Err(NetError::Refused { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The kernel's answers to a route request.
    pub(super) async fn routes(&self, question: &RouteMessage) -> Result<Vec<RouteMessage>, NetError> {
        all("look a route up", self.handle.route().get(question.clone()).execute()).await
    }

    /// Makes the kernel resolve neighbours, as if packets for them had been sent. A failure is only traced, since the
    /// request is soon repeated. Not for permanent entries: `NTF_USE` takes that state away (`__neigh_update` in the
    /// kernel's net/core/neighbour.c).
    pub(super) async fn kick_all(&self, neighbours: BTreeSet<NeighbourKey>) {
        self.touch_all(neighbours, NeighbourState::None, Some(NeighbourFlags::Use)).await;
    }

    /// Makes the kernel probe neighbours that it has, and give up on them unless they answer (three times, a second
    /// apart). Their MAC addresses are used until then. Not for permanent entries, which would lose that state.
    pub(super) async fn confirm_all(&self, neighbours: BTreeSet<NeighbourKey>) {
        self.touch_all(neighbours, NeighbourState::Probe, None).await;
    }

    async fn touch_all(
        &self,
        neighbours: BTreeSet<NeighbourKey>,
        state: NeighbourState,
        flags: Option<NeighbourFlags>,
    ) {
        let touch = |(link, address): NeighbourKey| async move {
            let request = self.handle.neighbours().add(link, address).replace().state(state);
            let request = if let Some(flags) = flags { request.flags(flags) } else { request };
            if let Err(error) = one("request a neighbour", request.execute()).await {
                tracing::debug!(%address, %error, "can't request a neighbour");
            }
        };
        stream::iter(neighbours).for_each_concurrent(PARALLEL, touch).await;
    }
}

/// The XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AttachedXdp {
    /// The program's kernel ID.
    pub program: u32,
    /// Whether the program is attached in generic mode.
    pub generic: bool,
}

/// The XDP program on `interface`; `None` if there is none. Blocks; not for asynchronous code.
pub(crate) fn attached_xdp(interface: &str) -> Result<Option<AttachedXdp>, NetError> {
    wait_for(async {
        let link = Requests::open()?.link(interface).await?;
        Ok(xdp_of(&link.ok_or_else(|| NetError::NoInterface(interface.to_owned()))?))
    })
}

/// The MTU of `interface` in bytes of IP packet. Blocks; not for asynchronous code.
pub(crate) fn link_mtu(interface: &str) -> Result<u32, NetError> {
    wait_for(async {
        let link = Requests::open()?.link(interface).await?;
        let link = link.ok_or_else(|| NetError::NoInterface(interface.to_owned()))?;
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
        Ok(mtu.unwrap_or(u32::MAX))
    })
}

/// The addresses of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostAddresses {
    /// Addresses of global scope.
    pub global: Vec<IpAddr>,
    /// All addresses, and the broadcast addresses of their networks.
    pub all: Vec<IpAddr>,
}

/// The present addresses of this host, on any interface. Blocks; not for asynchronous code.
pub(crate) fn host_addresses() -> Result<HostAddresses, NetError> {
    let messages = wait_for(async { Requests::open()?.addresses().await })?;
    let mut addresses = HostAddresses::default();
    for message in messages {
        let (mut own, mut broadcast) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                // On a point-to-point link `Address` is the address of the other end.
                AddressAttribute::Local(address) => own = Some(*address),
                AddressAttribute::Address(address) => own = own.or(Some(*address)),
                AddressAttribute::Broadcast(address) => broadcast = Some(IpAddr::V4(*address)),
                _ => {}
            }
        }
        addresses.all.extend(own.into_iter().chain(broadcast));
        addresses.global.extend(own.filter(|_| message.header.scope == AddressScope::Universe));
    }
    for list in [&mut addresses.global, &mut addresses.all] {
        list.sort_unstable();
        list.dedup();
    }
    Ok(addresses)
}

/// Runs `request` to completion.
pub(super) fn wait_for<T: Send>(request: impl Future<Output = Result<T, NetError>> + Send) -> Result<T, NetError> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NetError::Open)?;
        runtime.block_on(request)
    };
    // Runs in a thread of its own: the caller may be in a runtime already, and runtimes can't be nested.
    std::thread::scope(|scope| {
        // There may be no room for a thread, and there is none in a process that is about to execute another version.
        let thread = std::thread::Builder::new().spawn_scoped(scope, run).map_err(NetError::Thread)?;
        thread.join().unwrap_or(Err(NetError::Closed))
    })
}

pub(super) fn xdp_of(link: &LinkMessage) -> Option<AttachedXdp> {
    let parts = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(parts) => Some(parts),
        _ => None,
    })?;
    let (mut program, mut generic) = (None, false);
    for part in parts {
        match part {
            LinkXdp::ProgId(number) | LinkXdp::DrvProgId(number) | LinkXdp::HwProgId(number) => {
                program = Some(*number);
            }
            LinkXdp::SkbProgId(number) => program = program.or(Some(*number)),
            LinkXdp::Attached(mode) => generic = *mode == XdpAttached::SocketBuffer,
            _ => {}
        }
    }
    program.filter(|number| *number != 0).map(|program| AttachedXdp { program, generic })
}

async fn all<T>(
    what: &'static str,
    answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, NetError> {
    one(what, answers.try_collect()).await
}

async fn one<T>(what: &'static str, answer: impl Future<Output = Result<T, rtnetlink::Error>>) -> Result<T, NetError> {
    match timeout(DEADLINE, answer).await {
        Err(_) => Err(NetError::Late),
        Ok(Err(rtnetlink::Error::RequestFailed)) => Err(NetError::Closed),
        Ok(answer) => answer.map_err(|error| NetError::new(what, error)),
    }
}
