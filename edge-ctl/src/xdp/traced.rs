//! The load balancer for traces. While a tracer runs, its program is in the pinned links in place of the daemon's.
//!
//! A tracer has a lock. If it is killed, the kernel releases the lock and empties the array by which packets are traced,
//! so that its program does what the other one does; a daemon, or the next tracer, puts the other one back.

use std::{
    os::fd::{AsFd as _, AsRawFd, RawFd},
    path::Path,
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, MapError, PerCpuArray, ProgramArray, RingBuf},
    programs::{ProgramInfo, Xdp},
};
use aya_obj::programs::XdpAttachType;
use bytemuck::Zeroable as _;
use edge_common::abi::{TraceFilter, TraceState, TracedFrame, map, program};

use super::{
    TRACED_OBJECT, XdpError,
    calls::{self, Calls},
    edge_links, link, sys,
};
use crate::bpf::{self, BpfError, Lock, LockError, PinDir, PinnedMaps};

const FILTER: usize = size_of::<TraceFilter>();
const STATE: usize = size_of::<TraceState>();

/// A tracer's program, which this process attaches; dropped, the other one is back.
pub(crate) struct TracedProgram {
    pins: PinDir,
    program: Xdp,
    /// Kernel ID of the program.
    number: u32,
    /// The program that it stands in for.
    instead_of: Xdp,
    filter: Array<MapData, [u8; FILTER]>,
    state: PerCpuArray<MapData, [u8; STATE]>,
    frames: RingBuf<MapData>,
    /// Without it no packet is handed over to the program that writes frames.
    _traced: ProgramArray<MapData>,
    _calls: Calls,
    _lock: Lock,
}

/// What the tracer's program has counted, on all CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TraceCounts {
    /// Packets that were looked at.
    pub(crate) looked: u64,
    /// Packets that were not, since the bounds of a moment were reached.
    pub(crate) skipped: u64,
    /// Frames for which there was no room.
    pub(crate) lost: u64,
}

impl TracedProgram {
    /// Loads the program onto the pinned maps, which may take seconds. It is attached to nothing yet.
    ///
    /// # Errors
    /// If another process traces, no program is attached that uses these maps, or the kernel refuses the program.
    pub(crate) fn load(maps: &PinnedMaps, filter: &TraceFilter) -> Result<Self, XdpError> {
        let pins = maps.pins();
        let lock = bpf::lock_tracing(pins).map_err(|error| match error {
            LockError::Held { pid } => XdpError::Traced { pid },
            LockError::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => XdpError::NothingToTrace,
            error @ LockError::File { .. } => error.into(),
        })?;
        restore(pins)?;
        let instead_of = pinned(&pins.program())?.ok_or(XdpError::NothingToTrace)?;
        let uses = info(&instead_of)?.map_ids().map_err(unusable)?.unwrap_or_default();
        if !uses.contains(&maps.number()) {
            return Err(XdpError::NothingToTrace);
        }
        bpf::check_object(TRACED_OBJECT, maps.capacity())?;
        let programs = [program::TRACED, program::EDGE];
        let (mut object, called) = calls::load_object(TRACED_OBJECT, &programs, maps.capacity(), || {
            let mut loader = EbpfLoader::new();
            for name in maps.names() {
                loader.map_pin_path(name, pins.map(name));
            }
            loader
        })?;
        let mut traced: ProgramArray<_> = taken(&mut object, program::TRACED_CALLS)?;
        let filters = taken(&mut object, map::TRACE_FILTER)?;
        let state = taken(&mut object, map::TRACE_STATE)?;
        let frames = taken(&mut object, map::TRACE_FRAMES)?;
        let path = pins.traced_program();
        bpf::remove_file(&path)?;
        let loaded = link::program(&mut object, program::EDGE)?;
        loaded.pin(&path).map_err(|source| BpfError::Pin { path: path.clone(), source })?;
        let program = Xdp::from_pin(&path, XdpAttachType::Interface).map_err(unusable)?;
        let number = info(&program)?.id();
        let calls = Calls::pin(called, pins, number)?;
        let writes = link::program(&mut object, program::TRACED)?.fd().map_err(unusable)?;
        traced.set(program::TRACED_AT, writes, 0).map_err(failed(program::TRACED_CALLS))?;
        let mut loaded = Self {
            pins: pins.clone(),
            program,
            number,
            instead_of,
            filter: filters,
            state,
            frames,
            _traced: traced,
            _calls: calls,
            _lock: lock,
        };
        loaded.set_filter(filter)?;
        Ok(loaded)
    }

    /// Sets what is traced from the next packet on. The bounds of a moment apply from the next one on.
    pub(crate) fn set_filter(&mut self, filter: &TraceFilter) -> Result<(), XdpError> {
        self.filter.set(0, bytemuck::cast::<_, [u8; FILTER]>(*filter), 0).map_err(failed(map::TRACE_FILTER))
    }

    /// Attaches the program wherever the one is attached that it stands in for. Returns the interfaces that are traced:
    /// none if that program was replaced meanwhile, or detached.
    pub(crate) fn follow(&mut self) -> Result<Vec<String>, XdpError> {
        let mut traced = Vec::new();
        for pinned in edge_links::all(&self.pins)? {
            let is_there = match link::ends(&pinned.path)? {
                Some(ends) if ends.interface == 0 => false,
                Some(ends) => ends.program == self.number || self.is_put_in(&pinned.path)?,
                None => false,
            };
            if is_there {
                traced.push(pinned.interface);
            }
        }
        Ok(traced)
    }

    fn is_put_in(&self, path: &Path) -> Result<bool, XdpError> {
        let (old, new) = (fd(&self.instead_of)?, fd(&self.program)?);
        Ok(sys::replace_in_link(path, old, new).map_err(|source| BpfError::file(path, source))?)
    }

    /// The next frame that was written, if any.
    pub(crate) fn next(&mut self) -> Option<TracedFrame> {
        let item = self.frames.next()?;
        let mut frame = TracedFrame::zeroed();
        let bytes = item.get(..size_of::<TracedFrame>())?;
        bytemuck::bytes_of_mut(&mut frame).copy_from_slice(bytes);
        Some(frame)
    }

    pub(crate) fn counts(&self) -> Result<TraceCounts, XdpError> {
        let mut total = TraceCounts::default();
        for bytes in self.state.get(&0, 0).map_err(failed(map::TRACE_STATE))?.iter() {
            let state: TraceState = bytemuck::pod_read_unaligned(bytes);
            total.looked += state.looked;
            total.skipped += state.skipped;
            total.lost += state.lost;
        }
        Ok(total)
    }

    /// Puts the other program back in all links.
    pub(crate) fn detach(self) -> Result<(), XdpError> {
        restore(&self.pins)
    }
}

impl AsRawFd for TracedProgram {
    /// Readable when frames were written.
    fn as_raw_fd(&self) -> RawFd {
        self.frames.as_raw_fd()
    }
}

impl Drop for TracedProgram {
    fn drop(&mut self) {
        // A failure is for the daemon, or the next tracer, to put right.
        let _unused = restore(&self.pins);
    }
}

/// Puts the daemon's program back wherever a tracer's is attached, and removes the pins of the latter. The caller has the
/// lock of tracers.
fn restore(pins: &PinDir) -> Result<(), XdpError> {
    let path = pins.traced_program();
    let Some(traced) = pinned(&path)? else { return Ok(()) };
    let number = info(&traced)?.id();
    if let Some(program) = pinned(&pins.program())? {
        for pinned in edge_links::all(pins)? {
            let replaced = sys::replace_in_link(&pinned.path, fd(&traced)?, fd(&program)?);
            replaced.map_err(|source| BpfError::file(&pinned.path, source))?;
        }
    }
    // Without a program to put back, the links keep the tracer's, which then keeps its own array of calls.
    if !edge_links::has_program(pins, number)? {
        bpf::remove_file(&pins.calls().join(number.to_string()))?;
        bpf::remove_file(&path)?;
    }
    Ok(())
}

/// Whether the program with this ID is that of a tracer that runs.
pub(super) fn is_tracers(pins: &PinDir, number: u32) -> Result<bool, XdpError> {
    match pinned(&pins.traced_program())? {
        Some(program) if bpf::is_tracing(pins)? => Ok(info(&program)?.id() == number),
        Some(_) | None => Ok(false),
    }
}

/// Removes the pin of a tracer's program that was killed, once it is attached nowhere.
pub(super) fn forget(pins: &PinDir) -> Result<(), XdpError> {
    let path = pins.traced_program();
    let Some(traced) = pinned(&path)? else { return Ok(()) };
    if !bpf::is_tracing(pins)? && !edge_links::has_program(pins, info(&traced)?.id())? {
        bpf::remove_file(&path)?;
    }
    Ok(())
}

/// The program that is pinned at `path`, if there is one.
fn pinned(path: &Path) -> Result<Option<Xdp>, XdpError> {
    let is_there = path.try_exists().map_err(|source| BpfError::file(path, source))?;
    if is_there { Xdp::from_pin(path, XdpAttachType::Interface).map(Some).map_err(unusable) } else { Ok(None) }
}

fn fd(program: &Xdp) -> Result<std::os::fd::BorrowedFd<'_>, XdpError> {
    Ok(program.fd().map_err(unusable)?.as_fd())
}

fn info(program: &Xdp) -> Result<ProgramInfo, XdpError> {
    program.info().map_err(unusable)
}

fn unusable(source: aya::programs::ProgramError) -> XdpError {
    XdpError::Program { name: program::EDGE, source: Box::new(source) }
}

fn failed(name: &'static str) -> impl FnOnce(MapError) -> XdpError {
    move |source| XdpError::Map { name, source }
}

fn taken<M: TryFrom<aya::maps::Map, Error = MapError>>(object: &mut Ebpf, name: &'static str) -> Result<M, XdpError> {
    let map = object.take_map(name).ok_or(XdpError::NotInObject(name))?;
    M::try_from(map).map_err(failed(name))
}
