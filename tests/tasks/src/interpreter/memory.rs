//! The address space of a running program.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

/// Region of the frame and the room before it; a context has its addresses in 32 bits.
pub(super) const PACKET: u64 = 0;
pub(super) const CONTEXT: u64 = 1;
pub(super) const STACK: u64 = 2;
/// Regions of the first section of constants, and of the first map.
pub(super) const DATA: u64 = 1 << 10;
pub(super) const MAPS: u64 = 1 << 20;

/// Regions by number, which is the upper half of an address. Nothing is adjacent to a region, so that wrong accesses
/// are found.
#[derive(Debug, Default)]
pub(super) struct Memory(BTreeMap<u64, Vec<u8>>);

pub(super) const fn address(region: u64, offset: u64) -> u64 {
    region << 32 | offset
}

pub(super) const fn region(address: u64) -> u64 {
    address >> 32
}

impl Memory {
    pub(super) fn put(&mut self, region: u64, bytes: Vec<u8>) {
        self.0.insert(region, bytes);
    }

    /// All bytes of a region; empty if it does not exist.
    pub(super) fn all(&self, region: u64) -> &[u8] {
        self.0.get(&region).map_or(&[], Vec::as_slice)
    }

    /// The `size` bytes at `address`.
    pub(super) fn at(&mut self, address: u64, size: usize) -> Result<&mut [u8]> {
        let start = usize::try_from(address & 0xffff_ffff)?;
        let bytes = self.0.get_mut(&region(address)).and_then(|bytes| bytes.get_mut(start..)?.get_mut(..size));
        bytes.with_context(|| format!("an access to {size} bytes at {address:#x}"))
    }

    /// Loads a number of up to eight bytes.
    pub(super) fn load(&mut self, address: u64, size: usize) -> Result<u64> {
        let mut value = [0; 8];
        value[..size].copy_from_slice(self.at(address, size)?);
        Ok(u64::from_le_bytes(value))
    }

    pub(super) fn store(&mut self, address: u64, size: usize, value: u64) -> Result<()> {
        self.at(address, size)?.copy_from_slice(&value.to_le_bytes()[..size]);
        Ok(())
    }
}
