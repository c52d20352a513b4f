//! Packets to a VIP that belong to no service: passed to the host if the VIP is its address, otherwise handled as
//! configured.

use edge_common::{
    abi::{AnswerLimits, Exit, VipOther},
    tables::service_index::vip_bits,
};
use edge_tests::{
    packet::{Extension, Icmp, Ip, Payload, RST, SYN, protocol},
    world::{Side, World},
};

use super::world::{Flow, exit, flows, fragments, with_world, world};

/// A port without a service.
const NOBODY: u16 = 999;

fn flow(side: Side, protocol: u8) -> Flow {
    Flow { side, protocol, port: NOBODY, source: 40_000 }
}

/// Name, a packet that belongs to no service, and its exits: to an address of the host, and to another VIP where such
/// packets are rejected, dropped, and passed to the host.
type Row = (&'static str, Ip, [Exit; 4]);

fn rows(side: Side) -> Vec<Row> {
    use Exit::*;
    let to_vip = |payload| Ip::new(side.client(), side.vip(), payload);
    let (tcp, udp) = (flow(side, protocol::TCP), flow(side, protocol::UDP));
    let later = fragments(&udp.packet(240), 80, 7).pop().expect("a last one");
    let other = fragments(&to_vip(Payload::Other(protocol::SCTP, vec![0; 240])), 80, 7).remove(0);
    let (reply, error) = if side == Side::V4 { (0, 3) } else { (129, 1) };
    let error = Icmp::error(error, 1, 0, &udp.answer().bytes());
    let mut rows = vec![
        ("SYN", tcp.with_flags(SYN, 0), [NotOurs, VipReset, VipDropped, NotOurs]),
        ("data", tcp.packet(10), [NotOurs, VipReset, VipDropped, NotOurs]),
        ("RST", tcp.with_flags(RST, 0), [NotOurs, VipSilent, VipDropped, NotOurs]),
        ("datagram", udp.packet(10), [NotOurs, VipUnreachable, VipDropped, NotOurs]),
        ("SCTP", to_vip(Payload::Other(protocol::SCTP, vec![0; 40])), [NotOurs, VipProtocol, VipDropped, NotOurs]),
        ("later fragment", later, [NotOurs, FragmentUnknown, FragmentUnknown, FragmentUnknown]),
        (
            "first fragment",
            fragments(&udp.packet(240), 80, 7).remove(0),
            [NotOurs, VipUnreachable, VipDropped, NotOurs],
        ),
        ("first fragment of SCTP", other, [FragmentOther, VipProtocol, VipDropped, FragmentOther]),
        ("error", to_vip(Payload::Icmp(error)), [IcmpError, VipSilent, VipDropped, IcmpError]),
        (
            "echo reply",
            to_vip(Payload::Icmp(Icmp::echo(reply, 1, 2, b"x"))),
            [IcmpOther, VipSilent, VipDropped, IcmpOther],
        ),
    ];
    if side == Side::V6 {
        // In IPv6, the field that names the protocol is not looked for behind extension headers, so no error can point
        // at it.
        let fragment = rows.iter_mut().find(|row| row.0 == "first fragment of SCTP").expect("a row");
        fragment.2[1] = VipSilent;
        let mut hidden = udp.packet(0);
        hidden.extensions = vec![Extension { kind: protocol::ENCRYPTED, rest: vec![0; 23] }];
        rows.push(("ESP", hidden, [NotOurs, ExtensionHeaders, ExtensionHeaders, ExtensionHeaders]));
        let discovery = Icmp { kind: 135, data: vec![1; 16], ..Icmp::default() };
        let discovery = |ttl| Ip { ttl, ..to_vip(Payload::Icmp(discovery.clone())) };
        rows.push(("discovery", discovery(255), [IcmpOther; 4]));
        // A router has forwarded it, or would: no host takes it as discovery.
        for ttl in [254, 64] {
            rows.push(("discovery from elsewhere", discovery(ttl), [IcmpOther, VipSilent, VipDropped, IcmpOther]));
        }
    }
    rows
}

#[test]
fn it_is_the_hosts_at_its_address_and_else_as_configured() {
    for (column, (vip_other, is_host)) in [
        (VipOther::Reject, true),
        (VipOther::Reject, false),
        (VipOther::Drop, false),
        (VipOther::Host, false),
        (VipOther::Drop, true),
    ]
    .into_iter()
    .enumerate()
    {
        let host_vips = if is_host { Side::BOTH.map(Side::vip).to_vec() } else { Vec::new() };
        with_world(World { vip_other, host_vips, ..world() }, |both| {
            for side in Side::BOTH {
                for (name, packet, exits) in rows(side) {
                    let expected = exits[column % 4];
                    assert_eq!(exit(both, &packet), expected, "{side:?} {name}: {vip_other:?}, host's: {is_host}");
                }
            }
            for flow in flows() {
                assert_eq!(exit(both, &flow.packet(10)), flow.exit(), "{flow:?}");
            }
        });
    }
}

#[test]
fn a_datagram_of_the_hosts_own_reaches_it_whole() {
    let host_vips = Side::BOTH.map(Side::vip).to_vec();
    with_world(World { vip_other: VipOther::Reject, host_vips, ..world() }, |both| {
        for side in Side::BOTH {
            for (number, piece) in fragments(&flow(side, protocol::UDP).packet(400), 80, 5).iter().enumerate() {
                assert_eq!(exit(both, piece), Exit::NotOurs, "{side:?} {number}");
            }
            let kind = if side == Side::V4 { 8 } else { 128 };
            let echo = Ip::new(side.client(), side.vip(), Payload::Icmp(Icmp::echo(kind, 1, 2, &[7; 300])));
            for (number, piece) in fragments(&echo, 80, 6).iter().enumerate() {
                let expected = if number == 0 { Exit::FragmentOther } else { Exit::NotOurs };
                assert_eq!(exit(both, piece), expected, "{side:?} {number}");
            }
        }
    });
}

#[test]
fn it_is_answered_within_the_limits_of_such_answers() {
    let none = AnswerLimits { resets: 0, unreachable: 0, ..AnswerLimits::all(9) };
    with_world(World { vip_other: VipOther::Reject, answers_per_second: none, ..world() }, |both| {
        for side in Side::BOTH {
            for (name, packet, [_, rejected, ..]) in rows(side) {
                let is_answer = matches!(rejected, Exit::VipReset | Exit::VipUnreachable | Exit::VipProtocol);
                let expected = if is_answer { Exit::AnswerLimited } else { rejected };
                assert_eq!(exit(both, &packet), expected, "{side:?} {name}");
            }
        }
    });
}

#[test]
fn an_address_with_the_bit_of_a_vip_is_none_of_ours() {
    with_world(World { vip_other: VipOther::Reject, ..world() }, |both| {
        for side in Side::BOTH {
            let mut packet = flow(side, protocol::TCP).with_flags(SYN, 0);
            let bit = vip_bits([side.vip()]);
            let others = (0..=255).map(|last| match side {
                Side::V4 => [192, 0, 7, last].into(),
                Side::V6 => std::net::IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 7, u16::from(last)]),
            });
            packet.destination = others.into_iter().find(|other| vip_bits([*other]) == bit).expect("one of 256");
            assert_eq!(exit(both, &packet), Exit::NotOurs, "{side:?}");
            packet.destination = side.other();
            assert_eq!(exit(both, &packet), Exit::NotOurs, "{side:?}");
        }
    });
}
