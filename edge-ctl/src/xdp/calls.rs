//! The program that the load balancer's program hands packets over to. It is an entry of a program array, which the
//! kernel empties when the map's last pin or descriptor goes: so the map stays pinned for as long as the load balancer's
//! program is attached.

use std::{fs, path::PathBuf};

use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, ProgramArray},
};
use edge_common::abi::program;

use super::{OBJECT, XdpError, edge_links, link};
use crate::{
    bpf::{self, BpfError, PinDir, if_present},
    plan::Capacity,
};

/// Attempts to load a program when signals interrupt it: a process that is stopped or traced gets one signal after the
/// other.
const TRIES: u32 = 100;

/// An object whose programs are loaded, and its program array.
pub(super) type Loaded = (Ebpf, ProgramArray<MapData>);

/// Loads the programs of an object for maps of this capacity, at first without the verifier's log, since a load with a
/// log takes ten seconds and more. Only a refusal is worth a second load, to get its reason. A load that was interrupted
/// by a signal is no refusal, and is repeated; aya itself does so once.
pub(super) fn load<'a>(capacity: &Capacity, loader: impl Fn() -> EbpfLoader<'a>) -> Result<Loaded, XdpError> {
    load_object(OBJECT, &[program::EDGE], capacity, loader)
}

/// As [`load`], for `programs` of another object.
pub(super) fn load_object<'a>(
    bytes: &[u8],
    programs: &[&'static str],
    capacity: &Capacity,
    loader: impl Fn() -> EbpfLoader<'a>,
) -> Result<Loaded, XdpError> {
    let load = |level| {
        let mut object = loader().verifier_log_level(level).load(bytes).map_err(XdpError::not_loaded)?;
        let failed = |source| XdpError::Map { name: program::CALLS, source };
        let map = object.take_map(program::CALLS).ok_or(XdpError::NotInObject(program::CALLS))?;
        let mut calls = ProgramArray::try_from(map).map_err(failed)?;
        // It takes as long to verify as the load balancer's own program. Without it the map stays empty, and no packet
        // is handed over.
        if capacity.translates() {
            let nat = link::load(&mut object, program::NAT)?;
            let unusable = |source| XdpError::Program { name: program::NAT, source: Box::new(source) };
            calls.set(program::NAT_AT, nat.fd().map_err(unusable)?, 0).map_err(failed)?;
        }
        for name in programs {
            link::load(&mut object, name)?;
        }
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

/// The pinned program array of the load balancer's program with one ID. This process holds a descriptor of it, too.
pub(super) struct Calls {
    map: MapData,
    path: PathBuf,
}

impl Calls {
    /// Pins the map for the program with this ID, in a directory that exists.
    pub(super) fn pin(calls: ProgramArray<MapData>, pins: &PinDir, number: u32) -> Result<Self, XdpError> {
        let path = pins.calls().join(number.to_string());
        bpf::remove_file(&path)?;
        calls.pin(&path).map_err(|source| BpfError::Pin { path: path.clone(), source })?;
        let map = MapData::from_pin(&path).map_err(|source| XdpError::Map { name: program::CALLS, source })?;
        Ok(Self { map, path })
    }

    /// Restores the pin if it was removed.
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

/// Removes the pinned maps of programs that are no longer attached, except for that of `number`.
pub(super) fn forget(pins: &PinDir, number: u32) -> Result<(), XdpError> {
    let mut used = vec![number];
    for pinned in edge_links::all(pins)? {
        used.extend(link::program_id(&pinned.path)?);
    }
    let directory = pins.calls();
    let failed = |source| BpfError::file(&directory, source);
    for entry in if_present(fs::read_dir(&directory)).map_err(failed)?.into_iter().flatten() {
        let entry = entry.map_err(failed)?;
        let of = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if of.is_some_and(|of| !used.contains(&of)) {
            bpf::remove_file(&entry.path())?;
        }
    }
    Ok(())
}
