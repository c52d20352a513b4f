//! The packet path's access to the BPF maps: [`PoolMaps`] for the selection of a backend, [`Maps`] for everything.

#[cfg(doc)]
use crate::abi::Unrecorded;
use crate::{
    abi::{
        Backend, BackendNumber, Cell, Exit, FlowCount, FlowHead, FlowKeyV4, FlowKeyV6, FragmentRecord, Generation, Mac,
        NatHead, Pool, Published, RateLimited, Service, ServiceEntryV4, ServiceEntryV6, Sign, Slot, SlotAddress,
        Station,
    },
    flow_table::{FlowMemory, Native, Words},
    wire::packet::Packet,
};

/// A route to a backend, from the kernel's own routing and neighbour tables. Its fields are words, aligned as on the eBPF
/// stack.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// MAC address of the next hop.
    pub mac: Mac,
    /// MAC address of the egress interface.
    pub source_mac: Mac,
    /// Interface index of the egress.
    pub egress: u32,
    /// 1 if the next hop is a router; 0 if it is the backend itself.
    pub by_router: u32,
}

/// A return route to clients, in words whose content [`nat`](crate::nat) defines.
pub type HopWords = [<Native as Words>::U64; 4];

/// The published generation, read once for each packet, so that the whole packet path sees the same one.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The published bank of the double-buffered maps.
    pub bank: u32,
    pub generation: &'a Generation,
}

impl<'a> View<'a> {
    #[inline(always)]
    const fn of(published: &'a Published, bank: u32) -> Self {
        let bank = bank & 1;
        Self { bank, generation: &published.generations[bank as usize] }
    }

    /// Whether frames to this station are accepted.
    ///
    /// All stations are compared: with an early exit, the verifier would follow the rest of the program once for each of them.
    #[inline(always)]
    pub fn takes(&self, station: Station) -> bool {
        let [own, others @ ..] = &self.generation.stations;
        *own == station || others.contains(&station)
    }

    /// Source MAC address of frames that the edge itself sends by the packet's ingress interface: the interface's first
    /// station, which is its own address. `None` if the interface has no station.
    #[inline(always)]
    pub fn own_address<P: Packet>(&self, packet: &P) -> Option<Mac> {
        let mut own = Mac::default();
        // From the last station to the first, without an early exit, for which the verifier would follow each end of the loop.
        for station in self.generation.stations.iter().rev() {
            let Mac(found) = station.address_on(packet.ingress()).unwrap_or(own);
            own = Mac(packet.merge_paths(found as usize, usize::MAX) as u64);
        }
        own.is_known().then_some(own)
    }
}

/// Fragmented packets of one address family whose later fragments may still arrive.
pub trait Fragments<K> {
    fn find(&self, key: &K) -> Option<FragmentRecord>;
    /// Evicts the oldest record if the map is full.
    fn insert(&self, key: &K, record: FragmentRecord);
    fn remove(&self, key: &K);
}

/// The maps that the selection of a backend reads. A read past a map's end returns `None`.
pub trait PoolMaps {
    fn pool(&self, bank: u32, number: u16) -> Option<&Pool>;
    fn backend(&self, number: BackendNumber) -> Option<&Backend>;
    /// A cell: the candidates of a slot, or four entries of a pool's member list.
    fn candidates(&self, cell: u32) -> Option<Cell>;

    /// As [`Packet::merge_paths`](crate::wire::packet::Packet::merge_paths).
    #[inline(always)]
    fn merge_paths(&self, value: u32, mask: u32) -> u32 {
        value & mask
    }
}

/// All maps: read access, the few writes of the packet path, and the kernel's routing as a last resort.
///
/// A read past a map's end returns `None`; a write past it is ignored.
pub trait Maps: PoolMaps {
    /// The flow table's memory.
    type Flows: FlowMemory<Words = Native>;
    /// Memory of the table of translated flows.
    type Nat: FlowMemory<Words = Native>;

    /// Both banks' generations, and the number of the active bank.
    fn published(&self) -> Option<(&Published, u32)>;

    /// The published generation. Before the first publication it has no stations, so no frame is accepted.
    #[inline(always)]
    fn view(&self) -> Option<View<'_>> {
        let (published, active) = self.published()?;
        Some(View::of(published, active))
    }

    /// The generation of `bank`, for a packet that was received while that bank was published.
    #[inline(always)]
    fn view_of(&self, bank: u32) -> Option<View<'_>> {
        let (published, _) = self.published()?;
        Some(View::of(published, bank))
    }

    fn service_entry_v4(&self, bank: u32, position: u32) -> Option<&ServiceEntryV4>;
    fn service_entry_v6(&self, bank: u32, position: u32) -> Option<&ServiceEntryV6>;
    fn service(&self, bank: u32, number: u32) -> Option<&Service>;

    fn slot(&self, slot: SlotAddress) -> Option<Slot>;
    /// Makes `owner` the slot's owner, with one store.
    fn set_owner(&self, slot: SlotAddress, owner: BackendNumber);
    /// Sets [`Slot::look`]: a flow of this slot may be recorded from now on.
    fn set_look(&self, slot: SlotAddress);
    /// Sets [`Slot::unrecorded`] to [`Unrecorded::Flow`].
    fn set_unrecorded(&self, slot: SlotAddress);
    /// Sets [`Slot::unrecorded`] to [`Unrecorded::Start`], unless it is set.
    fn set_start_unrecorded(&self, slot: SlotAddress);

    /// Stores `mtu` as the path MTU of a backend, unless a smaller one is known.
    fn learn_path_mtu(&self, backend: BackendNumber, mtu: u16);

    /// Whether a service, given with its number, is in transition ([`Service::in_transition`]).
    #[inline(always)]
    fn is_in_transition(&self, _bank: u32, _number: u32, service: &Service) -> bool {
        service.in_transition != 0
    }
    /// Sets [`Service::in_transition`], for the controller.
    fn start_transition(&self, bank: u32, service: u32);

    fn flow_head(&self) -> Option<&FlowHead>;
    fn flows(&self) -> &Self::Flows;
    fn nat_head(&self) -> Option<&NatHead>;
    fn nat_flows(&self) -> &Self::Nat;
    fn nat_hop(&self, number: u32) -> Option<&HopWords>;
    fn fragments_v4(&self) -> impl Fragments<FlowKeyV4>;
    fn fragments_v6(&self) -> impl Fragments<FlowKeyV6>;

    /// Nanoseconds of `CLOCK_MONOTONIC`, coarse.
    fn now_ns(&self) -> u64;
    /// Takes one of the `limit` actions of this second ([`RateLimiter`](crate::abi::RateLimiter)); false if none is left.
    fn try_take(&self, action: RateLimited, now_ns: u64, limit: u32) -> bool;

    /// Sets [`Backend::asked`]; nothing where packets are not those of clients.
    #[inline(always)]
    fn set_asked(&self, _backend: BackendNumber, _ticks: u32) {}
    /// Sets [`Backend::heard`].
    #[inline(always)]
    fn set_heard(&self, _backend: BackendNumber, _ticks: u32) {}
    /// Adds a sign to [`Evidence`](crate::abi::Evidence).
    #[inline(always)]
    fn add_sign(&self, _backend: BackendNumber, _sign: Sign) {}

    /// The MTU of an interface, bytes of IP packet; 0 if unknown.
    fn mtu(&self, interface: u32) -> u32;

    /// The kernel's own route to `backend`, from the tunnel source of its family.
    fn route(&self, generation: &Generation, backend: &Backend) -> Option<Route>;

    /// Tells a tracer which service a packet concerns, and which backend, as far as they are known; 0 is no backend. Only
    /// the programs for traced packets have a tracer: elsewhere this is nothing.
    #[inline(always)]
    fn concerns(&self, _service: u32, _backend: BackendNumber) {}

    fn count_exit(&self, exit: Exit);
    fn count_flow(&self, service: u32, what: FlowCount);
    /// Counts a forwarded packet of `bytes` for the service and the backend; `starts` if it starts a flow.
    fn count_forwarded(&self, service: u32, backend: BackendNumber, bytes: u64, starts: bool);
}
