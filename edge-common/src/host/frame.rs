//! A frame in a byte vector.

use core::marker::PhantomData;

use crate::{
    decap::mss::Egress,
    wire::{
        checksum,
        packet::{Packet, Places, Wire},
    },
};

/// Room before a frame that a program can use, bytes: `XDP_PACKET_HEADROOM`, less the `struct xdp_frame` that the kernel
/// keeps at its start.
const HEADROOM: usize = 256 - 40;

/// Minimum length of a frame in bytes (`ETH_HLEN`).
const SHORTEST: usize = 14;

/// A frame in a byte vector, with as much room before it as the kernel provides.
#[derive(Clone, Debug)]
pub struct Frame {
    buffer: Vec<u8>,
    start: usize,
    ingress: u32,
}

impl Frame {
    /// A frame of `bytes`, received by interface 1.
    pub fn new(bytes: &[u8]) -> Self {
        Self::with_headroom(bytes, HEADROOM)
    }

    /// A frame like that of [`Self::new`], with `headroom` bytes of room before it.
    pub fn with_headroom(bytes: &[u8], headroom: usize) -> Self {
        let mut buffer = vec![0; headroom];
        buffer.extend_from_slice(bytes);
        Self { buffer, start: headroom, ingress: 1 }
    }

    /// The same frame, received by interface `index`.
    #[must_use]
    pub fn from_interface(self, index: u32) -> Self {
        Self { ingress: index, ..self }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }
}

/// A checked place in a frame.
#[derive(Debug)]
pub struct Place<T> {
    /// Offset from the frame's start.
    offset: usize,
    of: PhantomData<T>,
}

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<T> {}

impl<T> Place<T> {
    const fn new(offset: usize) -> Self {
        Self { offset, of: PhantomData }
    }
}

impl Packet for Frame {
    fn len(&self) -> usize {
        self.bytes().len()
    }

    fn ingress(&self) -> u32 {
        self.ingress
    }

    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        const { assert!(align_of::<T>() == 1) };
        let bytes = self.bytes().get(offset..)?.get(..size_of::<T>())?;
        // SAFETY: `bytes` is as long as a `T`, which has no alignment, and every bit pattern is a value of a `Wire` type.
        Some(unsafe { &*bytes.as_ptr().cast::<T>() })
    }

    fn view_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        const { assert!(align_of::<T>() == 1) };
        let start = self.start;
        let bytes = self.buffer[start..].get_mut(offset..)?.get_mut(..size_of::<T>())?;
        // SAFETY: as in `view`; a `Wire` type has no padding, so that it leaves no byte undefined.
        Some(unsafe { &mut *bytes.as_mut_ptr().cast::<T>() })
    }

    fn grow_head(&mut self, bytes: i32) -> Option<()> {
        let start = self.start.checked_add_signed(-isize::try_from(bytes).ok()?)?;
        if start + SHORTEST > self.buffer.len() {
            return None;
        }
        self.start = start;
        Some(())
    }

    fn truncate(&mut self, length: usize) -> Option<()> {
        if length < SHORTEST || length > self.len() {
            return None;
        }
        self.buffer.truncate(self.start + length);
        Some(())
    }
}

impl Places for Frame {
    type Place<T: Wire> = Place<T>;

    fn places<T: Wire, U: Wire>(&self, offset: usize) -> Option<(Place<T>, Place<U>)> {
        let behind = offset.checked_add(size_of::<T>())?;
        let end = behind.checked_add(size_of::<U>())?;
        if end > self.len() { None } else { Some((Place::new(offset), Place::new(behind))) }
    }

    fn at<T: Wire>(&self, place: Place<T>) -> &T {
        self.view(place.offset).expect("a place of this frame")
    }

    fn at_mut<T: Wire>(&mut self, place: Place<T>) -> &mut T {
        self.view_mut(place.offset).expect("a place of this frame")
    }

    fn start<T: Wire, U: Wire>(place: Place<T>) -> Place<U> {
        const { assert!(size_of::<U>() <= size_of::<T>()) };
        Place::new(place.offset)
    }

    fn has_from<T: Wire>(&self, place: Place<T>, bytes: usize) -> bool {
        bytes <= self.len().saturating_sub(place.offset)
    }
}

impl Egress for Frame {
    fn update_checksum(&mut self, at: usize, was: [u8; 2], now: [u8; 2]) -> Option<()> {
        let before = self.load(at)?;
        self.store(at, checksum::update(before, was, now))
    }
}
