//! Loads the load balancer into the kernel, and fills its maps.

use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result, bail};
use aya::{Ebpf, EbpfLoader, maps::Map};
use bytemuck::{Pod, bytes_of};
use edge_common::{abi::map, host::Memory};
use edge_tests::{decap, kernel};
use memmap2::{MmapOptions, MmapRaw};

use super::flow_table;
use crate::programs::{self, SHIPPED, object};

/// Loads the object, with maps of the sizes that `memory` needs.
pub(super) fn load(memory: &Memory) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for (name, entries) in kernel::sizes(memory, kernel::FRAGMENTS) {
        loader.map_max_entries(name, entries);
    }
    let mut edge = loader.load(&object("edge")?)?;
    for name in SHIPPED {
        programs::load(&mut edge, name)?;
    }
    Ok(edge)
}

/// Writes the maps that only user space writes.
pub(super) fn fill(edge: &mut Ebpf, memory: &Memory) -> Result<()> {
    fn write<T: Pod>(edge: &mut Ebpf, name: &str, values: &[T]) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let stride = size_of::<T>().next_multiple_of(8);
        let to = mapped(edge, name, stride * values.len())?;
        for (place, value) in values.iter().enumerate() {
            let bytes = bytes_of(value);
            // SAFETY: the mapping has a stride for each value, and no program uses it at the moment.
            unsafe { to.as_mut_ptr().add(place * stride).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
        Ok(())
    }
    write(edge, map::PUBLISHED, &[memory.published])?;
    write(edge, map::SERVICE_INDEX_V4, &memory.service_index_v4)?;
    write(edge, map::SERVICE_INDEX_V6, &memory.service_index_v6)?;
    write(edge, map::SERVICES, &memory.services)?;
    write(edge, map::POOLS, &memory.pools)?;
    write(edge, map::BACKENDS, &memory.backends)?;
    write(edge, map::CANDIDATES, &memory.candidates)?;
    write(edge, map::NAT_HEAD, &[memory.nat.head])?;
    write(edge, map::FLOW_HEAD, &[flow_table::head(memory.flows.head.mask + 1)])?;
    decap::fill(edge, memory);
    Ok(())
}

/// The first `bytes` of an array map.
pub(super) fn mapped(edge: &mut Ebpf, name: &str, bytes: usize) -> Result<MmapRaw> {
    let Some(Map::Array(data)) = edge.map(name) else { bail!("no array `{name}`") };
    MmapOptions::new().len(bytes).map_raw(data.fd().as_fd().as_raw_fd()).with_context(|| format!("mapping {name}"))
}
