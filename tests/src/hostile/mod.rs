//! Hostile frames, and the rules that the programs must keep for any frame.

pub mod generate;
pub mod oracle;
pub mod sequence;
pub mod seeds;

use crate::{both::Program, kernel::Arrival};

/// A frame to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    pub program: Program,
    pub arrival: Arrival,
    pub frame: Vec<u8>,
}
