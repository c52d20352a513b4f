//! Packets at the other end of a tunnel.

use edge_common::abi::DecapExit;

use super::{
    Case,
    scene::{bare, port, tcp, tunnelled, udp, with_ip},
    side_name,
};
use crate::packet::{ACK, Extension, Frame, Ip, Network, Payload, SYN, Tag, protocol};
use crate::world::{CLIENT_MAC, EDGE_MAC, Side};

pub(super) fn add(cases: &mut Vec<Case>, side: Side) {
    for inner in Side::BOTH {
        let packet = Ip::new(inner.client(), inner.vip(), tcp(port::DSR, ACK));
        let name = format!("{} in {}", side_name(inner), side_name(side));
        good(cases, side, &name, &packet);
        bad(cases, side, &name, &packet);
    }
    others(cases, side);
}

fn good(cases: &mut Vec<Case>, side: Side, name: &str, packet: &Ip) {
    let mut push = |name: &str, what, frame: &Frame, out: &Frame| {
        cases.push(Case::decapsulated(DecapExit::Decapsulated, name, what, frame, Some(out)));
    };
    let what = "From an edge that we were told of: the outer header goes.";
    for (tagging, tags) in
        [("untagged", vec![]), ("tagged", vec![Tag::new(3)]), ("two tags", vec![Tag::service(3), Tag::new(4)])]
    {
        let (frame, out) = (tunnelled(side, packet.clone()).tagged(&tags), bare(packet.clone()).tagged(&tags));
        push(&format!("{name}, {tagging}"), what, &frame, &out);
    }
    let outer = with_ip(tunnelled(side, packet.clone()), |ip| match side {
        Side::V4 => ip.options = vec![1; 40],
        Side::V6 => ip.extensions = vec![Extension::filler(protocol::DESTINATION, 0)],
    });
    push(&format!("{name}, outer options"), "They go with the outer header.", &outer, &bare(packet.clone()));
    let mut padded = tunnelled(side, packet.clone());
    padded.trailer = vec![0; 9];
    let mut out = bare(packet.clone());
    out.trailer = vec![0; 9];
    push(&format!("{name}, padded"), "Padding is the host's to cut off.", &padded, &out);
    let mut marked = packet.clone();
    marked.tos = 0xb9;
    let outer = with_ip(tunnelled(side, marked.clone()), |ip| ip.tos = 0x03);
    marked.tos = 0xbb;
    let what = "Congestion on the way is the inner packet's, too; DSCP stays the inner one.";
    push(&format!("{name}, congestion"), what, &outer, &bare(marked));
}

fn bad(cases: &mut Vec<Case>, side: Side, name: &str, packet: &Ip) {
    let mut push = |exit, case: &str, what, frame: &Frame| {
        cases.push(Case::decapsulated(exit, &format!("{name}, {case}"), what, frame, None));
    };
    let what = "The inner packet is cut off or contradicts the outer one.";
    let of = |change: &dyn Fn(&mut Ip)| {
        let mut inner = packet.clone();
        change(&mut inner);
        tunnelled(side, inner)
    };
    push(DecapExit::BadInner, "length of 65,535", what, &of(&|inner| inner.length = Some(65_535)));
    push(DecapExit::BadInner, "version", what, &of(&|inner| inner.version = Some(0)));
    let mut padded = tunnelled(side, packet.clone());
    if let Network::Ip(outer) = &mut padded.network
        && let Payload::Ip(inner) = &mut outer.payload
    {
        let length = inner.bytes().len() - if inner.source.is_ipv4() { 0 } else { 40 };
        inner.length = Some(u16::try_from(length + 4).expect("short"));
    }
    padded.trailer = vec![0; 4];
    push(DecapExit::BadInner, "reaches into the padding", what, &padded);
    let number = if packet.source.is_ipv4() { protocol::IPV4 } else { protocol::IPV6 };
    let short = Ip::new(side.tunnel(), side.backend(1), Payload::Other(number, vec![0x45; 19]));
    push(DecapExit::BadInner, "cut off", what, &Frame::new(EDGE_MAC, CLIENT_MAC, short));
    let what = "RFC 6040: whoever does not know ECN can be told of congestion by a loss alone.";
    push(DecapExit::Congested, "no ECN", what, &with_ip(tunnelled(side, packet.clone()), |ip| ip.tos = 0x03));
}

fn others(cases: &mut Vec<Case>, side: Side) {
    let name = side_name(side);
    let mut push = |exit, case: &str, what, frame: &Frame| {
        let case = Case::decapsulated(exit, &format!("{name} {case}"), what, frame, Some(frame));
        cases.push(case.unsound());
    };
    let inner = Ip::new(side.client(), side.vip(), tcp(port::DSR, SYN));
    let what = "A stranger's tunnel is the host's, untouched.";
    let stranger = Ip::new(side.other(), side.backend(1), Payload::Ip(Box::new(inner.clone())));
    push(DecapExit::UnknownSource, "stranger", what, &Frame::new(EDGE_MAC, CLIENT_MAC, stranger));

    let what = "The host reassembles fragments.";
    for (case, offset, more) in [("first", 0, true), ("last", 100, false)] {
        let frame = with_ip(tunnelled(side, inner.clone()), |ip| {
            (ip.dont_fragment, ip.fragment_offset, ip.more_fragments) = (false, offset, more);
            if side == Side::V6 {
                ip.extensions = vec![Extension::fragment(offset, more, 7)];
            }
        });
        push(DecapExit::TunnelFragment, case, what, &frame);
        let frame = with_ip(frame, |ip| ip.source = side.other());
        push(DecapExit::NotTunnel, &format!("{case} fragment of a stranger"), "Not ours to look at.", &frame);
    }
    let what = "No tunnel packet.";
    push(DecapExit::NotTunnel, "bare", what, &bare(inner.clone()));
    push(DecapExit::NotTunnel, "UDP from the edge", what, &{
        bare(Ip::new(side.tunnel(), side.backend(1), udp(port::DSR)))
    });
    push(DecapExit::NotTunnel, "wrong length", what, &{
        with_ip(tunnelled(side, inner), |ip| ip.length = Some(65_535))
    });
    let mut arp = bare(Ip::new(side.client(), side.vip(), tcp(port::DSR, SYN)));
    arp.network = Network::Other(0x0806, vec![0; 28]);
    push(DecapExit::NotTunnel, "ARP", what, &arp);
}
