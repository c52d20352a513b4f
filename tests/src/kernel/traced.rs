//! The object for traces: the load balancer by which each packet is traced.

use std::cell::RefCell;

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, MapData, ProgramArray, RingBuf},
    programs::Xdp,
};
use edge_common::abi::{TraceFilter, TracedFrame, map, program};

use super::{Kernel, Sizes};

/// What a tracer holds.
pub struct Tracer {
    frames: RefCell<RingBuf<MapData>>,
    filter: RefCell<Array<MapData, [u8; size_of::<TraceFilter>()]>>,
    /// Without it no packet is traced.
    traced: RefCell<ProgramArray<MapData>>,
}

impl Tracer {
    /// Lets a loaded object trace every packet.
    fn of(object: &mut Ebpf) -> Self {
        let take = |object: &mut Ebpf, name| object.take_map(name).expect("a map of the object");
        let mut traced = ProgramArray::try_from(take(object, program::TRACED_CALLS)).expect("an array of programs");
        let xdp: &mut Xdp = object.program_mut(program::TRACED).expect("a program").try_into().expect("an XDP program");
        traced.set(program::TRACED_AT, xdp.fd().expect("it is loaded"), 0).expect("room for it");
        let tracer = Self {
            frames: RefCell::new(RingBuf::try_from(take(object, map::TRACE_FRAMES)).expect("a ring buffer")),
            filter: RefCell::new(Array::try_from(take(object, map::TRACE_FILTER)).expect("an array")),
            traced: RefCell::new(traced),
        };
        tracer.filter(&TraceFilter::everything(1, u32::MAX, u32::MAX));
        tracer
    }

    /// Sets what is traced.
    pub fn filter(&self, filter: &TraceFilter) {
        self.filter
            .borrow_mut()
            .set(0, bytemuck::cast::<_, [u8; size_of::<TraceFilter>()]>(*filter), 0)
            .expect("a filter");
    }

    /// The frames that were written since the last call.
    pub fn frames(&self) -> Vec<TracedFrame> {
        let mut frames = self.frames.borrow_mut();
        std::iter::from_fn(|| {
            let item = frames.next()?;
            Some(bytemuck::pod_read_unaligned(&item[..size_of::<TracedFrame>()]))
        })
        .collect()
    }

    /// Does what the kernel does when a tracer ends.
    pub fn end(&self) {
        self.traced.borrow_mut().clear_index(&program::TRACED_AT).expect("it is there");
    }
}

impl Kernel {
    /// As [`Kernel::load`], with the object for traces, by which each packet is traced.
    ///
    /// # Panics
    /// As [`Kernel::load`].
    pub fn load_traced(sizes: &Sizes) -> Self {
        let path = crate::workspace().join("target/bpf/traced");
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut loader = EbpfLoader::new();
        Self::load_with(&mut loader, &bytes, &[program::TRACED], sizes, |object| Some(Tracer::of(object)))
    }

    /// The tracer of an object that was loaded by [`Self::load_traced`].
    ///
    /// # Panics
    /// If it was not.
    pub fn tracer(&self) -> &Tracer {
        self.tracer.as_ref().expect("the object is that for traces")
    }
}
