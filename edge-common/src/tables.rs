//! The maps, as the packet path sees them.

use crate::{
    abi::{Backend, BackendNumber, Cell, Generation, Pool, Published, Service, ServiceEntryV4, ServiceEntryV6},
    exit::Exit,
};

/// A way to a backend that the kernel's own routing and neighbour tables know.
///
/// In this order, and so aligned, each field can be read from the stack in words, as the verifier wants them aligned.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// MAC address of the next hop.
    pub mac: [u8; 6],
    /// Interface index of the egress.
    pub egress: u32,
    /// MAC address of the egress interface.
    pub source_mac: [u8; 6],
}

/// What a packet reads once and then uses throughout, so that it sees one generation.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The half of the maps that was published.
    pub half: u32,
    pub generation: &'a Generation,
}

/// Read access to the maps, the few writes that the packet path makes, and the kernel's routing as a last resort.
///
/// A reader returns `None` for an index past the map's end.
pub trait Tables {
    /// What is published, and which half of the maps that is.
    fn published(&self) -> Option<(&Published, u32)>;

    /// The published generation; `None` before the first.
    #[inline(always)]
    fn view(&self) -> Option<View<'_>> {
        let (published, active) = self.published()?;
        let half = active & 1;
        let generation = &published.generations[half as usize];
        if generation.number == 0 { None } else { Some(View { half, generation }) }
    }

    fn service_entry_v4(&self, half: u32, position: u32) -> Option<&ServiceEntryV4>;
    fn service_entry_v6(&self, half: u32, position: u32) -> Option<&ServiceEntryV6>;
    fn service(&self, half: u32, number: u32) -> Option<&Service>;
    fn pool(&self, half: u32, number: u16) -> Option<&Pool>;
    fn backend(&self, number: BackendNumber) -> Option<&Backend>;
    /// A slot's candidates, or four members of a pool.
    fn candidates(&self, cell: u32) -> Option<Cell>;
    /// Owner of slot `4 * cell + lane`; `lane` counts modulo 4.
    fn owner(&self, cell: u32, lane: u32) -> Option<BackendNumber>;
    /// Makes `owner` the owner, with one store; nothing for a cell past the map's end.
    fn set_owner(&self, cell: u32, lane: u32, owner: BackendNumber);

    /// The kernel's own way to `backend`, from the tunnel source of its family.
    fn route(&self, generation: &Generation, backend: &Backend) -> Option<Route>;

    fn count_exit(&self, exit: Exit);
    /// Counts a forwarded packet of `bytes` for the service and the backend; `starts` if it starts a flow.
    fn count_forwarded(&self, service: u32, backend: BackendNumber, bytes: u64, starts: bool);
}
