//! Next hop objects, of which the library of netlink messages knows nothing.

use std::{io, net::IpAddr};

use rtnetlink::{
    packet_core::NlasIterator,
    sys::{AsyncSocket as _, AsyncSocketExt as _, Socket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};

use super::route::Hop;

/// `RTNLGRP_NEXTHOP`, as a bit of the groups of an address.
const GROUP: u32 = 1 << (32 - 1);

/// The kernel's `RTM_NEWNEXTHOP` and `RTM_GETNEXTHOP`.
const NEW: u16 = 104;
const GET: u16 = 106;
/// Attributes: `NHA_ID`, `NHA_GROUP`, `NHA_BLACKHOLE`, `NHA_GATEWAY`, `NHA_ENCAP_TYPE`.
const ID: u16 = 1;
const MEMBERS: u16 = 2;
const BLACKHOLE: u16 = 4;
/// The index of the interface.
const EGRESS: u16 = 5;
const GATEWAY: u16 = 6;
const ENCAPSULATION: u16 = 7;
/// `RTNH_F_DEAD`, `RTNH_F_LINKDOWN`, `RTNH_F_UNRESOLVED`.
const UNUSABLE: u32 = 1 | 16 | 32;
/// Lengths of `struct nlmsghdr`, `struct nhmsg` and `struct nexthop_grp`.
const HEADER: usize = 16;
const BODY: usize = 8;
const MEMBER: usize = 8;

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

/// The usable next hops of an object, or of a group's members. A next hop without a gateway is `address` itself.
///
/// # Errors
/// If the kernel has no such object, or does not answer.
pub(super) fn hops(object: u32, address: IpAddr) -> io::Result<Vec<Hop>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // The kernel answers during the system call that sends the request.
    socket.set_non_blocking(true)?;
    let found = get(&socket, object)?;
    if found.members.is_empty() {
        return Ok(found.hop(address, 1).into_iter().collect());
    }
    let member = |(object, weight): (u32, u16)| Ok(get(&socket, object)?.hop(address, weight));
    let hops: io::Result<Vec<Option<Hop>>> = found.members.into_iter().map(member).collect();
    Ok(hops?.into_iter().flatten().collect())
}

/// A next hop object.
#[derive(Debug, Default, PartialEq, Eq)]
struct Object {
    is_usable: bool,
    egress: Option<u32>,
    gateway: Option<IpAddr>,
    /// The objects of a group, with their weights.
    members: Vec<(u32, u16)>,
}

impl Object {
    fn hop(&self, address: IpAddr, weight: u16) -> Option<Hop> {
        let egress = self.egress.filter(|_| self.is_usable)?;
        Some(Hop { egress, via: self.gateway.unwrap_or(address), weight })
    }
}

fn get(socket: &Socket, object: u32) -> io::Result<Object> {
    socket.send(&request(object), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    parse(&answer).ok_or_else(|| io::Error::other("the kernel has no such next hop object"))
}

fn request(object: u32) -> Vec<u8> {
    const LENGTH: usize = HEADER + BODY + 8;
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend(u32::try_from(LENGTH).unwrap_or_default().to_ne_bytes());
    bytes.extend(GET.to_ne_bytes());
    // `NLM_F_REQUEST`
    bytes.extend(1u16.to_ne_bytes());
    bytes.resize(HEADER + BODY, 0);
    bytes.extend(8u16.to_ne_bytes());
    bytes.extend(ID.to_ne_bytes());
    bytes.extend(object.to_ne_bytes());
    bytes
}

/// The object in an answer; `None` if the answer is an error.
fn parse(answer: &[u8]) -> Option<Object> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let body = answer.get(HEADER..HEADER + BODY).filter(|_| kind == NEW)?;
    let flags = u32::from_ne_bytes(body.get(4..)?.try_into().ok()?);
    let mut object = Object { is_usable: flags & UNUSABLE == 0, ..Object::default() };
    for attribute in NlasIterator::new(answer.get(HEADER + BODY..)?) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            EGRESS => object.egress = Some(word(value)?),
            GATEWAY => {
                let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
                object.gateway = v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok();
            }
            MEMBERS => object.members = value.chunks_exact(MEMBER).filter_map(member).collect(),
            BLACKHOLE | ENCAPSULATION => object.is_usable = false,
            _ => {}
        }
    }
    Some(object)
}

/// A `struct nexthop_grp`: number, weight less one, the weight's high byte since Linux 6.12.
fn member(bytes: &[u8]) -> Option<(u32, u16)> {
    let weight = u16::from_le_bytes(bytes.get(4..6)?.try_into().ok()?);
    Some((word(bytes)?, weight.saturating_add(1)))
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?))
}
