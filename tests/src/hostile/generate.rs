//! Generates hostile frames: noise, and changed copies of valid frames.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::Try;
use crate::{
    both::Program,
    cases::Case,
    kernel::{LONGEST, SHORT_METADATA},
};

/// Byte values at which header parsers branch: lengths, protocol numbers, flags, and the ends of ranges.
const NASTY: [u8; 24] =
    [0, 1, 2, 4, 6, 8, 17, 20, 41, 43, 44, 50, 51, 58, 60, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0x81, 0xa8, 0xfe, 0xff];

/// Generates a hostile frame. Every random choice comes from `random`.
pub fn frame(cases: &[Case], random: &mut StdRng) -> Try {
    let case = cases.choose(random).expect("there are cases");
    let mut frame = case.frame.clone();
    match random.random_range(0..10) {
        0 => noise(&mut frame, 0, random),
        1 => {
            // Noise behind a link layer that is accepted.
            let start = [14, 18, 22, 34, 54][random.random_range(0..5)];
            noise(&mut frame, start, random);
        }
        2 => splice(&mut frame, &cases.choose(random).expect("there are cases").frame, random),
        3 => fragment(&mut frame, random),
        _ => {}
    }
    for _ in 0..random.random_range(0..5) {
        change(&mut frame, random);
    }
    if random.random_ratio(1, 8) {
        let length = random.random_range(0..=frame.len());
        frame.truncate(length);
    }
    if random.random_ratio(1, 16) {
        frame.resize((frame.len() + random.random_range(0..200)).min(LONGEST), random.random());
    }
    let mut arrival = case.arrival;
    if random.random_ratio(1, 16) {
        // There are 216 bytes of room.
        arrival.metadata = 4 * random.random_range(0..=50);
        if !arrival.needs().iter().all(|feature| feature.is_there()) {
            arrival.metadata = SHORT_METADATA;
        }
    }
    let program = if random.random_ratio(1, 20) { other(case.exit.program()) } else { case.exit.program() };
    Try { program, arrival, frame }
}

fn other(program: Program) -> Program {
    match program {
        Program::Edge => Program::Decap,
        Program::Decap => Program::Edge,
    }
}

fn noise(frame: &mut Vec<u8>, from: usize, random: &mut StdRng) {
    frame.resize(random.random_range(from.max(14)..300), 0);
    random.fill(&mut frame[from..]);
}

/// Replaces the frame's end by the end of another frame.
fn splice(frame: &mut Vec<u8>, other: &[u8], random: &mut StdRng) {
    let (keep, from) = (random.random_range(0..=frame.len()), random.random_range(0..=other.len()));
    frame.truncate(keep);
    frame.extend(&other[from..]);
    frame.truncate(LONGEST);
}

/// Turns an untagged IP frame into a fragment of one of a few packets.
fn fragment(frame: &mut Vec<u8>, random: &mut StdRng) {
    let id = random.random_range(0..4u8);
    let offset = if random.random() { 0 } else { random.random_range(0..8u16) * 8 };
    let more = u16::from(random.random_ratio(3, 4));
    match frame.get(12..14) {
        Some([0x08, 0x00]) if frame.len() >= 34 => {
            frame[18..20].copy_from_slice(&[0, id]);
            frame[20..22].copy_from_slice(&(offset >> 3 | more << 13).to_be_bytes());
        }
        Some([0x86, 0xdd]) if frame.len() >= 54 => {
            let [high, low] = (offset | more).to_be_bytes();
            let header = [frame[20], 0, high, low, 0, 0, 0, id];
            frame.splice(54..54, header);
            frame[20] = 44;
            let length = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add(8);
            frame[18..20].copy_from_slice(&length.to_be_bytes());
        }
        _ => {}
    }
}

/// Makes one change to the frame, most likely in its headers.
pub fn change(frame: &mut Vec<u8>, random: &mut StdRng) {
    if frame.is_empty() {
        return;
    }
    let headers = if random.random_ratio(7, 8) { frame.len().min(100) } else { frame.len() };
    let at = random.random_range(0..headers);
    match random.random_range(0..6) {
        0 => frame[at] = random.random(),
        1 => frame[at] ^= 1 << random.random_range(0..8),
        2 => frame[at] = *NASTY.choose(random).expect("some bytes"),
        3 => frame[at] = frame[at].wrapping_add(if random.random() { 1 } else { 255 }),
        4 => frame.insert(at, random.random()),
        _ => drop(frame.remove(at)),
    }
}
