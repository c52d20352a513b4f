//! The maximum segment size in a backend's SYN-ACKs is lowered to fit the tunnel, on host and kernel alike, and no
//! other packet or field changes.

use std::cell::RefCell;

use edge_common::{
    abi::{MssExit, MssLimits},
    decap::mss,
    host::{Frame as HostFrame, Memory},
};
use edge_tests::{
    mss::MssProgram,
    namespace::in_namespace,
    packet::{ACK, Extension, FIN, Frame, Ip, PSH, Payload, RST, SYN, Tag, Tcp, Udp, protocol, verify},
    world::{CLIENT_MAC, EDGE_MAC, Side, single_vip},
};
use proptest::{collection::vec, prelude::*, sample::select};

/// The largest segments that fit the tests' tunnel.
const LIMIT: MssLimits = MssLimits::of_tunnel(1_500, 20);

fn limit(side: Side) -> u16 {
    u16::try_from(if side == Side::V4 { LIMIT.v4 } else { LIMIT.v6 }).expect("a segment")
}

/// The program on host and kernel.
struct Both {
    memory: Memory,
    kernel: MssProgram,
}

impl Both {
    fn new() -> Self {
        let vips = Side::BOTH.map(|side| single_vip(side.vip()));
        let mut memory = Memory::default();
        (memory.decap_vips, memory.mss_limits) = (vips.to_vec(), LIMIT);
        let kernel = MssProgram::load(&memory);
        Self { memory, kernel }
    }

    /// The resulting frame, and its exit.
    fn run(&self, frame: &[u8]) -> (Vec<u8>, Option<MssExit>) {
        let mut host = HostFrame::new(frame);
        let exit = mss::lower(&mut host, &self.memory);
        assert_eq!(self.kernel.run(frame), host.bytes(), "kernel and host, of {frame:02x?}");
        let counted: Vec<_> = MssExit::ALL.iter().map(|exit| self.memory.mss_exit_count(*exit)).collect();
        assert_eq!(self.kernel.exits(), counted);
        (host.bytes().to_vec(), exit)
    }

    fn untouched(&self, frame: &[u8], exit: Option<MssExit>, what: &str) {
        let (out, by) = self.run(frame);
        assert_eq!(out, frame, "{what}");
        assert_eq!(by, exit, "{what}");
    }
}

fn with_both(test: impl FnOnce(&mut Both) + Send) {
    in_namespace(|| test(&mut Both::new()));
}

fn segment(side: Side, flags: u8, options: &[u8]) -> Ip {
    let tcp = Tcp { source: 80, destination: 40_000, flags, options: options.to_vec(), data: vec![], ..Tcp::default() };
    Ip::new(side.vip(), side.client(), Payload::Tcp(tcp))
}

fn frame(ip: Ip) -> Frame {
    Frame::new(CLIENT_MAC, EDGE_MAC, ip)
}

const fn option(mss: u16) -> [u8; 4] {
    let [high, low] = mss.to_be_bytes();
    [2, 4, high, low]
}

/// Options as Linux sends them in a SYN-ACK, with the MSS option after `before` bytes of NOPs and timestamps.
fn options(before: usize, mss: u16) -> Vec<u8> {
    let long = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut options: Vec<u8> = if before >= 10 { [&long[..], &vec![1; before - 10]].concat() } else { vec![1; before] };
    options.extend(option(mss));
    options.resize(options.len().next_multiple_of(4), 1);
    options
}

/// Frames with a SYN-ACK: plain, tagged, padded, and with options or extension headers.
fn forms(side: Side, ip: &Ip) -> Vec<Frame> {
    let mut behind = ip.clone();
    match side {
        Side::V4 => behind.options = vec![1; 12],
        Side::V6 => behind.extensions = vec![Extension::filler(protocol::DESTINATION, 2)],
    }
    let plain = frame(ip.clone());
    let tags = [Tag::service(1), Tag::new(7)];
    vec![plain.clone(), plain.clone().tagged(&tags[1..]), plain.clone().tagged(&tags), plain.padded(), frame(behind)]
}

#[test]
fn it_is_lowered_wherever_it_stands_and_the_checksum_stays_right() {
    with_both(|both| {
        for side in Side::BOTH {
            for before in 0..=36 {
                for mss in [limit(side) + 1, 1_460, 8_960, u16::MAX] {
                    for flags in [SYN | ACK, SYN | ACK | 0xc0] {
                        let of = |mss| segment(side, flags, &options(before, mss));
                        for (came, lowered) in forms(side, &of(mss)).iter().zip(forms(side, &of(limit(side)))) {
                            let (out, exit) = both.run(&came.bytes());
                            assert_eq!(out, lowered.bytes(), "{side:?}: {mss} behind {before} bytes");
                            assert_eq!(exit, Some(MssExit::MssLowered));
                            verify::checksums(&out).expect("right checksums");
                        }
                    }
                }
                for mss in [0, 536, limit(side) - 1, limit(side)] {
                    let came = frame(segment(side, SYN | ACK, &options(before, mss))).bytes();
                    both.untouched(&came, Some(MssExit::MssFits), "it is small enough");
                }
            }
        }
    });
}

#[test]
fn nothing_else_is_touched() {
    with_both(|both| {
        for side in Side::BOTH {
            let large = options(0, 1_500);
            for flags in [SYN, ACK, PSH | ACK, SYN | RST | ACK, RST, FIN | ACK, 0] {
                both.untouched(&frame(segment(side, flags, &large)).bytes(), None, "no SYN-ACK");
            }
            let other = Ip { source: side.other(), ..segment(side, SYN | ACK, &large) };
            both.untouched(&frame(other).bytes(), None, "not from a VIP");
            let udp = Ip { payload: Payload::Udp(Udp::default()), ..segment(side, SYN, &[]) };
            both.untouched(&frame(udp).bytes(), None, "no TCP");
            let mut part = segment(side, SYN | ACK, &large);
            match side {
                Side::V4 => (part.dont_fragment, part.more_fragments) = (false, true),
                Side::V6 => part.extensions = vec![Extension::fragment(0, true, 9)],
            }
            both.untouched(&frame(part).bytes(), None, "a fragment");
            let outer =
                Ip { payload: Payload::Ip(Box::new(segment(side, SYN | ACK, &large))), ..segment(side, 0, &[]) };
            both.untouched(&frame(outer).bytes(), None, "in a tunnel");
        }
        let arp = [&CLIENT_MAC[..], &EDGE_MAC, &[0x08, 0x06], &[0; 46]].concat();
        both.untouched(&arp, None, "no IP");
    });
}

#[test]
fn nothing_is_added_and_options_that_are_cut_off_are_left() {
    with_both(|both| {
        for side in Side::BOTH {
            for (options, what) in [
                (&[][..], "no options"),
                (&[1; 40], "padding alone"),
                (&[0, 2, 4, 0xff], "behind the end of the options"),
                (&[2, 3, 0xff, 0xff], "too short"),
                (&[2, 5, 0xff, 0xff, 0xff, 1, 1, 1], "too long"),
                (&[3, 0, 2, 4, 0xff, 0xff, 1, 1], "behind an option of no length"),
                (&[3, 1, 2, 4, 0xff, 0xff, 1, 1], "behind an option that has no room for its length"),
                (&[8, 255, 2, 4, 0xff, 0xff, 1, 1], "behind an option that has no end"),
                (&[1, 1, 2, 4], "without its value"),
                (&[1, 1, 1, 2], "without its length"),
            ] {
                let mut ip = segment(side, SYN | ACK, options);
                // The following data looks like the rest of the option.
                let Payload::Tcp(tcp) = &mut ip.payload else { unreachable!("a segment") };
                tcp.data = vec![4, 0xff, 0xff, 0xff];
                both.untouched(&frame(ip).bytes(), Some(MssExit::NoMss), what);
            }
            let mut ip = segment(side, SYN | ACK, &options(0, 1_500));
            let Payload::Tcp(tcp) = &mut ip.payload else { unreachable!("a segment") };
            tcp.data_offset = Some(4);
            both.untouched(&frame(ip).bytes(), Some(MssExit::NoMss), "a header that is too short");
        }
    });
}

#[test]
fn without_a_limit_everything_fits() {
    with_both(|both| {
        both.memory.mss_limits = MssLimits { v4: 1 << 16, v6: u32::MAX };
        both.kernel.set_limits(&both.memory);
        for side in Side::BOTH {
            let came = frame(segment(side, SYN | ACK, &options(0, u16::MAX))).bytes();
            both.untouched(&came, Some(MssExit::MssFits), "nothing is too large");
        }
    });
}

/// Position and value of the MSS option, read as RFC 9293 defines it.
fn read(options: &[u8]) -> Option<(usize, u16)> {
    let mut at = 0;
    loop {
        match options[at..] {
            [1, ..] => at += 1,
            [2, 4, high, low, ..] => return Some((at, u16::from_be_bytes([high, low]))),
            [] | [0 | 2, ..] => return None,
            [_, length, ..] if length >= 2 && at + usize::from(length) <= options.len() => at += usize::from(length),
            _ => return None,
        }
    }
}

fn some_options() -> impl Strategy<Value = Vec<u8>> {
    let known =
        select(vec![vec![1], vec![1, 1], vec![4, 2], vec![3, 3, 7], vec![8, 10, 0, 0, 0, 1, 0, 0, 0, 0], vec![0]]);
    let piece = prop_oneof![
        4 => known,
        3 => any::<u16>().prop_map(|mss| option(mss).to_vec()),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(piece, 0..8).prop_map(|pieces| {
        let mut options = pieces.concat();
        options.truncate(40);
        options.resize(options.len().next_multiple_of(4), 1);
        options
    })
}

#[test]
fn with_any_options_the_kernel_and_the_host_follow_the_rfc() {
    with_both(|both| {
        let both = RefCell::new(both);
        proptest!(ProptestConfig::with_cases(4_000), |(options in some_options(), v6: bool, smaller in 0_u32..1_600)| {
            let side = if v6 { Side::V6 } else { Side::V4 };
            let both = &mut **both.borrow_mut();
            both.memory.mss_limits = MssLimits { v4: smaller, v6: smaller };
            both.kernel.set_limits(&both.memory);
            let (out, exit) = both.run(&frame(segment(side, SYN | ACK, &options)).bytes());
            let mut expected = options.clone();
            let (by, at) = match read(&options) {
                None => (MssExit::NoMss, None),
                Some((at, mss)) if u32::from(mss) > smaller => (MssExit::MssLowered, Some(at)),
                Some(_) => (MssExit::MssFits, None),
            };
            if let Some(at) = at {
                let small = u16::try_from(smaller).expect("a segment");
                expected[at..at + 4].copy_from_slice(&option(small));
            }
            prop_assert_eq!(exit, Some(by));
            prop_assert_eq!(out, frame(segment(side, SYN | ACK, &expected)).bytes());
        });
    });
}
