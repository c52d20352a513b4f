//! Preview of a planned generation: the picks of its slots before publication, by the packet path's own rule.

use std::{collections::BTreeMap, rc::Rc};

use edge_common::{
    abi::{Backend, BackendNumber, Cell, Generation, Pool},
    maps::{PoolMaps, View},
    select,
};

use super::{
    PinnedMaps,
    picks::alike,
    slots::Slots,
    view::{Copies, Picker},
};
use crate::plan::Image;

/// The maps at present, and with an image applied.
pub(crate) struct Preview<'a> {
    maps: &'a PinnedMaps,
    image: &'a Image,
    now: Copies,
    bank: u32,
    pools: BTreeMap<u16, Pool>,
    backends: BTreeMap<BackendNumber, Backend>,
    tables: NewCells<'a>,
    /// Picks by service (reduced by [`alike`]) and whether the image is applied.
    known: BTreeMap<(bool, Vec<u8>), Rc<Vec<BackendNumber>>>,
}

/// Candidate tables and member lists of an image, by their first cell.
pub(super) struct NewCells<'a>(BTreeMap<u32, &'a [Cell]>);

pub(super) fn new_cells(image: &Image) -> NewCells<'_> {
    NewCells(image.candidates.iter().map(|region| (region.first, &region.cells[..])).collect())
}

impl NewCells<'_> {
    /// `None` for a cell that the image leaves unchanged.
    pub(super) fn get(&self, cell: u32) -> Option<Cell> {
        let (first, cells) = self.0.range(..=cell).next_back()?;
        cells.get((cell - first) as usize).copied()
    }
}

impl PinnedMaps {
    /// A preview of the maps with `image` applied; `None` while nothing is published.
    pub(crate) fn preview<'a>(&'a self, image: &'a Image) -> Option<Preview<'a>> {
        let (bank, generation) = self.maps.published()?;
        let mut backends: BTreeMap<_, _> = image.backends.iter().copied().collect();
        for returned in &image.returned {
            if let Some(backend) = self.maps.backends.read(returned.number.into()) {
                backends.insert(returned.number, Backend { state: returned.state.0, ..backend });
            }
        }
        let now = Copies::take(&self.maps, bank, &generation);
        let pools = image.pools.iter().copied().collect();
        Some(Preview {
            maps: self,
            image,
            now,
            bank,
            pools,
            backends,
            tables: new_cells(image),
            known: BTreeMap::new(),
        })
    }
}

impl Preview<'_> {
    /// The present pick of each slot; 0 for a slot without one. Empty if no service has this number.
    pub(crate) fn picks_now(&mut self, service: u32) -> Rc<Vec<BackendNumber>> {
        let Some(service) = self.maps.maps.service(self.bank, service) else { return Rc::default() };
        let key = (false, bytemuck::bytes_of(&alike(&service)).to_vec());
        if let Some(picks) = self.known.get(&key) {
            return Rc::clone(picks);
        }
        let picker = Picker::new(&self.maps.maps, &self.now);
        let picks = (0..=service.slot_mask).map(|slot| picker.pick(&service, slot).unwrap_or(0)).collect();
        Rc::clone(self.known.entry(key).or_insert(Rc::new(picks)))
    }

    /// The pick of each slot with the image applied.
    pub(crate) fn picks_then(&mut self, service: u32) -> Rc<Vec<BackendNumber>> {
        let Some(new) = self.image.services.iter().find(|new| new.number == service) else { return Rc::default() };
        let key = (true, bytemuck::bytes_of(&alike(&new.service)).to_vec());
        if let Some(picks) = self.known.get(&key) {
            return Rc::clone(picks);
        }
        let generation: &Generation = &self.image.generation;
        let view = View { bank: 0, generation };
        let slots = 0..=new.service.slot_mask;
        let picks = slots.map(|slot| select::pick(self, view, &new.service, slot).unwrap_or(0)).collect();
        Rc::clone(self.known.entry(key).or_insert(Rc::new(picks)))
    }

    /// The owner of each slot, which serves established flows that have no record.
    pub(crate) fn owners(&self, service: u32) -> Vec<BackendNumber> {
        let Some(service) = self.maps.maps.service(self.bank, service) else { return Vec::new() };
        let slots = Slots::of(&self.maps.maps, &service);
        (0..=service.slot_mask).map(|slot| slots.owner(slot)).collect()
    }

    /// A backend's address, by which clients distinguish backends.
    pub(crate) fn address(&self, number: BackendNumber) -> Option<[u8; 16]> {
        PoolMaps::backend(self, number).filter(|_| number != 0).map(|backend| backend.address)
    }
}

impl PoolMaps for Preview<'_> {
    fn pool(&self, _bank: u32, number: u16) -> Option<&Pool> {
        self.pools.get(&number)
    }

    fn backend(&self, number: BackendNumber) -> Option<&Backend> {
        self.backends.get(&number).or_else(|| self.now.backend(number))
    }

    fn candidates(&self, cell: u32) -> Option<Cell> {
        self.tables.get(cell).or_else(|| self.maps.maps.candidates.read(cell))
    }
}
