//! Announcement of VIPs on the local network: adds the address to the interface, and sends frames that announce it.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use aya::util::KernelVersion;
use futures::StreamExt;
use rtnetlink::{
    AddressMessageBuilder, MulticastGroup,
    packet_core::NetlinkPayload,
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol, CacheInfo},
    },
};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    frames,
    netlink::{Interface, NetError, Requests},
    tables,
};

/// When the frames are sent, counted from when the address was added or the link came up. Some are lost: a switch port
/// does not forward in the first moments of its link.
const SCHEDULE: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1)];
/// Interval at which addresses and links are checked without a netlink message.
const RESYNC: Duration = Duration::from_secs(10);
/// Delay between a change and the check.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Marks the addresses that we added (`IFA_PROTO`, from Linux 5.18), so that no others are removed.
const PROTOCOL: AddressProtocol = AddressProtocol::Other(0x65);
/// An infinite lifetime of an address.
const FOREVER: u32 = u32::MAX;

/// A VIP that is announced on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub vip: IpAddr,
    /// Name of the interface.
    pub interface: String,
}

/// Running announcements. Dropping this ends them; the addresses stay on their interfaces.
#[derive(Debug)]
pub(crate) struct Announcer(AbortHandle);

impl Drop for Announcer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps each VIP on its interface and announces it: at once, and whenever the link comes up, the address had been
/// removed, or the interface's MAC address has changed. Waits for interfaces that do not exist yet.
///
/// Must be called in a tokio runtime.
pub(crate) fn announce(vips: Vec<Announced>) -> Announcer {
    let task = async move {
        loop {
            if let Err(error) = run(&vips).await {
                tracing::warn!(%error, "the announcement of VIPs failed; retrying in 1 s");
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    Announcer(tokio::spawn(task).abort_handle())
}

/// Removes the VIPs that [`announce`] added from their interfaces. Kernels before 5.18 don't record who added an
/// address; there any such address with the full prefix length is removed. Returns the VIPs that were removed.
///
/// # Errors
///
/// If a request to the kernel fails or is refused. A missing interface or address is no error.
pub(crate) async fn withdraw(vips: &[Announced]) -> Result<Vec<Announced>, NetError> {
    let requests = Requests::open()?;
    let present = requests.addresses().await?;
    // If the version can't be read, only marked addresses count as ours.
    let marked = KernelVersion::current().map_or(true, |version| version >= KernelVersion::new(5, 18, 0));
    let mut withdrawn = Vec::new();
    for announced in vips {
        let Some(interface) = requests.interface(&announced.interface).await? else { continue };
        let ours = |message: &&AddressMessage| {
            is_on(message, announced.vip, interface.index) && (!marked || protocol(message) == Some(PROTOCOL))
        };
        if let Some(message) = present.iter().find(ours) {
            requests.delete_address(message.clone()).await?;
            withdrawn.push(announced.clone());
        }
    }
    Ok(withdrawn)
}

async fn run(vips: &[Announced]) -> Result<(), NetError> {
    let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
    let (connection, _handle, mut notifications) =
        rtnetlink::new_multicast_connection(&groups).map_err(NetError::Open)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let requests = Requests::open()?;
    // The interface of each VIP at its last announcement. A change of the interface causes another announcement.
    let mut announced: BTreeMap<IpAddr, Interface> = BTreeMap::new();
    let mut senders: BTreeMap<IpAddr, AbortHandle> = BTreeMap::new();
    let mut ticks = interval(RESYNC);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            message = notifications.next() => {
                let (message, _) = message.ok_or(NetError::Closed)?;
                if !concerns_us(&message.payload) {
                    continue;
                }
                sleep(DEBOUNCE).await;
                forget_if_down(&message.payload, &mut announced);
                while let Ok((message, _)) = notifications.try_recv() {
                    forget_if_down(&message.payload, &mut announced);
                }
            }
            _ = ticks.tick() => {}
        }
        while tasks.try_join_next().is_some() {}
        let present = requests.addresses().await?;
        for one in vips {
            let Some(interface) = requests.interface(&one.interface).await? else {
                announced.remove(&one.vip);
                continue;
            };
            let added = ensure(&requests, one, interface, &present).await;
            let known = announced.insert(one.vip, interface);
            if interface.up && (added || known != Some(interface)) {
                if let Some(earlier) = senders.remove(&one.vip) {
                    earlier.abort();
                }
                senders.insert(one.vip, tasks.spawn(send_on_schedule(one.clone(), interface)));
            }
        }
    }
}

fn concerns_us(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(message) => matches!(
            message,
            RouteNetlinkMessage::NewLink(_)
                | RouteNetlinkMessage::DelLink(_)
                | RouteNetlinkMessage::DelAddress(_)
                | RouteNetlinkMessage::NewAddress(_)
        ),
        NetlinkPayload::Overrun(_) => true,
        _ => false,
    }
}

/// Forgets the announcements on a link that went down, even if it is up again by now.
fn forget_if_down(payload: &NetlinkPayload<RouteNetlinkMessage>, announced: &mut BTreeMap<IpAddr, Interface>) {
    if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = payload
        && !link.header.flags.contains(tables::UP)
    {
        announced.retain(|_, interface| interface.index != link.header.index);
    }
}

/// Adds the VIP to the interface unless it is there already; true if it was added.
async fn ensure(requests: &Requests, announced: &Announced, interface: Interface, present: &[AddressMessage]) -> bool {
    if present.iter().any(|message| is_on(message, announced.vip, interface.index)) {
        return false;
    }
    match requests.add_address(address(announced.vip, interface.index)).await {
        Ok(()) => true,
        Err(error) => {
            let Announced { vip, interface } = announced;
            tracing::warn!(%vip, %interface, %error, "can't put a VIP on its interface; no client reaches it there");
            false
        }
    }
}

fn address(vip: IpAddr, index: u32) -> AddressMessage {
    match vip {
        IpAddr::V4(vip) => {
            let mut message = AddressMessageBuilder::<std::net::Ipv4Addr>::new().index(index).address(vip, 32).build();
            message.attributes.push(AddressAttribute::Protocol(PROTOCOL));
            message
        }
        IpAddr::V6(vip) => {
            let mut message = AddressMessageBuilder::<std::net::Ipv6Addr>::new().index(index).address(vip, 128).build();
            // Another edge may have the address at the same time, so duplicate address detection is off.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad | AddressFlags::Noprefixroute));
            // Deprecated from the start: otherwise the host would use the VIP as source of its own connections, and the
            // answers would go to the backends.
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = FOREVER;
            message.attributes.push(AddressAttribute::CacheInfo(lifetime));
            message.attributes.push(AddressAttribute::Protocol(PROTOCOL));
            message
        }
    }
}

fn is_on(message: &AddressMessage, vip: IpAddr, index: u32) -> bool {
    let prefix = if vip.is_ipv4() { 32 } else { 128 };
    message.header.index == index
        && message.header.prefix_len == prefix
        && message.attributes.iter().any(|attribute| {
            matches!(attribute, AddressAttribute::Address(address) | AddressAttribute::Local(address) if *address == vip)
        })
}

fn protocol(message: &AddressMessage) -> Option<AddressProtocol> {
    message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Protocol(protocol) => Some(*protocol),
        _ => None,
    })
}

async fn send_on_schedule(announced: Announced, interface: Interface) {
    let Announced { vip, interface: name } = announced;
    let Some(mac) = interface.mac else {
        tracing::warn!(%vip, error = %NetError::NotEthernet(name), "can't announce a VIP");
        return;
    };
    let frame = frames::announcement(vip, mac);
    let mut before = Duration::ZERO;
    for at in SCHEDULE {
        sleep(at.saturating_sub(before)).await;
        before = at;
        if let Err(error) = send_frame(interface.index, &frame) {
            tracing::warn!(%vip, interface = %name, %error, "can't announce a VIP");
        }
    }
}

/// Sends a complete Ethernet frame on the interface.
fn send_frame(index: u32, frame: &[u8]) -> Result<(), NetError> {
    // SAFETY: no pointers are involved; the result is checked before use.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if raw < 0 {
        return Err(NetError::PacketSocket(io::Error::last_os_error()));
    }
    // SAFETY: `raw` was opened just now, and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: an all-zero `sockaddr_ll` is a valid one.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = u16::try_from(libc::AF_PACKET).expect("a small constant");
    to.sll_ifindex = i32::try_from(index).map_err(|_| NetError::Send(io::ErrorKind::InvalidInput.into()))?;
    to.sll_protocol = u16::from_ne_bytes([frame[12], frame[13]]);
    to.sll_halen = 6;
    to.sll_addr[..6].copy_from_slice(&frame[..6]);
    let length = libc::socklen_t::try_from(size_of_val(&to)).expect("20 bytes");
    // SAFETY: both pointers go to live values of the lengths that are passed with them.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), length)
    };
    if sent < 0 {
        return Err(NetError::Send(io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
#[path = "announce_tests.rs"]
mod announce_tests;
