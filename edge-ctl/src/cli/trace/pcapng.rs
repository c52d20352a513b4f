//! Captures in pcapng, which Wireshark reads: each frame as it came and as it left, with its fate as its comment.
//!
//! The format is that of draft-ietf-opsawg-pcapng.

#![expect(clippy::cast_possible_truncation, reason = "of the halves of a time, and of a length that was cut off")]

use std::io::{self, Write};

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const ETHERNET: u16 = 1;

/// Option codes; each kind of block has its own from 2 on.
const END: u16 = 0;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const PACKET_ID: u16 = 5;
const VERDICT: u16 = 7;

/// Direction of a frame, and its value in the flags of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    In = 1,
    Out = 2,
}

/// One frame of a capture.
pub(super) struct Captured<'a> {
    pub(super) interface: &'a str,
    pub(super) direction: Direction,
    /// Since 1970, nanoseconds.
    pub(super) time_ns: u64,
    /// The start of the frame.
    pub(super) bytes: &'a [u8],
    /// Length of the whole frame, bytes.
    pub(super) length: u32,
    /// The same for the frame as it came and as it left.
    pub(super) number: u64,
    /// The packet path's verdict (`enum xdp_action`), of a frame that came.
    pub(super) verdict: Option<u64>,
    pub(super) comment: &'a str,
}

/// A capture that is written into `W`.
pub(super) struct Pcapng<W> {
    out: W,
    /// Names of the interfaces that were described, in the order of their numbers.
    interfaces: Vec<String>,
    snap: u32,
}

impl<W: Write> Pcapng<W> {
    /// Begins a capture of frames, of which up to `snap` bytes are kept.
    pub(super) fn begin(mut out: W, snap: u32) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(0x1a2b_3c4d_u32.to_ne_bytes());
        // Version 1.0, and a section of unknown length.
        for word in [1_u16, 0] {
            body.extend(word.to_ne_bytes());
        }
        body.extend((-1_i64).to_ne_bytes());
        option(&mut body, APPLICATION, b"edge-ctl trace");
        option(&mut body, END, &[]);
        block(&mut out, SECTION, &body)?;
        Ok(Self { out, interfaces: Vec::new(), snap })
    }

    pub(super) fn write(&mut self, captured: &Captured<'_>) -> io::Result<()> {
        let Captured { interface, direction, time_ns, bytes, length, number, verdict, comment } = captured;
        let known = self.interfaces.iter().position(|name| name == interface);
        let at = if let Some(at) = known { at } else { self.describe(interface)? };
        let mut body = Vec::new();
        let (high, low) = ((time_ns >> 32) as u32, *time_ns as u32);
        let kept = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        for word in [u32::try_from(at).map_err(io::Error::other)?, high, low, kept, *length] {
            body.extend(word.to_ne_bytes());
        }
        padded(&mut body, bytes);
        option(&mut body, COMMENT, comment.as_bytes());
        option(&mut body, FLAGS, &(*direction as u32).to_ne_bytes());
        option(&mut body, PACKET_ID, &number.to_ne_bytes());
        if let Some(verdict) = verdict {
            // 2: a verdict of XDP.
            option(&mut body, VERDICT, &[&[2], verdict.to_ne_bytes().as_slice()].concat());
        }
        option(&mut body, END, &[]);
        block(&mut self.out, PACKET, &body)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Describes an interface; returns its number.
    fn describe(&mut self, interface: &str) -> io::Result<usize> {
        let mut body = Vec::new();
        for word in [ETHERNET, 0] {
            body.extend(word.to_ne_bytes());
        }
        body.extend(self.snap.to_ne_bytes());
        option(&mut body, NAME, interface.as_bytes());
        // Times are in nanoseconds: 10 to the power of -9.
        option(&mut body, RESOLUTION, &[9]);
        option(&mut body, END, &[]);
        block(&mut self.out, INTERFACE, &body)?;
        self.interfaces.push(interface.to_owned());
        Ok(self.interfaces.len() - 1)
    }
}

/// Writes a block: its length stands at both ends.
fn block(out: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).map_err(io::Error::other)?.to_ne_bytes();
    out.write_all(&[&kind.to_ne_bytes(), &length, body, &length].concat())
}

/// Appends an option; a value that is too long for its length field is cut off.
fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    body.extend(code.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    padded(body, value);
}

/// Appends `value`, and zeros up to a multiple of four bytes.
fn padded(body: &mut Vec<u8>, value: &[u8]) {
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kinds and bodies of the blocks of a capture.
    fn blocks(mut rest: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut blocks = Vec::new();
        while let Some((head, behind)) = rest.split_first_chunk::<8>() {
            let [kind, length] = [0, 4].map(|at| u32::from_ne_bytes(head[at..at + 4].try_into().expect("four bytes")));
            let (body, behind) = behind.split_at(length as usize - 12);
            let (again, behind) = behind.split_at(4);
            assert_eq!(again, length.to_ne_bytes(), "the length stands at both ends");
            assert_eq!(length % 4, 0);
            blocks.push((kind, body.to_vec()));
            rest = behind;
        }
        blocks
    }

    #[test]
    fn an_interface_is_described_once_before_its_first_frame() {
        let mut bytes = Vec::new();
        let mut capture = Pcapng::begin(&mut bytes, 256).expect("written");
        for (interface, direction) in [("eth0", Direction::In), ("eth1", Direction::Out), ("eth0", Direction::In)] {
            let captured = Captured {
                interface,
                direction,
                time_ns: 0x0102_0304_0506_0708,
                bytes: &[0xab; 61],
                length: 1500,
                number: 9,
                verdict: Some(4),
                comment: "web to provider-a/a1",
            };
            capture.write(&captured).expect("written");
        }
        let blocks = blocks(&bytes);
        assert_eq!(blocks.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(), [SECTION, 1, 6, 1, 6, 6]);
        let numbers: Vec<_> = blocks.iter().filter(|(kind, _)| *kind == PACKET).map(|(_, body)| body[0]).collect();
        assert_eq!(numbers, [0, 1, 0]);
        let body = &blocks[2].1;
        let word = |at: usize| u32::from_ne_bytes(body[at..at + 4].try_into().expect("four bytes"));
        assert_eq!([word(4), word(8), word(12), word(16)], [0x0102_0304, 0x0506_0708, 61, 1500]);
        assert_eq!(&body[20..84], [[0xab; 61].as_slice(), &[0; 3]].concat());
    }
}
