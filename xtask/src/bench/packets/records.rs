//! The flows that are recorded: those that the driver sends packets of, and others that only take room.

use anyhow::{Context as _, Result};
use bytemuck::NoUninit;
use edge_common::{
    abi::{FlowKeyV4, FlowKeyV6, FlowRecord},
    host::{self, FlowTable, Memory},
    lookup::{Lookup, hash::Hash},
    wire::{ipv4::V4, ipv6::V6, packet::Packet as _, protocol},
};

use super::{
    frames::Frame,
    state::{Records, State},
    world::{KEY, Side, World},
};

/// Of the network header of a frame without a VLAN tag.
const L3: usize = 14;

/// A flow, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Flow {
    /// The driver's.
    Own(u32),
    /// Of a client that sends nothing.
    Other(u32),
}

impl Flow {
    /// The client's address, of IPv6 its last four bytes; its port follows. As the driver stamps them.
    const fn client(self) -> ([u8; 4], [u8; 2]) {
        let (net, number) = match self {
            Self::Own(number) => (0xc612_0000, number),
            Self::Other(number) => (0xc613_0000, number),
        };
        ((net + (number >> 14)).to_be_bytes(), (0x4000 | (number & 0x3fff) as u16).to_be_bytes())
    }
}

/// A key of the flow records of one family.
pub(super) trait FlowKey: NoUninit + Ord {
    /// That of the flow that `frame`, a plain one, is of.
    fn of(frame: &Frame) -> Result<Self>;
    /// The key of another flow to the same VIP.
    fn with(self, flow: Flow) -> Self;
    fn hash(&self) -> Hash;
    fn table(memory: &mut Memory) -> &mut FlowTable<Self>;
}

impl FlowKey for FlowKeyV4 {
    fn of(frame: &Frame) -> Result<Self> {
        key::<V4>(frame)
    }

    fn with(self, flow: Flow) -> Self {
        let (address, port) = flow.client();
        Self { client: u32::from_ne_bytes(address), ports: from_port(self.ports, port), ..self }
    }

    fn hash(&self) -> Hash {
        KEY.hash_v4(self.client.to_ne_bytes(), self.ports)
    }

    fn table(memory: &mut Memory) -> &mut FlowTable<Self> {
        &mut memory.flows_v4
    }
}

impl FlowKey for FlowKeyV6 {
    fn of(frame: &Frame) -> Result<Self> {
        key::<V6>(frame)
    }

    fn with(self, flow: Flow) -> Self {
        let (address, port) = flow.client();
        let [high, low] = self.client;
        let low = low & 0xffff_ffff | u64::from(u32::from_le_bytes(address)) << 32;
        Self { client: [high, low], ports: from_port(self.ports, port), ..self }
    }

    fn hash(&self) -> Hash {
        KEY.hash_v6(bytemuck::cast(self.client), self.ports)
    }

    fn table(memory: &mut Memory) -> &mut FlowTable<Self> {
        &mut memory.flows_v6
    }
}

fn key<F: Lookup>(frame: &Frame) -> Result<F::FlowKey> {
    let ports = frame.bytes.get(frame.ports_at as usize..).and_then(|bytes| bytes.first_chunk());
    let ports = u32::from_ne_bytes(*ports.context("a frame without ports")?);
    let frame = host::Frame::new(&frame.bytes);
    let header: &F::Header = frame.view(L3).context("a frame that is too short")?;
    Ok(F::flow_key(F::source(header), F::destination(header), ports, protocol::TCP))
}

/// The two ports with another one of the client.
const fn from_port(ports: u32, [high, low]: [u8; 2]) -> u32 {
    ports & 0xffff_0000 | u16::from_le_bytes([high, low]) as u32
}

/// What is recorded of a flow: some backend of its family.
pub(super) fn record<K: FlowKey>(key: &K, flow: Flow, world: &World, side: Side) -> FlowRecord {
    let (Flow::Own(number) | Flow::Other(number)) = flow;
    let place = u16::try_from(number % u32::from(world.backends)).expect("below another one");
    let backend = world.first_backend(side) + place;
    FlowRecord::new(backend, key.hash().fingerprint(), 0)
}

/// Puts into `memory` what a packet of `frame` in `state` is to find: the records that there are, and who owns the slots.
pub(super) fn prepare(memory: &mut Memory, world: &World, frame: &Frame, side: Side, state: State) -> Result<()> {
    let slots = world.slots(memory, state);
    *memory.slots.borrow_mut() = slots;
    match side {
        Side::V4 => prepare_table::<FlowKeyV4>(memory, world, frame, side, state),
        Side::V6 => prepare_table::<FlowKeyV6>(memory, world, frame, side, state),
    }
}

fn prepare_table<K: FlowKey>(
    memory: &mut Memory,
    world: &World,
    frame: &Frame,
    side: Side,
    state: State,
) -> Result<()> {
    let table = K::table(memory);
    let flows: Vec<_> = match state.records() {
        Records::Free => Vec::new(),
        Records::Own => vec![Flow::Own(0)],
        Records::Full => (0..u32::try_from(table.room)?).map(Flow::Other).collect(),
    };
    let template = K::of(frame)?;
    table.records.get_mut().extend(flows.into_iter().map(|flow| {
        let key = template.with(flow);
        (key, record(&key, flow, world, side))
    }));
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
        let key = FlowKeyV4::of(&frame).expect("a plain frame");
        assert_eq!(key.with(Flow::Own(0)), key);
        let frame = frames::to_v6(vip_v6(0), Content::TcpSyn, Shape::Plain);
        let key = FlowKeyV6::of(&frame).expect("a plain frame");
        assert_eq!(key.with(Flow::Own(0)), key);
    }

    #[test]
    fn flows_differ_in_what_the_driver_stamps() {
        let frame = frames::to_v6(vip_v6(0), Content::TcpData, Shape::Plain);
        let key = FlowKeyV6::of(&frame).expect("a plain frame");
        let ends = |flow| {
            let ends = key.with(flow).ends();
            (ends.client.to_string(), ends.client_port, ends.port)
        };
        let client = |end: &str| format!("2001:db8:1::{end}");
        assert_eq!(ends(Flow::Own(0x3fff)), (client("c612:0"), 0x7fff, 1000));
        assert_eq!(ends(Flow::Own(0x4001)), (client("c612:1"), 0x4001, 1000));
        assert_eq!(ends(Flow::Other(0x4001)), (client("c613:1"), 0x4001, 1000));
    }
}
