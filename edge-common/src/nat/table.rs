//! The table of translated flows: the content of an entry, and its place.

use super::sign::Stamp;
use crate::{
    abi::{Backend, BackendNumber, Family, NAT_SOURCES, NatHead, NatSource},
    flow_table::{
        Claim, Entry, EntryState, Flow, FlowMemory, FlowTable, Life, Native, Served, Stage, Words, units, words_of,
    },
    hash::Hash,
    maps::Maps,
};

/// Time after the close by both sides of a connection until any other connection may have its tuple, in units: one
/// second.
const QUIET: i32 = 4;
/// The same for a connection that the backend certainly accepts in its place.
const AT_LEAST: i32 = 1;

/// The content of a flow's entry, without the ends that the client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    pub backend: BackendNumber,
    /// Number of the source address, below [`NAT_SOURCES`].
    pub source: u8,
    /// Whether the client's segments carry timestamps.
    pub is_stamped: bool,
    /// The number of the return route to the client; 0 if not known.
    pub hop: u8,
    pub service: u16,
    /// The backend's port, in the byte order of the header.
    pub port: u16,
}

impl Translation {
    const STAMPED: u16 = 1 << 7;

    /// The form in an entry, with the number that is remembered beside it.
    #[inline(always)]
    pub const fn served(self, sequence: u32) -> Served {
        let stamped = if self.is_stamped { Self::STAMPED } else { 0 };
        Served {
            backend: self.backend,
            since: self.source as u16 | stamped | (self.hop as u16) << 8,
            slot: self.service as u32 | (self.port as u32) << 16,
            sequence,
        }
    }

    #[inline(always)]
    pub const fn of(served: Served) -> Self {
        Self {
            backend: served.backend,
            source: served.since as u8 & const { NAT_SOURCES as u8 - 1 },
            is_stamped: served.since & Self::STAMPED != 0,
            hop: (served.since >> 8) as u8,
            service: served.slot as u16,
            port: (served.slot >> 16) as u16,
        }
    }
}

/// The table at one time, as one packet sees it.
#[inline(always)]
pub(super) fn table<'a, M: Maps>(maps: &'a M, head: &'a NatHead) -> FlowTable<'a, M::Nat> {
    table_at(maps, head, maps.now_ns())
}

/// The table at the time `now_ns`.
#[inline(always)]
pub(super) fn table_at<'a, M: Maps>(maps: &'a M, head: &'a NatHead, now_ns: u64) -> FlowTable<'a, M::Nat> {
    let now = units(now_ns);
    FlowTable { memory: maps.nat_flows(), mask: head.flows.mask, timeouts: &head.flows.timeouts, now }
}

/// The hash of the translated tuple without the source's port, of packets from the backend `from` to the source `to`.
/// `port` is the backend's, in the byte order of the header.
#[inline(always)]
pub const fn tuple(head: &NatHead, from: [u64; 2], to: [u64; 2], port: u16, protocol: u8) -> Hash {
    head.hash_key.hash_words([from[0], from[1], to[0], to[1], port as u64 | (protocol as u64) << 32])
}

/// The place of a tuple's entry whose port is the `offset`-th. Each lane has one place for each port, and tuple and
/// port determine the lane. So each tuple has all ports, and shares places with another tuple only by chance. Flows in
/// different lanes stay in different ones if there are twice as many lanes, or other ports.
#[inline(always)]
pub const fn place(head: &NatHead, tuple: Hash, offset: u32) -> u32 {
    let port = head.first_port.wrapping_add(offset) as u64;
    let mixed = (tuple.0 ^ port.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    scaled((mixed >> 32) as u32, head.lanes).wrapping_mul(head.ports).wrapping_add(offset)
}

/// Scales any number of 32 bits evenly to a number below `count`.
#[inline(always)]
pub(super) const fn scaled(number: u32, count: u32) -> u32 {
    ((number as u64).wrapping_mul(count as u64) >> 32) as u32
}

/// The port of the entry `number`, host order.
#[inline(always)]
pub const fn port_of(head: &NatHead, number: u32) -> u16 {
    match number.checked_rem(head.ports) {
        Some(offset) => head.first_port.wrapping_add(offset) as u16,
        None => 0,
    }
}

/// The source address with this number.
#[inline(always)]
pub(super) fn source(head: &NatHead, number: u8) -> &NatSource {
    &head.sources[usize::from(number) & const { NAT_SOURCES - 1 }]
}

/// An entry of the table.
type EntryOf<M> = Entry<<<M as Maps>::Nat as FlowMemory>::Words>;

/// The translated tuple of a flow: addresses in the form of a [`Flow`](crate::flow_table::Flow), ports in the byte
/// order of headers.
pub(super) struct Outside {
    pub(super) backend: [u64; 2],
    pub(super) backend_port: u16,
    pub(super) source: [u64; 2],
    pub(super) source_port: u16,
    pub(super) protocol: u8,
    pub(super) v6: bool,
}

impl Outside {
    /// The flow with this translated tuple and its entry, if there is one.
    #[inline(always)]
    pub(super) fn entry<'a, M: Maps>(
        &self,
        maps: &M,
        head: &NatHead,
        table: &'a FlowTable<'_, M::Nat>,
    ) -> Option<(EntryState, &'a EntryOf<M>, Flow)> {
        self.entry_and_backend(maps, head, table).map(|(found, entry, flow, _)| (found, entry, flow))
    }

    /// [`Self::entry`], and the backend of the flow.
    #[inline(always)]
    pub(super) fn entry_and_backend<'a, 'b, M: Maps>(
        &self,
        maps: &'b M,
        head: &NatHead,
        table: &'a FlowTable<'_, M::Nat>,
    ) -> Option<(EntryState, &'a EntryOf<M>, Flow, &'b Backend)> {
        let Self { backend: [a, b], backend_port, source: [c, d], source_port, protocol, v6 } = *self;
        let offset = u32::from(source_port.swap_bytes()).wrapping_sub(head.first_port);
        if offset >= head.ports {
            return None;
        }
        let tuple = tuple(head, [a, b], [c, d], backend_port, protocol);
        let (found, entry, flow) = table.at(place(head, tuple, offset))?;
        let served = Translation::of(found.served);
        let backend = maps.backend(served.backend)?;
        let own = source(head, served.source);
        let family = if v6 { Family::V6 } else { Family::V4 };
        let (peer, here) = (words_of(backend.address, v6), words_of(own.address, v6));
        // Another tuple may have the same place.
        let is_its = backend.family == family as u8
            && own.family == family as u32
            && peer[0] == a
            && peer[1] == b
            && here[0] == c
            && here[1] == d
            && served.port == backend_port
            && flow.protocol() == protocol;
        if is_its { Some((found, entry, flow, backend)) } else { None }
    }
}

/// The place of an entry whose port is known: for user space, which moves flows to another table.
pub struct OnePlace(pub u32);

impl Claim<Native> for OnePlace {
    fn place(&self, _probe: u32) -> u32 {
        self.0
    }

    fn last(&self) -> u32 {
        0
    }

    fn may_displace(&self, _served: Served) -> bool {
        false
    }
}

/// The places of a new flow's entry.
pub struct Ports<'a> {
    pub head: &'a NatHead,
    pub tuple: Hash,
    /// The flow's hash, which determines where the search starts and how it goes on.
    pub flow: Hash,
    /// The stamp of the SYN; `None` for another protocol.
    pub stamp: Option<Stamp>,
    pub now: u32,
}

impl<W: Words> Claim<W> for Ports<'_> {
    /// If half of the ports to one backend can't be taken yet, one connection in 2^32 finds no port; with sixteen places
    /// it would be one in 65,536.
    const PROBES: u32 = 32;

    /// The ports in an order that depends on the flow. Each port is drawn anew: with equal steps from one to the next,
    /// few ports would be reached if the step is hardly more than a fraction of all ports.
    #[inline(always)]
    fn place(&self, probe: u32) -> u32 {
        let Hash(flow) = self.flow;
        let mixed = flow.wrapping_add(u64::from(probe).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        place(self.head, self.tuple, scaled((mixed >> 32) as u32, self.head.ports))
    }

    #[inline(always)]
    fn last(&self) -> u32 {
        <Self as Claim<W>>::PROBES
    }

    /// A connection that the backend still keeps in `TIME_WAIT` makes room for a connection that the backend accepts in its
    /// place: preferably after a second, but rather sooner than that the other one is refused, since the backend's judgement
    /// does not depend on the time. After a second it makes room for any connection, if there is no other place: the
    /// backend answers with an ACK, the client's RST ends the wait, and the SYN that is sent again a second later is
    /// accepted (RFC 9293, section 3.10.7.4). That is better than a refusal, and so is to take the place of a connection
    /// that the client closed first: the backend has no `TIME_WAIT`, or has not received the last ACK and answers likewise.
    #[inline(always)]
    fn weakness(&self, life: Life, entry: &Entry<W>) -> u32 {
        let (Some(stamp), age) = (self.stamp, life.age(self.now)) else { return 0 };
        let stage = life.stage();
        if !matches!(stage, Stage::Closed | Stage::Finished) || !life.is_live() || age < AT_LEAST {
            return 0;
        }
        let served = entry.read();
        let last = Stamp { is_timestamp: Translation::of(served).is_stamped, value: served.sequence };
        // The steps are so long that the result is below that of any half-open flow that may be taken.
        let silent = age.cast_unsigned() << 2 >> 8 | 1;
        match (stamp.comes_after(last), age < QUIET) {
            (true, false) => 1 << 29 | silent,
            (true, true) => 1 << 28 | silent,
            (false, true) if matches!(stage, Stage::Closed) => 0,
            (false, _) => silent,
        }
    }

    #[inline(always)]
    fn may_displace(&self, _served: Served) -> bool {
        false
    }
}
