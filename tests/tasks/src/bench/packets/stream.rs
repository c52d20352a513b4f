//! Streams of packets, the programs that receive them, and the expected results.

use anyhow::{Context as _, Result};
use edge_bench_ebpf::place;
use edge_tests::both::ProgramExit;

use super::frames::Frame;

/// A stream of packets.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    pub(super) frame: Frame,
    /// Number of flows, a power of two.
    pub(super) flows: u32,
    pub(super) services: u32,
    /// Whether the program rewrites more of the frame than forwarding does.
    pub(super) rewritten: bool,
    /// Whether the flows' addresses and ports are in a list.
    pub(super) listed: bool,
}

/// A program that the driver tail-calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measured {
    /// Returns immediately.
    Return,
    /// Moves the head by 20 bytes, and sends the frame back.
    Head,
    /// Cuts this many bytes off, and sends the frame back.
    Tail(u32),
    /// Makes this many reads of two arrays, and sends the frame back.
    Reads(u32),
    /// Translates by hash maps.
    Hashed,
    /// One of the project's programs.
    Ours(Leaving),
}

/// How each packet must leave one of the project's programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    pub(super) exit: ProgramExit,
    /// Bytes by which the frame becomes longer at its head.
    pub(super) moved: i32,
    /// Bytes that are cut off at the frame's end.
    pub(super) cut: u32,
}

impl Measured {
    pub(super) const fn place(self) -> u32 {
        match self {
            Self::Return => place::RETURN,
            Self::Head => place::HEAD,
            Self::Tail(_) => place::TAIL,
            Self::Reads(_) => place::READS,
            Self::Hashed => place::HASHED,
            Self::Ours(Leaving { exit: ProgramExit::Edge(_), .. }) => place::EDGE,
            Self::Ours(Leaving { exit: ProgramExit::Decap(_), .. }) => place::DECAP,
        }
    }

    pub(super) const fn moved(self) -> i32 {
        match self {
            Self::Return | Self::Tail(_) | Self::Reads(_) | Self::Hashed => 0,
            Self::Head => 20,
            Self::Ours(Leaving { moved, .. }) => moved,
        }
    }

    pub(super) const fn cut(self) -> u32 {
        match self {
            Self::Return | Self::Head | Self::Reads(_) | Self::Hashed => 0,
            Self::Tail(cut) | Self::Ours(Leaving { cut, .. }) => cut,
        }
    }

    /// Number of reads that `bench_reads` makes.
    pub(super) const fn reads(self) -> u32 {
        match self {
            Self::Reads(reads) => reads,
            Self::Return | Self::Head | Self::Tail(_) | Self::Hashed | Self::Ours(_) => 0,
        }
    }

    /// Length of a frame of `stream` after it has left, bytes.
    pub(super) fn length_after(self, stream: &Stream) -> Result<u32> {
        let length = u32::try_from(stream.frame.bytes.len())?.checked_add_signed(self.moved());
        length.and_then(|length| length.checked_sub(self.cut())).context("no frame left")
    }
}
