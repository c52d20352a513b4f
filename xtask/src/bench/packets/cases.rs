//! What is measured: the rows of the table.

use edge_common::exit::Exit;

use super::{
    frames::{self, Content, Flaw},
    rig::Stream,
    world::{Form, Side, World, vip_v4, vip_v6},
};

/// What the packets of a row meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// The slot's owner is alive, and the one that takes new flows.
    Steady,
    /// Each SYN finds that another backend takes new flows, and makes it the owner.
    OwnerMoved,
    /// No backend is left.
    Reject,
    NotOurs,
    Fragment,
    Malformed,
}

impl State {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::OwnerMoved => "owner_moved",
            Self::Reject => "reject",
            Self::NotOurs => "not_ours",
            Self::Fragment => "fragment",
            Self::Malformed => "malformed",
        }
    }
}

/// One row.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) mode: &'static str,
    /// Inner family, and outer one: `4in6` is IPv4 in IPv6.
    pub(super) family: &'static str,
    pub(super) protocol: &'static str,
    pub(super) state: State,
    pub(super) world: World,
    pub(super) stream: Stream,
    pub(super) exit: Exit,
    /// Bytes that the program moves the head by.
    pub(super) moved: u32,
}

const SLOTS: u32 = 65_536;
/// So many that hardly two SYNs of a batch fall into one slot.
const MANY_SLOTS: u32 = 1 << 20;
const THOUSAND: u32 = 1 << 10;
const HUNDRED_THOUSAND: u32 = 1 << 17;
const MILLION: u32 = 1 << 20;

/// Every way to forward.
const WAYS: [Way; 6] = [
    Way { mode: "dsr", family: "4", vip: Side::V4, backends: Side::V4 },
    Way { mode: "dsr", family: "6", vip: Side::V6, backends: Side::V6 },
    TUNNEL_V4,
    TUNNEL_V6,
    Way { mode: "ipip", family: "4in6", vip: Side::V4, backends: Side::V6 },
    Way { mode: "ipip", family: "6in4", vip: Side::V6, backends: Side::V4 },
];
const TUNNEL_V4: Way = Way { mode: "ipip", family: "4in4", vip: Side::V4, backends: Side::V4 };
const TUNNEL_V6: Way = Way { mode: "ipip", family: "6in6", vip: Side::V6, backends: Side::V6 };

#[derive(Clone, Copy)]
struct Way {
    mode: &'static str,
    family: &'static str,
    vip: Side,
    backends: Side,
}

/// All rows, those of one world together.
pub(super) fn all(quick: bool) -> Vec<Case> {
    let flows: &[u32] = if quick { &[THOUSAND, MILLION] } else { &[1, THOUSAND, HUNDRED_THOUSAND, MILLION] };
    let contents = [Content::TcpData, Content::TcpSyn, Content::Udp];
    let mut cases = Vec::new();
    for way in WAYS {
        for content in contents {
            let all = way.mode == "ipip" && content == Content::TcpData;
            let wanted = |count: u32| if quick { all || count == THOUSAND } else { all || count >= THOUSAND };
            for &count in flows.iter().filter(|count| wanted(**count)) {
                cases.push(way.case(content, State::Steady, count, small()));
            }
        }
    }
    for content in contents {
        for way in [TUNNEL_V4, TUNNEL_V6] {
            cases.push(way.case(content, State::Reject, THOUSAND, small()));
        }
    }
    for way in [TUNNEL_V4, TUNNEL_V6] {
        for state in [State::Fragment, State::Malformed, State::NotOurs] {
            cases.push(way.case(Content::TcpData, state, THOUSAND, small()));
        }
        cases.push(way.case(Content::Udp, State::NotOurs, THOUSAND, small()));
    }
    cases.push(arp());

    let sizes: &[(u32, u16)] =
        if quick { &[(1000, 1000)] } else { &[(1, 1000), (100, 3), (100, 1000), (1000, 3), (1000, 1000)] };
    for &(services, backends) in sizes {
        let world =
            World { services, backends, slots: SLOTS, forms: forms(&[TUNNEL_V4, TUNNEL_V6], &[Content::TcpData]) };
        for way in [TUNNEL_V4, TUNNEL_V6] {
            for &count in flows.iter().filter(|count| **count == THOUSAND || **count == MILLION) {
                cases.push(way.case(Content::TcpData, State::Steady, count, world.clone()));
            }
            cases.push(way.case(Content::TcpData, State::NotOurs, THOUSAND, world.clone()));
        }
    }

    let world = World {
        services: 1,
        backends: 3,
        slots: MANY_SLOTS,
        forms: forms(&[TUNNEL_V4, TUNNEL_V6], &[Content::TcpSyn]),
    };
    for way in [TUNNEL_V4, TUNNEL_V6] {
        cases.push(way.case(Content::TcpSyn, State::OwnerMoved, MILLION, world.clone()));
    }
    cases
}

/// One service of each form, three backends, and services that have none.
fn small() -> World {
    let mut all = forms(&WAYS, &[Content::TcpData, Content::Udp]);
    for vip in [Side::V4, Side::V6] {
        for content in [Content::TcpData, Content::Udp] {
            all.push(Form { vip, backends: None, ipip: true, protocol: content.protocol() });
        }
    }
    World { services: 1, backends: 3, slots: SLOTS, forms: all }
}

fn forms(ways: &[Way], contents: &[Content]) -> Vec<Form> {
    ways.iter().flat_map(|way| contents.iter().map(|content| way.form(*content))).collect()
}

impl Way {
    fn form(self, content: Content) -> Form {
        Form { vip: self.vip, backends: Some(self.backends), ipip: self.mode == "ipip", protocol: content.protocol() }
    }

    fn case(self, content: Content, state: State, flows: u32, world: World) -> Case {
        let form =
            Form { backends: if state == State::Reject { None } else { Some(self.backends) }, ..self.form(content) };
        let place = world.forms.iter().position(|other| *other == form).expect("a world with this form");
        // An address that is nobody's.
        let place = if state == State::NotOurs { 200 } else { u8::try_from(place).expect("a few forms") };
        let flaw = match state {
            State::Fragment => Flaw::Fragment,
            State::Malformed => Flaw::CutOff,
            _ => Flaw::None,
        };
        let (frame, side) = match self.vip {
            Side::V4 => frames::ip(&vip_v4(place), content, flaw),
            Side::V6 => frames::ip(&vip_v6(place), content, flaw),
        };
        let outer = match (self.mode, self.backends) {
            ("dsr", _) => 0,
            (_, Side::V4) => 20,
            (_, Side::V6) => 40,
        };
        let (exit, moved) = match state {
            State::Steady | State::OwnerMoved if self.mode == "dsr" => (Exit::DsrTx, 0),
            State::Steady | State::OwnerMoved => (Exit::IpipTx, outer),
            State::Reject if content == Content::Udp => {
                (Exit::RejectUnreachable, if self.vip == Side::V4 { 28 } else { 48 })
            }
            State::Reject => (Exit::RejectReset, 0),
            State::NotOurs => (Exit::NotOurs, 0),
            State::Fragment => (Exit::Fragment, 0),
            State::Malformed => (Exit::Malformed, 0),
        };
        let services = world.services;
        let forwarded = matches!(state, State::Steady | State::OwnerMoved | State::Reject);
        Case {
            mode: if forwarded { self.mode } else { "none" },
            family: match (forwarded, self.vip) {
                (true, _) if state != State::Reject => self.family,
                (_, Side::V4) => "4",
                (_, Side::V6) => "6",
            },
            protocol: content.name(),
            state,
            world,
            stream: Stream { frame, side, flows, services, answered: state == State::Reject },
            exit,
            moved,
        }
    }
}

fn arp() -> Case {
    let (frame, side) = frames::arp();
    let stream = Stream { frame, side, flows: THOUSAND, services: 1, answered: false };
    Case {
        mode: "none",
        family: "none",
        protocol: "arp",
        state: State::NotOurs,
        world: small(),
        stream,
        exit: Exit::NotOurs,
        moved: 0,
    }
}
