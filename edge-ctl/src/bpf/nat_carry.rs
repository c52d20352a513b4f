//! Carries translated flows from old maps into new ones. A flow keeps its backend, source and port, so its packets go on
//! both ways, even if the backend is the next to send.

use std::{collections::BTreeSet, time::Duration};

use edge_common::{
    abi::{BackendNumber, Family, NAT_HOPS, NatSource, map},
    flow_table::{Birth, Certainty, EntryState, Flow, Served, words_of},
    nat::{self, Hop, OnePlace, Translation},
};

use super::{BpfError, PinnedMaps, error::out_of, maps::Maps, nat::NatTable};

/// Number of flows that were carried, and of translated flows that could not be carried: they end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) flows: usize,
    pub(crate) lost: usize,
}

/// Takes over from the old maps what flows depend on: the table's key, which determines their places, and their sources.
/// No packet reads `to` yet.
pub(super) fn inherit(from: &PinnedMaps, to: &PinnedMaps) -> Result<(), BpfError> {
    let out_of = || out_of(map::NAT_HEAD, 0);
    let head = |maps: &Maps| maps.nat_head.read(0).ok_or_else(out_of);
    let (was, mut is) = (head(&from.maps)?, head(&to.maps)?);
    if was.ports == 0 || is.ports == 0 {
        return Ok(());
    }
    is.hash_key = was.hash_key;
    let former: Vec<_> = was.sources.into_iter().filter(|source| !is.sources.contains(source)).collect();
    let free = is.sources.iter_mut().filter(|source| source.family == 0);
    free.zip(former).for_each(|(place, source)| *place = source);
    to.maps.nat_head.write(0, is).ok_or_else(out_of)?;
    let Some((bank, generation)) = to.maps.published() else { return Ok(()) };
    let generation = to.with_former_sources(&generation);
    to.maps.published.write_part(0, Maps::generation(bank), generation).ok_or(self::out_of(map::PUBLISHED, bank))
}

/// Carries flows of `from` over into `to`, unless they are there already; `backends` and `services` map old numbers to
/// new ones.
pub(super) fn carry(
    from: &Maps,
    to: &Maps,
    now: Duration,
    backends: impl Fn(BackendNumber) -> Option<BackendNumber>,
    services: impl Fn(u16) -> Option<u16>,
) -> Result<Carried, BpfError> {
    let mut carried = Carried::default();
    let hops = carry_hops(from, to);
    let (Some(from), Some(to)) = (NatTable::new(from, now)?, NatTable::new(to, now)?) else { return Ok(carried) };
    // In a table of other proportions, two flows may need one place: that of a flow that goes on precedes.
    for is_over in [false, true] {
        let stays = |found: &EntryState| !from.is_expired(found) && found.life.stage().is_over() == is_over;
        for (flow, found) in from.all().filter(|(_, found)| stays(found)) {
            if to.table().find(&flow, flow.hash(&to.head.hash_key)).is_some() {
                continue;
            }
            let was = Translation::of(found.served);
            let hop = if hops.contains(&was.hop) { was.hop } else { 0 };
            let is = backends(was.backend)
                .zip(services(was.service))
                .zip(to.number_of(&from, was.source))
                .map(|((backend, service), source)| Translation { backend, service, source, hop, ..was });
            if is.is_some_and(|is| to.carry(&from, &flow, &found, is)) {
                carried.flows += 1;
            } else if !is_over {
                carried.lost += 1;
            }
        }
    }
    Ok(carried)
}

/// Copies the return routes to clients; returns the numbers of those that are the same in both maps.
fn carry_hops(from: &Maps, to: &Maps) -> BTreeSet<u8> {
    let is_carried = |number: &u8| {
        let hops = [from, to].map(|maps| maps.nat_hops.words((*number).into()).map(Hop));
        matches!(hops, [Some(from), Some(to)] if from.carry(to))
    };
    (1..=u8::MAX).filter(is_carried).collect()
}

const _: () = assert!(NAT_HOPS == u8::MAX as u32 + 1);

impl NatTable<'_> {
    /// The number in this table of a source whose number in `from` is known.
    fn number_of(&self, from: &Self, number: u8) -> Option<u8> {
        let is_it = |was: &NatSource, (_, is): &(u8, &NatSource)| *is == was;
        let was = from.head.sources.get(usize::from(number)).filter(|was| was.family != 0)?;
        (0u8..).zip(&self.head.sources).find(|known| is_it(was, known)).map(|(number, _)| number)
    }

    /// Adds a flow of `from` at the place that follows from its translation, which `is` its translation here. Returns false
    /// if it has no place, or another flow has the place.
    fn carry(&self, from: &Self, flow: &Flow, found: &EntryState, is: Translation) -> bool {
        let (Some(class), Some(place)) = (found.life.class(), self.place(from, found, flow)) else { return false };
        let served = is.served(found.served.sequence);
        let birth = Birth { stage: found.life.stage(), class, certainty: Certainty::Certain, served };
        let table = self.table();
        let Ok(number) = table.insert(flow, flow.hash(&self.head.hash_key), &birth, &OnePlace(place)) else {
            return false;
        };
        if found.life.is_untold()
            && let Some((carried, entry, _)) = table.at(number)
        {
            table.advance(&carried, entry, |life| life.with_untold(true), None);
        }
        true
    }

    /// The place in this table of a flow of `from`, which keeps its source port.
    fn place(&self, from: &Self, found: &EntryState, flow: &Flow) -> Option<u32> {
        let port = u32::from(nat::port_of(&from.head, found.number));
        let offset = port.checked_sub(self.head.first_port).filter(|offset| *offset < self.head.ports)?;
        let Served { backend, .. } = found.served;
        let Translation { source, port: backend_port, .. } = Translation::of(found.served);
        let to = from.backend(backend)?;
        let v6 = to.family == Family::V6 as u8;
        let own = from.head.sources.get(usize::from(source))?.address;
        let [to, own] = [to.address, own].map(|address| words_of(address, v6));
        let tuple = nat::tuple(&self.head, to, own, backend_port, flow.protocol());
        Some(nat::place(&self.head, tuple, offset))
    }
}
