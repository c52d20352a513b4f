//! A second instance of the load balancer's program, for rehearsals: over the same tables, but with its own published
//! generation, backends, counters and flow records. It is not attached, and changes nothing that packets see.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
};

use aya::{
    EbpfLoader,
    maps::{Map, MapData, MapError, PerCpuArray},
    programs::ProgramInfo,
};
use bytemuck::Pod;
use edge_common::abi::{
    Backend, Exit, FlowBucket, FlowEntry, FlowHead, NAT_HOPS, NatHead, NatHop, Published, Timeouts, Verdict, map,
    program,
};

use super::{
    OBJECT, XdpError,
    calls::{self, Loaded},
    features, link,
};
use crate::bpf::{self, BpfError, Mapped, PinnedMaps, REHEARSED_FLOWS};

/// Maps that are shared with the attached program: those that a publication writes, and the owners, which the rehearsal
/// writes only if there is no room for a flow record.
const SHARED: [&str; 6] =
    [map::SERVICE_INDEX_V4, map::SERVICE_INDEX_V6, map::SERVICES, map::POOLS, map::CANDIDATES, map::SLOTS];

/// Own maps that are written or read from user space.
const OWN: [&str; 10] = [
    map::PUBLISHED,
    map::BACKENDS,
    map::FLOW_HEAD,
    map::FLOW_INDEX,
    map::FLOWS,
    map::NAT_HEAD,
    map::NAT_INDEX,
    map::NAT_FLOWS,
    map::NAT_HOPS,
    map::EXITS,
];

/// Buckets of the rehearsal's flow table.
const BUCKETS: u32 = REHEARSED_FLOWS / 8;

/// `enum xdp_action`.
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;

/// The loaded program and its own maps. All are pinned, so that the verifier runs only once.
pub(crate) struct Rehearsal {
    program: OwnedFd,
    /// Kernel ID that identifies the maps whose tables the program reads.
    tables: u32,
    published: Mapped<Published>,
    backends: Mapped<Backend>,
    flow_index: Mapped<FlowBucket>,
    flows: Mapped<FlowEntry>,
    nat_head: Mapped<NatHead>,
    nat_index: Mapped<FlowBucket>,
    nat_flows: Mapped<FlowEntry>,
    nat_hops: Mapped<NatHop>,
    exits: PerCpuArray<MapData, u64>,
    /// Previous packet counts by exit.
    counted: Vec<u64>,
}

/// Outcome of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    /// Whether the program returned the verdict of its exit to the kernel.
    pub(crate) kept_its_word: bool,
    pub(crate) frame: Vec<u8>,
}

impl Rehearsal {
    /// The program over these maps: the pinned one if it is of this version and over these maps, otherwise a new one.
    ///
    /// # Errors
    /// If the kernel refuses to load or to run it.
    pub(crate) fn load(maps: &PinnedMaps) -> Result<Self, XdpError> {
        let directory = maps.pins().rehearsal().join(format!("{:08x}", crc32fast::hash(OBJECT)));
        let is_of_these = |info: ProgramInfo| Ok(info.map_ids()?.is_some_and(|ids| ids.contains(&maps.number())));
        let pinned = ProgramInfo::from_pin(directory.join(program::EDGE)).and_then(is_of_these);
        // If the pinned program can't be examined, a new one replaces it.
        if !pinned.unwrap_or(false) {
            pin(&directory, verified(maps)?)?;
        }
        let open = |name| MapData::from_pin(directory.join(name)).map_err(|source| XdpError::Map { name, source });
        let program = directory.join(program::EDGE);
        let mut rehearsal = Self {
            program: bpf::sys::open_pin(&program).map_err(|source| BpfError::file(&program, source))?,
            tables: maps.number(),
            published: mapped(&open(map::PUBLISHED)?, map::PUBLISHED, 1)?,
            backends: mapped(&open(map::BACKENDS)?, map::BACKENDS, maps.capacity().backends)?,
            flow_index: mapped(&open(map::FLOW_INDEX)?, map::FLOW_INDEX, BUCKETS)?,
            flows: mapped(&open(map::FLOWS)?, map::FLOWS, REHEARSED_FLOWS)?,
            nat_head: mapped(&open(map::NAT_HEAD)?, map::NAT_HEAD, 1)?,
            nat_index: mapped(&open(map::NAT_INDEX)?, map::NAT_INDEX, BUCKETS)?,
            nat_flows: mapped(&open(map::NAT_FLOWS)?, map::NAT_FLOWS, REHEARSED_FLOWS)?,
            nat_hops: mapped(&open(map::NAT_HOPS)?, map::NAT_HOPS, NAT_HOPS)?,
            exits: taken(Map::PerCpuArray(open(map::EXITS)?), map::EXITS)?,
            counted: Vec::new(),
        };
        let head = FlowHead { timeouts: Timeouts::STANDARD, mask: REHEARSED_FLOWS - 1, reserved: 0 };
        let heads = mapped(&open(map::FLOW_HEAD)?, map::FLOW_HEAD, 1)?;
        heads.write(0, head).ok_or(BpfError::OutOfRange { map: map::FLOW_HEAD, index: 0 })?;
        // A short frame without a destination.
        rehearsal.verdict(&[0; 64], &mut Vec::new()).map_err(XdpError::NoTestRun)?;
        let counts: Result<_, _> = Exit::ALL.iter().map(|exit| rehearsal.count(*exit)).collect();
        rehearsal.counted = counts.map_err(|source| XdpError::Map { name: map::EXITS, source })?;
        Ok(rehearsal)
    }

    /// Whether the program reads the tables of these maps.
    pub(crate) fn is_of(&self, maps: &PinnedMaps) -> bool {
        self.tables == maps.number()
    }

    /// Sets the published generation and the backends for the following runs, and clears all flows.
    pub(crate) fn publish(
        &mut self,
        published: &Published,
        backends: &[Backend],
        nat: &NatHead,
    ) -> Result<(), XdpError> {
        let out_of = |map| BpfError::OutOfRange { map, index: 0 };
        self.published.write(0, *published).ok_or(out_of(map::PUBLISHED))?;
        self.backends.write_run(0, backends).ok_or(out_of(map::BACKENDS))?;
        self.nat_head.write(0, *nat).ok_or(out_of(map::NAT_HEAD))?;
        self.forget()
    }

    /// Clears all flows.
    pub(crate) fn forget(&mut self) -> Result<(), XdpError> {
        let out_of = |map| BpfError::OutOfRange { map, index: 0 };
        self.flow_index.write_run(0, &vec![FlowBucket::default(); BUCKETS as usize]).ok_or(out_of(map::FLOW_INDEX))?;
        self.flows.write_run(0, &vec![FlowEntry::default(); REHEARSED_FLOWS as usize]).ok_or(out_of(map::FLOWS))?;
        self.nat_index.write_run(0, &vec![FlowBucket::default(); BUCKETS as usize]).ok_or(out_of(map::NAT_INDEX))?;
        self.nat_flows
            .write_run(0, &vec![FlowEntry::default(); REHEARSED_FLOWS as usize])
            .ok_or(out_of(map::NAT_FLOWS))?;
        self.nat_hops.write_run(0, &[NatHop::default(); NAT_HOPS as usize]).ok_or(out_of(map::NAT_HOPS))?;
        Ok(())
    }

    /// Runs the program on a frame, which is likely to leave by the exit `guess`.
    ///
    /// # Errors
    /// If the kernel returns no verdict, or no exit has counted the packet.
    pub(crate) fn run(&mut self, frame: &[u8], guess: Exit) -> io::Result<Ran> {
        let mut out = Vec::new();
        let verdict = self.verdict(frame, &mut out)?;
        let mut likely_first = std::iter::once(guess).chain(Exit::ALL.iter().copied());
        let exit = loop {
            let exit = likely_first.next().ok_or_else(|| io::Error::other("no exit has counted the packet"))?;
            let count = self.count(exit).map_err(io::Error::other)?;
            let counted = self.counted.get_mut(exit as usize);
            if counted.is_some_and(|counted| std::mem::replace(counted, count) != count) {
                break exit;
            }
        };
        let promised = match exit.verdict() {
            Verdict::Pass => PASS,
            Verdict::Drop => DROP,
            Verdict::Tx => TX,
            Verdict::Redirect => REDIRECT,
        };
        Ok(Ran { exit, kept_its_word: verdict == promised, frame: out })
    }

    fn verdict(&self, frame: &[u8], out: &mut Vec<u8>) -> io::Result<u32> {
        bpf::sys::test_run(self.program.as_fd(), frame, out)
    }

    fn count(&self, exit: Exit) -> Result<u64, MapError> {
        Ok(self.exits.get(&(exit as u32), 0)?.iter().sum())
    }
}

/// Makes the directory of the rehearsals' pins, and loads the program, which may take seconds.
pub(super) fn verified(maps: &PinnedMaps) -> Result<Loaded, XdpError> {
    features::check_kernel()?;
    bpf::check_object(OBJECT, maps.capacity())?;
    // The loader would make and pin a map whose pin is missing.
    maps.check_pins()?;
    bpf::make_dir(&maps.pins().rehearsal())?;
    calls::load(maps.capacity(), || {
        let mut loader = EbpfLoader::new();
        for name in SHARED {
            loader.map_pin_path(name, maps.pins().map(name));
        }
        loader.map_max_entries(map::FLOW_INDEX, BUCKETS).map_max_entries(map::FLOWS, REHEARSED_FLOWS);
        loader.map_max_entries(map::NAT_INDEX, BUCKETS).map_max_entries(map::NAT_FLOWS, REHEARSED_FLOWS);
        loader.map_max_entries(map::NAT_HOPS, NAT_HOPS);
        loader.map_max_entries(map::BACKENDS, maps.capacity().backends);
        loader
    })
}

/// Pins a loaded program with its own maps in `directory`; any other pinned rehearsal is removed.
///
/// # Errors
/// If everything was taken down during the load: no pin is made then.
pub(super) fn pin(directory: &Path, (mut object, called): Loaded) -> Result<(), XdpError> {
    // A process that is killed in between leaves a directory without a program.
    bpf::make_only_dir(directory)?;
    let path = directory.join(program::CALLS);
    called.pin(&path).map_err(|source| BpfError::Pin { path, source })?;
    for name in OWN {
        let path = directory.join(name);
        let map = object.map(name).ok_or(XdpError::NotInObject(name))?;
        map.pin(&path).map_err(|source| BpfError::Pin { path, source })?;
    }
    let path = directory.join(program::EDGE);
    Ok(link::program(&mut object, program::EDGE)?.pin(&path).map_err(|source| BpfError::Pin { path, source })?)
}

fn mapped<T: Pod>(data: &MapData, map: &'static str, entries: u32) -> Result<Mapped<T>, XdpError> {
    Ok(Mapped::new(data.fd().as_fd(), entries).map_err(|source| BpfError::Mmap { map, source })?)
}

fn taken<M: TryFrom<Map, Error = MapError>>(map: Map, name: &'static str) -> Result<M, XdpError> {
    M::try_from(map).map_err(|source| XdpError::Map { name, source })
}
