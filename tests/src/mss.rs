//! Runs the real program that lowers the maximum segment size, on one frame at a time.

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, PerCpuArray},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use edge_common::{
    abi::{MssExit, map, program},
    host::Memory,
};

use crate::{decap, kernel};

/// The loaded object, with the VIPs and limits of a [`Memory`].
pub struct MssProgram {
    object: Ebpf,
}

impl MssProgram {
    /// # Panics
    /// If the object does not exist, the verifier rejects it, or the test does not run as root.
    pub fn load(memory: &Memory) -> Self {
        let mut object = EbpfLoader::new().load(&kernel::object()).expect("the object loads");
        let tc = object.program_mut(program::MSS).expect("a program of the object");
        <&mut SchedClassifier>::try_from(tc).expect("a tc program").load().expect("the kernel takes it");
        decap::fill(&mut object, memory);
        let mut program = Self { object };
        program.set_limits(memory);
        program
    }

    /// Replaces the program's limits by those of `memory`.
    ///
    /// # Panics
    /// If the object lacks the map of limits.
    pub fn set_limits(&mut self, memory: &Memory) {
        let limits = self.object.map_mut(map::MSS_LIMITS).expect("MSS_LIMITS");
        let mut limits: Array<_, [u32; 2]> = Array::try_from(limits).expect("an array");
        limits.set(0, [memory.mss_limits.v4, memory.mss_limits.v6], 0).expect("one entry");
    }

    /// Runs the program on a frame; returns the resulting frame.
    ///
    /// # Panics
    /// If the program decides about the frame instead of leaving the verdict to later programs.
    pub fn run(&self, frame: &[u8]) -> Vec<u8> {
        let mut out = vec![0; frame.len() + 64];
        let options = TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let tc = self.object.program(program::MSS).expect("a program of the object");
        let result = <&SchedClassifier>::try_from(tc).expect("a tc program").test_run(options).expect("a test run");
        assert_eq!(result.return_value.cast_signed(), -1, "it decides nothing");
        out.truncate(result.data_size_out as usize);
        out
    }

    /// Packets by exit, in the exits' order.
    ///
    /// # Panics
    /// If the object lacks the map of exits.
    pub fn exits(&self) -> Vec<u64> {
        let exits = self.object.map(map::MSS_EXITS).expect("MSS_EXITS");
        let exits: PerCpuArray<_, u64> = PerCpuArray::try_from(exits).expect("an array per CPU");
        (0..MssExit::COUNT).map(|exit| exits.get(&exit, 0).expect("a counter").iter().sum()).collect()
    }
}
