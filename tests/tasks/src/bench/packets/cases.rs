//! The rows of the table: the measured cases.

use edge_common::abi::{DecapExit, Exit};
use edge_tests::{both::ProgramExit, namespace};

use super::{
    frames::{self, Content, Frame},
    state::State,
    stream::{Leaving, Stream},
    world::{Form, Side, Table, USUAL_SLOTS, World, vip_v4, vip_v6},
};

/// A row.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) mode: &'static str,
    /// Inner and outer family: `4in6` is IPv4 in IPv6.
    pub(super) family: &'static str,
    /// The inner family, which is that of the packets' flows.
    pub(super) side: Side,
    pub(super) protocol: &'static str,
    pub(super) state: State,
    pub(super) world: World,
    pub(super) stream: Stream,
    pub(super) leaving: Leaving,
}

/// Enough slots for a small service.
const FEW_SLOTS: u32 = 4096;
/// So many slots that SYNs of a batch rarely share one.
const MANY_SLOTS: u32 = 1 << 20;
const THOUSAND: u32 = 1 << 10;
const HUNDRED_THOUSAND: u32 = 1 << 17;
const MILLION: u32 = 1 << 20;

/// Every forwarding mode with its families.
const ROUTES: [Route; 8] = [
    Route { mode: "dsr", family: "4", vip: Side::V4, backends: Side::V4 },
    Route { mode: "dsr", family: "6", vip: Side::V6, backends: Side::V6 },
    TUNNEL_V4,
    TUNNEL_V6,
    Route { mode: "ipip", family: "4in6", vip: Side::V4, backends: Side::V6 },
    Route { mode: "ipip", family: "6in4", vip: Side::V6, backends: Side::V4 },
    UDP_V4,
    UDP_V6,
];
const TUNNEL_V4: Route = Route { mode: "ipip", family: "4in4", vip: Side::V4, backends: Side::V4 };
const TUNNEL_V6: Route = Route { mode: "ipip", family: "6in6", vip: Side::V6, backends: Side::V6 };
const UDP_V4: Route = Route { mode: "gue", family: "4in4", vip: Side::V4, backends: Side::V4 };
const UDP_V6: Route = Route { mode: "gue", family: "6in6", vip: Side::V6, backends: Side::V6 };
const TUNNELS: [Route; 2] = [TUNNEL_V4, TUNNEL_V6];

/// States of packets in a service in transition, and the packets' content. In this order, the fewest records change
/// from one row to the next.
const TRANSITION: [(State, Content); 7] = [
    (State::Unconcerned, Content::TcpData),
    (State::NoRecord, Content::TcpData),
    (State::RecordedAtNew, Content::TcpSyn),
    (State::RecordedAtOwner, Content::TcpData),
    (State::NoRoom, Content::TcpSyn),
    (State::RecordAged, Content::TcpData),
    (State::RecordRead, Content::TcpData),
];
/// The profiled ones among these: the packet of an aged record executes the same instructions.
const PROFILED: fn(&(State, Content)) -> bool = |(state, _)| !matches!(state, State::RecordAged);

#[derive(Clone, Copy)]
struct Route {
    mode: &'static str,
    family: &'static str,
    vip: Side,
    backends: Side,
}

/// All rows of timed runs, with rows of one world together.
pub(super) fn timed(quick: bool) -> Vec<Case> {
    let flows: &[u32] = if quick { &[THOUSAND, MILLION] } else { &[1, THOUSAND, HUNDRED_THOUSAND, MILLION] };
    let contents = [Content::TcpData, Content::TcpSyn, Content::Udp];
    let here = small(namespace::LO);
    let mut cases = Vec::new();
    for route in ROUTES {
        for content in contents {
            let all = route.mode == "ipip" && content == Content::TcpData;
            let is_tunnel = all && TUNNELS.iter().any(|tunnel| tunnel.family == route.family);
            let all = all || route.mode == "gue" && content == Content::TcpData;
            if quick && is_tunnel {
                // For comparison with rows of services in transition.
                cases.push(route.case(content, State::Steady, HUNDRED_THOUSAND, &here));
            }
            let wanted = |count: u32| if quick { all || count == THOUSAND } else { all || count >= THOUSAND };
            for &count in flows.iter().filter(|count| wanted(**count)) {
                cases.push(route.case(content, State::Steady, count, &here));
            }
        }
    }
    for content in contents {
        // A single flow, whose segment has a right checksum: others are not answered.
        cases.extend(TUNNELS.map(|route| route.case(content, State::Reject, 1, &here)));
    }
    let others = [State::Vlan, State::TtlExceeded, State::TooBig, State::FirstFragment, State::Fragment];
    let others = others.into_iter().chain([State::Malformed, State::NotOurs]);
    for route in TUNNELS {
        cases.extend(others.clone().map(|state| route.case(Content::TcpData, state, THOUSAND, &here)));
        cases.push(route.case(Content::Udp, State::NotOurs, THOUSAND, &here));
        cases.push(route.case(Content::Echo, State::Echo, THOUSAND, &here));
        cases.push(route.case(Content::Unreachable, State::IcmpError, THOUSAND, &here));
    }
    cases.push(TUNNEL_V6.case(Content::TcpData, State::Extension, THOUSAND, &here));
    cases.push(arp(&here));
    cases.extend(ROUTES.into_iter().filter(|route| route.mode == "ipip").map(|route| route.decapsulated(&here)));
    cases.extend(TUNNELS.map(|route| route.case(Content::TcpData, State::NotTunnel, THOUSAND, &here)));

    let sizes: &[(u32, u16)] =
        if quick { &[(1000, 1000)] } else { &[(1, 1000), (100, 3), (100, 1000), (1000, 3), (1000, 1000)] };
    for &(services, backends) in sizes {
        let world = World { services, backends, forms: forms(&TUNNELS, &[Content::TcpData]), ..here.clone() };
        for route in TUNNELS {
            for &count in flows.iter().filter(|count| **count == THOUSAND || **count == MILLION) {
                cases.push(route.case(Content::TcpData, State::Steady, count, &world));
            }
            cases.push(route.case(Content::TcpData, State::NotOurs, THOUSAND, &world));
        }
    }

    // The cost of a service with many destinations, and of many services with few slots each.
    for (services, ports, slots) in [(1, 600, USUAL_SLOTS), (1000, 1, FEW_SLOTS)] {
        let world = World { services, ports, slots, forms: forms(&TUNNELS, &[Content::TcpData]), ..here.clone() };
        cases.extend(TUNNELS.map(|route| route.case(Content::TcpData, State::Steady, MILLION, &world)));
    }

    cases.extend(transition(quick, &here));

    let table = Some(Table { room: 1 });
    let world = World { slots: MANY_SLOTS, forms: forms(&TUNNELS, &[Content::TcpSyn]), table, ..here };
    cases.extend(TUNNELS.map(|route| route.case(Content::TcpSyn, State::OwnerTakenOver, MILLION, &world)));
    cases
}

/// Rows of services in transition, over a table that is half full of the flows.
fn transition(quick: bool, here: &World) -> Vec<Case> {
    let mut cases = Vec::new();
    for flows in [THOUSAND, HUNDRED_THOUSAND, MILLION] {
        let table = Some(Table { room: 2 * flows });
        let world = World { forms: forms(&TUNNELS, &[Content::TcpData]), table, ..here.clone() };
        let wanted = |state| !quick || flows == HUNDRED_THOUSAND || state == State::Unconcerned;
        for route in TUNNELS {
            let states = TRANSITION.into_iter().filter(|(state, _)| wanted(*state));
            cases.extend(states.map(|(state, content)| route.case(content, state, flows, &world)));
        }
    }
    cases
}

/// All rows of live runs, in one world.
pub(super) fn live(quick: bool) -> Vec<Case> {
    let world = small(namespace::EDGE0);
    let case = |route: &Route, flows| route.case(Content::TcpData, State::Steady, flows, &world);
    if quick {
        return ROUTES[..4].iter().map(|route| case(route, THOUSAND)).collect();
    }
    let many = TUNNELS.iter().map(|route| case(route, MILLION));
    ROUTES.iter().map(|route| case(route, THOUSAND)).chain(many).collect()
}

/// One case of each important kind, whose instructions are counted.
pub(super) fn profiled() -> Vec<Case> {
    let world = small(namespace::LO);
    let changing = World { table: Some(Table { room: 2 }), ..world.clone() };
    let in_transition = |route: Route| {
        let all = TRANSITION.into_iter().filter(PROFILED);
        all.map(|(state, content)| route.case(content, state, 1, &changing)).collect::<Vec<_>>()
    };
    let case = |route: Route, content, state| route.case(content, state, 1, &world);
    let [dsr_v4, dsr_v6, ..] = ROUTES;
    let mut cases = vec![
        case(TUNNEL_V4, Content::TcpData, State::Steady),
        case(TUNNEL_V4, Content::TcpSyn, State::Steady),
        case(TUNNEL_V4, Content::Udp, State::Steady),
        case(TUNNEL_V4, Content::TcpData, State::Vlan),
        case(TUNNEL_V6, Content::TcpData, State::Steady),
        case(TUNNEL_V6, Content::TcpData, State::Extension),
        case(TUNNEL_V4, Content::TcpData, State::FirstFragment),
        case(UDP_V4, Content::TcpData, State::Steady),
        case(UDP_V6, Content::TcpData, State::Steady),
        case(dsr_v4, Content::TcpData, State::Steady),
        case(dsr_v6, Content::TcpData, State::Steady),
        case(TUNNEL_V4, Content::TcpData, State::NotOurs),
        case(TUNNEL_V6, Content::TcpData, State::NotOurs),
        arp(&world),
    ];
    cases.extend(in_transition(TUNNEL_V4));
    cases.extend(in_transition(TUNNEL_V6));
    cases.push(TUNNEL_V4.case(Content::TcpSyn, State::OwnerTakenOver, 1, &changing));
    cases
}

/// A world with one service of each form, three backends, and services without backends.
fn small(interface: u32) -> World {
    let mut all = forms(&ROUTES, &[Content::TcpData, Content::Udp]);
    for vip in [Side::V4, Side::V6] {
        for content in [Content::TcpData, Content::Udp] {
            all.push(Form { vip, backends: None, mode: "ipip", protocol: content.protocol(vip) });
        }
    }
    World { services: 1, ports: 1, backends: 3, slots: USUAL_SLOTS, interface, forms: all, table: None }
}

fn forms(routes: &[Route], contents: &[Content]) -> Vec<Form> {
    routes.iter().flat_map(|route| contents.iter().map(|content| route.form(*content))).collect()
}

impl Route {
    fn form(self, content: Content) -> Form {
        let protocol = content.protocol(self.vip);
        Form { vip: self.vip, backends: Some(self.backends), mode: self.mode, protocol }
    }

    fn case(self, content: Content, state: State, flows: u32, world: &World) -> Case {
        let place = match state {
            // An address without a service, whose bit in the filter of VIPs is not set.
            State::NotOurs => 199,
            // Any VIP answers echo requests.
            State::Echo | State::IcmpError => self.place(Content::TcpData, state, world),
            _ => self.place(content, state, world),
        };
        let frame = match self.vip {
            Side::V4 => frames::to_v4(vip_v4(place), content, state.shape()),
            Side::V6 => frames::to_v6(vip_v6(place), content, state.shape()),
        };
        let leaving = self.leaving(content, state, frame.bytes.len());
        let family = match self.vip {
            _ if state.is_forwarded() && state != State::Reject => self.family,
            Side::V4 => "4",
            Side::V6 => "6",
        };
        Case {
            mode: if state.is_forwarded() { self.mode } else { "none" },
            family,
            side: self.vip,
            protocol: content.name(),
            state,
            world: world.clone(),
            stream: Stream {
                frame,
                flows,
                services: world.services * world.ports,
                rewritten: state.is_answered(),
                listed: false,
            },
            leaving,
        }
    }

    /// Index of the service's form in the world's list.
    fn place(self, content: Content, state: State, world: &World) -> u8 {
        let mut form = self.form(content);
        if state == State::Reject {
            form.backends = None;
        }
        let place = world.forms.iter().position(|other| *other == form).expect("a world with this form");
        u8::try_from(place).expect("a few forms")
    }

    fn leaving(self, content: Content, state: State, length: usize) -> Leaving {
        // Length of an ICMP error's headers, and of the longest error (RFC 1812, section 4.3.2.3; RFC 4443, section
        // 2.4).
        let (error, longest) = if self.vip == Side::V4 { (28, 576) } else { (48, 1280) };
        let tag = if state == State::Vlan { 4 } else { 0 };
        let (exit, moved) = match state {
            State::Reject if content == Content::Udp => (Exit::RejectUnreachable, error),
            State::Reject => (Exit::RejectReset, 0),
            State::TtlExceeded => (Exit::TtlExceeded, error),
            State::TooBig => (Exit::TooBig, error),
            State::Echo => (Exit::EchoReply, 0),
            // The error is about no known flow and belongs to no service, and errors are not answered.
            State::IcmpError => (Exit::VipSilent, 0),
            State::NotOurs => (Exit::NotOurs, 0),
            State::Fragment => (Exit::FragmentUnknown, 0),
            State::Malformed => (Exit::Malformed, 0),
            State::Decapsulated => return Leaving::decap(DecapExit::Decapsulated, -header(self.backends)),
            State::NotTunnel => return Leaving::decap(DecapExit::NotTunnel, 0),
            _ if self.mode == "dsr" => (Exit::DsrTx, -tag),
            _ if self.mode == "gue" => (Exit::GueTx, header(self.backends) + 8 - tag),
            _ => (Exit::IpipTx, header(self.backends) - tag),
        };
        let most = if exit == Exit::RejectReset {
            (14 + header(self.vip) + 20).cast_unsigned()
        } else if exit == Exit::TooBig {
            14 + longest
        } else {
            u32::MAX
        };
        let longer = u32::try_from(length).expect("a frame").strict_add_signed(moved);
        Leaving { exit: ProgramExit::Edge(exit), moved, cut: longer.saturating_sub(most) }
    }

    /// A packet that the route's backend receives, through the decapsulation program.
    fn decapsulated(self, world: &World) -> Case {
        let mut case = self.case(Content::TcpData, State::Decapsulated, THOUSAND, world);
        case.mode = self.mode;
        case.family = self.family;
        case.stream.frame = frames::tunnelled(self.backends, self.vip, &case.stream.frame);
        // The link layer of the inner frame overwrites the end of the outer header.
        case.stream.rewritten = true;
        case
    }
}

impl Leaving {
    const fn decap(exit: DecapExit, moved: i32) -> Self {
        Self { exit: ProgramExit::Decap(exit), moved, cut: 0 }
    }
}

/// Length of an IP header in bytes.
const fn header(side: Side) -> i32 {
    match side {
        Side::V4 => 20,
        Side::V6 => 40,
    }
}

fn arp(world: &World) -> Case {
    let frame: Frame = frames::arp();
    let stream = Stream { frame, flows: THOUSAND, services: 1, rewritten: false, listed: false };
    let leaving = Leaving { exit: ProgramExit::Edge(Exit::NotOurs), moved: 0, cut: 0 };
    let (mode, family, protocol, state) = ("none", "none", "arp", State::NotOurs);
    Case { mode, family, side: Side::V4, protocol, state, world: world.clone(), stream, leaving }
}
