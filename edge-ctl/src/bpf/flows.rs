//! Flow records: read a run at a time, deleted by their keys.

use std::{marker::PhantomData, os::fd::AsFd as _};

use aya::maps::MapData;
use bytemuck::{Pod, Zeroable as _};

use edge_common::abi::{FlowEnds, FlowRecord};

use super::{BpfError, PinDir, PinnedMaps, carry::Insert, maps::Handle, sys};

/// Records that one system call copies. A bucket has a few; one that has more gets the room that it needs.
const RUN: usize = 2048;

/// The flow records of one IP version.
#[derive(Debug)]
pub(super) struct FlowTable<K> {
    map: MapData,
    name: &'static str,
    key: PhantomData<K>,
}

/// The records of a run of buckets.
#[derive(Clone, Debug)]
pub(super) struct Run<K> {
    pub(super) records: Vec<(K, FlowRecord)>,
    /// Where the next run starts; `None`: this was the last one.
    pub(super) next: Option<u32>,
}

impl<K: Pod> Handle for FlowTable<K> {
    fn open(pins: &PinDir, name: &'static str) -> Result<Self, BpfError> {
        let map = MapData::from_pin(pins.map(name)).map_err(|source| BpfError::Open { map: name, source })?;
        Ok(Self { map, name, key: PhantomData })
    }
}

impl<K: Pod> FlowTable<K> {
    /// A run of records; `from` is where the one before ended. Records that come and go meanwhile are seen or not, the
    /// others once.
    pub(super) fn read(&self, from: Option<u32>) -> Result<Run<K>, BpfError> {
        let mut room = RUN;
        loop {
            let (mut keys, mut records) = (vec![K::zeroed(); room], vec![FlowRecord::zeroed(); room]);
            match sys::lookup_batch(self.map.fd().as_fd(), from, &mut keys, &mut records) {
                Ok(batch) => {
                    let records = keys.into_iter().zip(records).take(batch.entries).collect();
                    return Ok(Run { records, next: batch.next });
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => room *= 2,
                Err(source) => return Err(BpfError::Records { map: self.name, source }),
            }
        }
    }

    /// Inserts a record. Returns false, and changes nothing, if there is one or no room.
    pub(super) fn insert(&self, key: &K, record: &FlowRecord, insert: Insert) -> Result<bool, BpfError> {
        match sys::update(self.map.fd().as_fd(), key, record, insert == Insert::Keep) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::E2BIG)) => Ok(false),
            Err(source) => Err(BpfError::Records { map: self.name, source }),
        }
    }

    /// Deletes the records of these flows.
    pub(super) fn delete(&self, keys: &[K]) -> Result<(), BpfError> {
        sys::delete_batch(self.map.fd().as_fd(), keys).map_err(|source| BpfError::Records { map: self.name, source })
    }

    /// All records, in no order.
    pub(super) fn all(&self) -> Result<Vec<(K, FlowRecord)>, BpfError> {
        let mut records = Vec::new();
        let mut from = None;
        loop {
            let run = self.read(from)?;
            records.extend(run.records);
            match run.next {
                Some(_) => from = run.next,
                None => return Ok(records),
            }
        }
    }
}

impl PinnedMaps {
    /// All flow records of both IP versions, in no order.
    pub(crate) fn flows(&self) -> Result<Vec<(FlowEnds, FlowRecord)>, BpfError> {
        let v4 = self.maps.flows_v4.all()?.into_iter().map(|(key, record)| (key.ends(), record));
        let v6 = self.maps.flows_v6.all()?.into_iter().map(|(key, record)| (key.ends(), record));
        Ok(v4.chain(v6).collect())
    }
}
