//! MAC addresses, and stations: the addresses at which an interface accepts frames.

use bytemuck::{Pod, Zeroable};

/// A MAC address in the first six bytes of one word; the last two are zero. An array of six bytes would be copied byte by byte.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Mac(pub u64);

impl Mac {
    #[inline(always)]
    pub const fn new([a, b, c, d, e, f]: [u8; 6]) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    /// Whether the address is known: all zero is no device's address, and stands for an unknown one.
    #[inline(always)]
    pub const fn is_known(self) -> bool {
        self.0 != 0
    }

    /// Whether the address can be a sender's: known, and neither broadcast nor multicast.
    #[inline(always)]
    pub const fn is_unicast(self) -> bool {
        self.is_known() && self.0 & 1 == 0
    }

    pub const fn octets(self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }
}

/// An interface and a MAC address at which it accepts frames. An interface that accepts frames at several addresses has
/// several stations.
///
/// One word, so that the packet path compares it in one step, and the controller changes it with one store.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Pod, Zeroable)]
pub struct Station(pub u64);

impl Station {
    /// Combines the two in one word. Two addresses of the same interface never give the same word. The upper half of an
    /// interface index of 2^16 or more overlaps the address, so another interface could accept a frame for it, but only a
    /// forged one.
    #[inline(always)]
    pub const fn new(interface: u32, Mac(address): Mac) -> Self {
        Self(address << 16 ^ interface as u64)
    }

    /// The MAC address, if the station is one of `interface`. Interface indexes with the same lower half are not
    /// distinguished, as in [`Self::new`].
    #[inline(always)]
    pub const fn address_on(self, interface: u32) -> Option<Mac> {
        let address = self.0 ^ interface as u64;
        if self.0 != 0 && address as u16 == 0 { Some(Mac(address >> 16)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_station_is_a_sender() {
        assert!(Mac::new([2, 0, 0, 0, 0, 1]).is_unicast());
        for other in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]] {
            assert!(!Mac::new(other).is_unicast(), "{other:x?}");
        }
    }

    #[test]
    fn a_station_gives_its_address_to_its_interface_alone() {
        let mac = Mac::new([0x02, 1, 2, 3, 4, 0xff]);
        for interface in [1, 2, 0xffff, 0x1_0000, 0x7fff_fffe] {
            let station = Station::new(interface, mac);
            assert_eq!(station.address_on(interface), Some(mac));
            assert_eq!(station.address_on(interface ^ 1), None);
            assert_eq!(Station::default().address_on(interface), None, "a place that is not used");
        }
    }
}
