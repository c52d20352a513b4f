//! The program that the load balancer's hands packets over to. It stands in a map of programs, which the kernel empties with the
//! map's last pin or descriptor: so the map is pinned for as long as the load balancer's program is attached.

use std::{fs, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, ProgramArray},
};
use edge_common::abi::program;

use super::{OBJECT, XdpError, edge_links, link};
use crate::{
    bpf::{self, BpfError, PinDir, found},
    plan::Capacity,
};

/// A load that signals interrupt is tried so often: a process that is stopped or traced has one after the other.
const TRIES: u32 = 100;

/// Loads the programs of an object for maps of this capacity, without the verifier's log at first: with a log a load takes ten seconds
/// and more. Only a refusal is worth that, for its reason. One that a signal has interrupted is none, and is tried again; aya itself
/// does that once.
pub(super) fn load<'a>(
    capacity: &Capacity,
    loader: impl Fn() -> EbpfLoader<'a>,
) -> Result<(Ebpf, ProgramArray<MapData>), XdpError> {
    let load = |level| {
        let mut object = loader().verifier_log_level(level).load(OBJECT).map_err(XdpError::not_loaded)?;
        let failed = |source| XdpError::Map { name: program::CALLS, source };
        let map = object.take_map(program::CALLS).ok_or(XdpError::NotInObject(program::CALLS))?;
        let mut calls = ProgramArray::try_from(map).map_err(failed)?;
        // It takes as long to verify as the load balancer's own. Without it the map is empty, and nothing is handed over.
        if capacity.translates() {
            let nat = link::load(&mut object, program::NAT)?;
            let unusable = |source| XdpError::Program { name: program::NAT, source: Box::new(source) };
            calls.set(program::NAT_AT, nat.fd().map_err(unusable)?, 0).map_err(failed)?;
        }
        link::load(&mut object, program::EDGE)?;
        Ok((object, calls))
    };
    for _ in 1..TRIES {
        match load(VerifierLogLevel::STATS) {
            Err(error) if error.is_interrupted() => {}
            Err(XdpError::Program { .. }) => return load(VerifierLogLevel::default()),
            loaded => return loaded,
        }
    }
    load(VerifierLogLevel::STATS)
}

/// The pinned map of the load balancer's program of one number, which this process holds, too.
pub(super) struct Calls {
    map: MapData,
    path: PathBuf,
}

impl Calls {
    /// Pins it for the program of this number.
    pub(super) fn pin(calls: ProgramArray<MapData>, pins: &PinDir, number: u32) -> Result<Self, XdpError> {
        bpf::make_dir(&pins.calls())?;
        let path = pins.calls().join(number.to_string());
        bpf::remove_file(&path)?;
        calls.pin(&path).map_err(|source| BpfError::Pin { path: path.clone(), source })?;
        let map = MapData::from_pin(&path).map_err(|source| XdpError::Map { name: program::CALLS, source })?;
        Ok(Self { map, path })
    }

    /// Pins it again, if somebody has removed the pin.
    pub(super) fn keep(&self) -> Result<(), XdpError> {
        let exists = self.path.try_exists().map_err(|source| BpfError::file(&self.path, source))?;
        if exists {
            return Ok(());
        }
        if let Some(directory) = self.path.parent() {
            bpf::make_dir(directory)?;
        }
        Ok(self.map.pin(&self.path).map_err(|source| BpfError::Pin { path: self.path.clone(), source })?)
    }
}

/// Forgets the maps of programs that are not attached any more; the one of `number` stays.
pub(super) fn forget(pins: &PinDir, number: u32) -> Result<(), XdpError> {
    let mut used = vec![number];
    for pinned in edge_links::all(pins)? {
        used.extend(link::program_id(&pinned.path)?);
    }
    let directory = pins.calls();
    let failed = |source| BpfError::file(&directory, source);
    for entry in found(fs::read_dir(&directory)).map_err(failed)?.into_iter().flatten() {
        let entry = entry.map_err(failed)?;
        let of = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if of.is_some_and(|of| !used.contains(&of)) {
            bpf::remove_file(&entry.path())?;
        }
    }
    Ok(())
}
