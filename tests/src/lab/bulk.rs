//! Bulk data over one connection, in either direction, with a checksum that both sides compute.

use std::{
    io::{self, Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::lab::{netns::Netns, patience::patience, random::Random, worker::Worker};

pub const BULK: u16 = 7007;
const BLOCK: usize = 1 << 16;
const PATIENCE: Duration = Duration::from_secs(20);

/// The direction of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Up,
    Down,
}

/// A running server; stopped on drop.
#[derive(Debug)]
pub struct Bulk(#[expect(dead_code, reason = "ends when it is dropped")] Worker);

impl Bulk {
    /// Listens on every address of `netns`.
    pub fn start(netns: &Netns) -> Result<Self> {
        let listener = netns.within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, BULK)))??;
        listener.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::from(50_u8));
                while let Ok((stream, _)) = listener.accept() {
                    // A client that went away is no reason to stop serving the others.
                    let _ = serve(stream);
                }
            }
            Ok(())
        });
        Ok(Self(Worker::new(stop, thread)))
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    be_patient(&stream)?;
    let mut start = [0; 9];
    stream.read_exact(&mut start)?;
    let [direction, length @ ..] = start;
    let length = u64::from_le_bytes(length);
    let checksum = if direction == b'u' { receive(&mut stream, length)? } else { send(&mut stream, length)? };
    stream.write_all(&checksum.to_le_bytes())
}

/// Moves `length` bytes between the calling thread's namespace and `service`; returns the common checksum.
///
/// # Errors
/// If the transfer stalls, or the checksums differ.
pub fn exchange(service: SocketAddr, direction: Direction, length: u64) -> io::Result<u64> {
    let mut stream = TcpStream::connect_timeout(&service, patience(PATIENCE))?;
    be_patient(&stream)?;
    stream.write_all(if direction == Direction::Up { b"u" } else { b"d" })?;
    stream.write_all(&length.to_le_bytes())?;
    let own = if direction == Direction::Up { send(&mut stream, length)? } else { receive(&mut stream, length)? };
    let mut theirs = [0; 8];
    stream.read_exact(&mut theirs)?;
    if u64::from_le_bytes(theirs) == own { Ok(own) } else { Err(io::Error::other("the checksums differ")) }
}

fn be_patient(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    stream.set_write_timeout(Some(patience(PATIENCE)))
}

/// Sends blocks that differ in their first bytes; returns the checksum.
fn send(to: &mut impl Write, length: u64) -> io::Result<u64> {
    let mut random = Random::new(length);
    let mut block: Vec<u8> = (0..BLOCK / 8).flat_map(|_| random.long().to_le_bytes()).collect();
    let (mut left, mut sum) = (length, 0);
    while left > 0 {
        block[..8].copy_from_slice(&left.to_le_bytes());
        let part = &block[..usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK))];
        to.write_all(part)?;
        sum = add(sum, part);
        left -= part.len() as u64;
    }
    Ok(sum)
}

fn receive(from: &mut impl Read, length: u64) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let (mut left, mut sum) = (length, 0);
    while left > 0 {
        let part = &mut block[..usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK))];
        from.read_exact(part)?;
        sum = add(sum, part);
        left -= part.len() as u64;
    }
    Ok(sum)
}

/// Extends a checksum that depends on the value and the position of each word.
fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks();
    let rest = rest.iter().map(|byte| u64::from(*byte));
    words
        .iter()
        .map(|word| u64::from_le_bytes(*word))
        .chain(rest)
        .fold(sum, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_compute_the_same_and_a_changed_byte_something_else() {
        for length in [0, 1, 8, 65_535, 65_536, 200_001] {
            let mut sent = Vec::new();
            let sum = send(&mut sent, length).unwrap();
            assert_eq!(sent.len() as u64, length);
            assert_eq!(receive(&mut &sent[..], length).unwrap(), sum);
            if let Some(last) = sent.last_mut() {
                *last ^= 1;
                assert_ne!(receive(&mut &sent[..], length).unwrap(), sum, "{length}");
            }
        }
    }
}
