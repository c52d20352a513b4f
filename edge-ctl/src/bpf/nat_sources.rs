//! The sources of translated packets, by their numbers in the head of the table of translated flows.
//!
//! A source that is removed from the configuration keeps its number, and its packets are looked up, while flows use it.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use edge_common::{
    abi::{Family, Generation, NAT_SOURCES, NatChoice, NatHead, NatSource, map},
    nat::Translation,
    tables::service_index::vip_bits,
};

use super::{
    BpfError, PinnedMaps,
    error::out_of,
    nat::{NatTable, address},
};
use crate::plan::NatPlan;

fn source(address: IpAddr) -> NatSource {
    let (family, address) = Family::split(address);
    NatSource { address, family: family as u32, reserved: 0 }
}

/// The numbers of `wanted` among `sources`, repeated to fill the list: whichever place a packet reads during a write has
/// a valid number.
fn choice(sources: &[NatSource; NAT_SOURCES], wanted: &[IpAddr], v4: bool) -> NatChoice {
    let number = |address: &IpAddr| sources.iter().position(|known| *known == source(*address));
    let numbers: Vec<_> = wanted
        .iter()
        .filter(|address| address.is_ipv4() == v4)
        .filter_map(number)
        .filter_map(|n| u8::try_from(n).ok())
        .collect();
    let mut choice = NatChoice { numbers: [0; NAT_SOURCES], count: u32::try_from(numbers.len()).unwrap_or_default() };
    for (place, number) in choice.numbers.iter_mut().zip(numbers.iter().cycle()) {
        *place = *number;
    }
    choice
}

/// The head of a new table, with the plan's sources.
pub(super) fn with_sources(mut head: NatHead, plan: &NatPlan) -> NatHead {
    for (place, address) in head.sources.iter_mut().zip(&plan.sources) {
        *place = source(*address);
    }
    head.flows.timeouts = plan.timeouts;
    head.sources_v4 = choice(&head.sources, &plan.sources, true);
    head.sources_v6 = choice(&head.sources, &plan.sources, false);
    head
}

/// The addresses of a table's sources.
fn addresses(head: &NatHead) -> impl Iterator<Item = IpAddr> {
    head.sources.iter().filter_map(address)
}

impl PinnedMaps {
    /// A planned generation by which packets to sources that are no longer configured are looked up, too: flows may still
    /// use them.
    pub(super) fn with_former_sources(&self, generation: &Generation) -> Generation {
        let head = self.maps.nat_head.read(0).filter(|_| generation.translates != 0);
        let former = head.map_or(0, |head| vip_bits(addresses(&head)));
        Generation { vip_bits: generation.vip_bits | former, ..*generation }
    }

    /// Writes the sources of translated flows and their idle timeouts. Unless `exact`, the longer of the old and the new
    /// timeout applies.
    ///
    /// # Errors
    /// If there are more sources than numbers: removed sources keep theirs while flows still use them.
    pub(super) fn write_nat(&self, plan: &NatPlan, exact: bool) -> Result<(), BpfError> {
        let out_of = || out_of(map::NAT_HEAD, 0);
        let before = self.maps.nat_head.read(0).ok_or_else(out_of)?;
        let (ports, entries) = (plan.ports.count(), self.capacity.nat_flows);
        let mut head = NatHead::new(before.hash_key, plan.ports.first, ports, entries / ports.max(1), |_| 0);
        if before.ports == 0 {
            // An independent random key, so that a change of the configuration's key moves no flow.
            head.hash_key = edge_common::abi::HashKey(rand::random());
        }
        head.flows.mask = entries.saturating_sub(1);
        head.flows.timeouts = if exact { plan.timeouts } else { before.flows.timeouts.longest(&plan.timeouts) };
        head.sources = self.numbered(&before, &plan.sources)?;
        // The sources are written before the lists that refer to them.
        (head.sources_v4, head.sources_v6) = (before.sources_v4, before.sources_v6);
        self.maps.nat_head.write(0, head).ok_or_else(out_of)?;
        head.sources_v4 = choice(&head.sources, &plan.sources, true);
        head.sources_v6 = choice(&head.sources, &plan.sources, false);
        self.maps.nat_head.write(0, head).ok_or_else(out_of)
    }

    /// The sources by number: each keeps its number for as long as a flow may use it.
    fn numbered(&self, before: &NatHead, wanted: &[IpAddr]) -> Result<[NatSource; NAT_SOURCES], BpfError> {
        let mut sources = before.sources;
        let mut missing: Vec<_> =
            wanted.iter().map(|address| source(*address)).filter(|new| !sources.contains(new)).collect();
        if missing.is_empty() {
            return Ok(sources);
        }
        let table = NatTable::new(&self.maps, Duration::ZERO)?;
        let named: BTreeSet<_> =
            table.iter().flat_map(NatTable::all).map(|(_, found)| Translation::of(found.served).source).collect();
        let is_wanted = |known: &NatSource| address(known).is_some_and(|address| wanted.contains(&address));
        for (number, place) in (0u8..).zip(&mut sources) {
            let free = place.family == 0 || !is_wanted(place) && !named.contains(&number);
            if free && let Some(new) = missing.pop() {
                *place = new;
            }
        }
        if missing.is_empty() { Ok(sources) } else { Err(BpfError::NatSources { left: missing.len() }) }
    }
}
