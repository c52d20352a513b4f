//! The recorded flows: those of the driver's packets, and others that only take room.

use anyhow::{Context as _, Result, ensure};
use edge_common::{
    abi::{BackendNumber, Tracking},
    flow_table,
    host::{self, FlowRecord, Memory},
    lookup::Lookup,
    wire::{ipv4::V4, ipv6::V6, packet::Packet as _, protocol},
};

use super::{
    frames::Frame,
    state::{Records, State},
    world::{KEY, Side, World},
};

/// Offset of the network header in a frame without a VLAN tag.
const L3: usize = 14;

/// A flow by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flow {
    /// A flow of the driver's packets.
    Own(u32),
    /// A flow of a client that sends nothing.
    Other(u32),
}

impl Flow {
    /// The last four bytes of the client's address and its port, as the driver stamps them.
    const fn client(self) -> ([u8; 4], [u8; 2]) {
        let (net, number) = match self {
            Self::Own(number) => (0xc612_0000, number),
            Self::Other(number) => (0xc613_0000, number),
        };
        ((net + (number >> 14)).to_be_bytes(), (0x4000 | (number & 0x3fff) as u16).to_be_bytes())
    }
}

/// The flow of a plain frame.
pub(super) fn flow_of(frame: &Frame, side: Side) -> Result<flow_table::Flow> {
    match side {
        Side::V4 => read::<V4>(frame),
        Side::V6 => read::<V6>(frame),
    }
}

fn read<F: Lookup>(frame: &Frame) -> Result<flow_table::Flow> {
    let ports = frame.bytes.get(frame.ports_at as usize..).and_then(|bytes| bytes.first_chunk());
    let ports = u32::from_ne_bytes(*ports.context("a frame without ports")?);
    let frame = host::Frame::new(&frame.bytes);
    let header: &F::Header = frame.view(L3).context("a frame that is too short")?;
    Ok(F::flow_between(F::source(header), F::destination(header), ports, protocol::TCP))
}

impl Flow {
    /// The flow in the table's format; `template` is any flow to the same VIP.
    pub(super) fn to(self, template: &flow_table::Flow, side: Side) -> flow_table::Flow {
        let (address, [high, low]) = self.client();
        let ports = template.ends & !0xffff | u64::from(u16::from_le_bytes([high, low]));
        let client = match side {
            Side::V4 => [u32::from_ne_bytes(address).into(), 0],
            Side::V6 => {
                let [high, low] = template.client;
                [high, low & 0xffff_ffff | u64::from(u32::from_le_bytes(address)) << 32]
            }
        };
        flow_table::Flow { client, ends: ports, ..*template }
    }

    /// Some backend of the flow's family.
    pub(super) fn backend(self, world: &World, side: Side) -> BackendNumber {
        let (Self::Own(number) | Self::Other(number)) = self;
        let place = u16::try_from(number % u32::from(world.backends)).expect("below another one");
        world.first_backend(side) + place
    }
}

/// Prepares `memory` for packets of `frame` in `state`: the records, and the owners of the slots.
pub(super) fn prepare(memory: &mut Memory, world: &World, frame: &Frame, side: Side, state: State) -> Result<()> {
    let slots = world.slots(memory, state);
    *memory.slots.borrow_mut() = slots;
    let flows: Vec<_> = match state.records() {
        Records::Free => Vec::new(),
        Records::Own | Records::Aged => vec![Flow::Own(0)],
        Records::Full => (0..=memory.flows.head.mask).map(Flow::Other).collect(),
    };
    let template = flow_of(frame, side)?;
    for flow in flows {
        let record = FlowRecord { backend: flow.backend(world, side), ..FlowRecord::default() };
        let added = memory.flows.put(&KEY, Tracking::Tcp, &flow.to(&template, side), &record);
        ensure!(added.is_ok(), "no room for a flow that is to be recorded");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            frames::{self, Content, Shape},
            world::{vip_v4, vip_v6},
        },
        *,
    };

    #[test]
    fn the_first_flow_is_that_of_a_frame_as_it_is_built() {
        let frame = frames::to_v4(vip_v4(0), Content::TcpData, Shape::Plain);
        let flow = flow_of(&frame, Side::V4).expect("a plain frame");
        assert_eq!(Flow::Own(0).to(&flow, Side::V4), flow);
        let frame = frames::to_v6(vip_v6(0), Content::TcpSyn, Shape::Plain);
        let flow = flow_of(&frame, Side::V6).expect("a plain frame");
        assert_eq!(Flow::Own(0).to(&flow, Side::V6), flow);
    }

    #[test]
    fn flows_differ_in_what_the_driver_stamps() {
        let frame = frames::to_v6(vip_v6(0), Content::TcpData, Shape::Plain);
        let template = flow_of(&frame, Side::V6).expect("a plain frame");
        let ends = |flow: Flow| {
            let ends = flow.to(&template, Side::V6).ends();
            (ends.client.to_string(), ends.client_port, ends.port)
        };
        let client = |end: &str| format!("2001:db8:1::{end}");
        assert_eq!(ends(Flow::Own(0x3fff)), (client("c612:0"), 0x7fff, 1000));
        assert_eq!(ends(Flow::Own(0x4001)), (client("c612:1"), 0x4001, 1000));
        assert_eq!(ends(Flow::Other(0x4001)), (client("c613:1"), 0x4001, 1000));
    }
}
