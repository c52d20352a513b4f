//! A packet that is too long for its path is answered with the length that fits the egress and the learnt path MTU.

use std::collections::BTreeMap;

use edge_common::abi::{Backend, Exit};
use edge_tests::{
    both::{Both, ProgramExit},
    kernel::{self, Arrival},
    namespace::in_namespace,
    packet::{Ip, Payload, protocol, verify},
    world::Side,
};

use super::path_mtu::{for_each_tunnel, learns, learnt, outer, too_big, tunnelled};
use super::world::{Flow, exit, for_each_flow, forwarded, forwarded_as, fragment, frame, header, run, world};

/// Length of the headers before a packet in a tunnel, bytes.
fn overhead(flow: Flow) -> u16 {
    flow.overhead(&world())
}

/// A packet of the flow of `length` bytes.
pub(crate) fn of_length(flow: Flow, length: u16) -> Ip {
    let transport = if flow.protocol == protocol::TCP { 20 } else { 8 };
    flow.packet(usize::from(length) - header(flow.side) - transport)
}

/// Checks that packets to the flow's owner fit up to `mtu`, and that a longer one is answered with the length that
/// fits.
fn check_fits(both: &Both, flow: Flow, mtu: u16) {
    let fits = mtu - overhead(flow);
    assert_eq!(forwarded(both, flow, &of_length(flow, fits)).0, flow.owner(both));
    for length in [fits + 1, 1500] {
        let long = of_length(flow, length);
        let seen = run(both, &long);
        assert_eq!(seen.exit, ProgramExit::Edge(Exit::TooBig), "{flow:?}: {length} bytes, {mtu}");
        verify::checksums(&seen.frame).expect("right checksums");
        let icmp = 14 + header(flow.side);
        let expected = if flow.side == Side::V4 { [3, 4] } else { [2, 0] };
        assert_eq!(seen.frame[icmp..icmp + 2], expected);
        assert_eq!(seen.frame[icmp + 4..icmp + 8], u32::from(fits).to_be_bytes(), "{flow:?}: the reported MTU");
        assert_eq!(seen.frame[icmp + 8..][..64], frame(&long)[14..][..64], "the packet is quoted");
    }
}

#[test]
fn a_packet_that_is_too_long_is_answered_with_the_length_that_fits() {
    for_each_flow(|both, flow| {
        let owner = usize::from(flow.owner(both));
        for (egress, path, smaller) in
            [(1500, 1_400, 1_400), (1_380, 1_400, 1_380), (0, 1_400, 1_400), (1_400, 0, 1_400), (1_400, 1_400, 1_400)]
        {
            both.change(|world| (world.backends[owner].mtu, world.backends[owner].path_mtu) = (egress, path));
            check_fits(both, flow, smaller);
        }
    });
}

/// In generic mode the kernel merges several packets into one, and segments it again at egress.
#[test]
fn what_goes_in_dsr_by_the_link_that_it_came_by_fits_it() {
    for_each_flow(|both, flow| {
        let owner = usize::from(flow.owner(both));
        both.change(|world| (world.backends[owner].mtu, world.backends[owner].own_mtu) = (1_400, 1));
        if flow.tunnel().is_some() {
            // The kernel can't segment a packet behind a header that it does not know of.
            return check_fits(both, flow, 1_400);
        }
        for length in [1_400, 1_401, 1_500, 3_000] {
            assert_eq!(usize::from(forwarded(both, flow, &of_length(flow, length)).0), owner, "{flow:?}: {length}");
        }
        // Over another link, or with a smaller MTU behind it.
        both.change(|world| world.backends[owner].egress = 77);
        assert_eq!(exit(both, &of_length(flow, 1_401)), Exit::TooBig, "{flow:?}");
        both.change(|world| (world.backends[owner].egress, world.backends[owner].path_mtu) = (1, 1_390));
        check_fits(both, flow, 1_390);
        both.change(|world| (world.backends[owner].path_mtu, world.backends[owner].own_mtu) = (0, 0));
        check_fits(both, flow, 1_400);
    });
}

/// A packet without DF of `length` bytes, or a fragment of one.
fn without_df(flow: Flow, length: u16) -> Ip {
    Ip { dont_fragment: false, id: 0x1234, ..of_length(flow, length) }
}

/// The exit of a packet without DF that only the path is too narrow for.
fn past_the_egress(flow: Flow) -> Exit {
    match flow.tunnel() {
        // No router fragments an outer IPv6 packet.
        Some(Side::V6) => Exit::TooBigSilent,
        Some(Side::V4) | None => flow.exit(),
    }
}

#[test]
fn ipv4_without_df_goes_on_where_routers_may_fragment_it() {
    for_each_flow(|both, flow| {
        if flow.side == Side::V6 {
            return;
        }
        let owner = usize::from(flow.owner(both));
        let longest = 1_500 - overhead(flow);
        for (egress, path, length, expected) in [
            (1_500, 1_400, longest, past_the_egress(flow)),
            (0, 1_400, longest, past_the_egress(flow)),
            (1_500, 576, 577 - overhead(flow), past_the_egress(flow)),
            (1_500, 576, 576 - overhead(flow), flow.exit()),
            (1_500, 1_400, longest + 1, Exit::TooBigSilent),
            (1_400, 0, 1_401 - overhead(flow), Exit::TooBigSilent),
            (1_400, 1_400, 1_401 - overhead(flow), Exit::TooBigSilent),
        ] {
            both.change(|world| (world.backends[owner].mtu, world.backends[owner].path_mtu) = (egress, path));
            let packet = without_df(flow, length);
            assert_eq!(exit(both, &packet), expected, "{flow:?}: {length} bytes, {egress}, {path}");
            if expected == flow.exit() {
                forwarded_as(both, flow, &packet, false);
            }
        }
        both.change(|world| (world.backends[owner].mtu, world.backends[owner].path_mtu) = (1_500, 1_400));
        assert_eq!(exit(both, &of_length(flow, longest)), Exit::TooBig, "{flow:?}: with DF");
    });
}

#[test]
fn fragments_of_ipv4_go_on_where_routers_may_fragment_them_further() {
    for_each_flow(|both, flow| {
        if flow.side == Side::V6 {
            return;
        }
        let owner = usize::from(flow.owner(both));
        // Both are as long as fits the egress, in units of eight bytes.
        let length = usize::from(1_500 - overhead(flow) - 20) & !7;
        let pieces = [0, 1].map(|number| {
            let payload = flow.packet(2 * length).bytes()[20..][number * length..][..length].to_vec();
            let offset = u16::try_from(number * length / 8).expect("a place");
            // Records of the flows before stay, so each flow has an identification of its own.
            fragment(&flow.packet(0), Payload::Other(flow.protocol, payload), offset, true, flow.port)
        });
        both.change(|world| (world.backends[owner].mtu, world.backends[owner].path_mtu) = (1_500, 1_400));
        let second = if flow.tunnel() == Some(Side::V6) { Exit::FragmentUnknown } else { flow.exit() };
        for (piece, expected) in pieces.iter().zip([past_the_egress(flow), second]) {
            assert_eq!(exit(both, piece), expected, "{flow:?}");
            if expected == flow.exit() {
                forwarded_as(both, flow, piece, false);
            }
        }
        both.change(|world| world.backends[owner].mtu = 1_400);
        assert_eq!(exit(both, &pieces[1]), if second == flow.exit() { Exit::TooBigSilent } else { second });
    });
}

#[test]
fn from_the_next_packet_on_the_client_learns_the_mtu() {
    for_each_tunnel(|both, flow, _| {
        let owner = flow.owner(both);
        let long = of_length(flow, 1500 - overhead(flow));
        forwarded(both, flow, &long);
        assert!(learns(both, flow, owner, 1_400));
        let mtu = learnt(both, owner).expect("just learnt");
        both.change(|world| world.backends[usize::from(owner)].path_mtu = mtu);
        check_fits(both, flow, 1_400);
        assert_eq!(exit(both, &long), Exit::TooBig);
    });
}

/// The kernel keeps what it learnt: the other tests read it and then undo it.
#[test]
fn the_kernels_own_backends_change() {
    in_namespace(|| {
        let both = Both::new(world());
        let ran = |packet: &[u8]| both.kernel.run("edge", packet, Arrival::by(1));
        let mut least = BTreeMap::new();
        for ((flow, tunnel), start) in tunnelled().into_iter().zip((0..).map(|number| 1_480 - 5 * number)) {
            let owner = flow.owner(&both);
            let long = frame(&of_length(flow, 1500 - overhead(flow)));
            for reported in [start, start + 5, start - 5] {
                let error = too_big(tunnel, reported.into(), &outer(&both, flow, owner).bytes()).bytes();
                assert_eq!(ran(&error).verdict, kernel::PASS);
                let mtu = least.entry(owner).or_insert(reported);
                *mtu = reported.min(*mtu);
                assert_eq!(both.kernel.backend(owner).path_mtu, *mtu, "{flow:?}");
                let answer = ran(&long);
                let icmp = 14 + header(flow.side);
                assert_eq!(answer.verdict, kernel::TX);
                assert_eq!(answer.frame[icmp + 4..icmp + 8], u32::from(*mtu - overhead(flow)).to_be_bytes());
                verify::checksums(&answer.frame).expect("right checksums");
            }
            // No other field of the backend changes, nor any other backend.
            for (number, backend) in (0..).zip(&both.world.backends) {
                let expected = Backend { path_mtu: least.get(&number).copied().unwrap_or_default(), ..*backend };
                assert_eq!(both.kernel.backend(number), expected);
            }
        }
    });
}
