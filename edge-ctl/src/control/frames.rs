//! Frames of one packet each, as a client's router would send them. Checksums of transports are zero, since nothing
//! checks them.

use std::net::{IpAddr, Ipv4Addr};

use edge_common::wire::checksum;

const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 2];

pub(crate) fn tcp(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend([0; 8]);
    segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

pub(crate) fn udp(from: u16, to: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + data.len()).unwrap_or(u16::MAX);
    let header = [from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes(), [0; 2]].concat();
    [&header, data].concat()
}

/// A frame to the MAC address `station`.
pub(crate) fn frame(station: [u8; 6], source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [station, ROUTER].concat();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            frame.extend(ipv4(source, destination, protocol, payload.len()));
        }
        (source, destination) => {
            let address = |address: IpAddr| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                IpAddr::V6(address) => address.octets(),
            };
            let [high, low] = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, 64]);
            frame.extend(address(source));
            frame.extend(address(destination));
        }
    }
    frame.extend(payload);
    frame
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: usize) -> [u8; 20] {
    const DONT_FRAGMENT: u8 = 0x40;
    let mut header = [0; 20];
    let length = u16::try_from(20 + payload).unwrap_or(u16::MAX);
    header[..10].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, DONT_FRAGMENT, 0, 64, protocol]);
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[12..16].copy_from_slice(&source.octets());
    header[16..].copy_from_slice(&destination.octets());
    let sum = checksum::ipv4_words(bytemuck::cast(header));
    header[10..12].copy_from_slice(&sum);
    header
}
