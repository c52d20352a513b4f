//! The cost of translating a packet, in both directions, compared with `dsr`, bare reads, and a program with two hash
//! maps.
//!
//! As with the flow tables, each turn runs all programs on the same flows, one after the other, between two runs of a
//! program that returns immediately. The time of that program is subtracted; ratios are within a turn, and the rows
//! contain medians.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::{Ebpf, maps::Map};
use edge_bench_ebpf::{HashedFlow, HashedPath};
use edge_common::{
    abi::{Exit, Family, Mode, NatChoice, NatHead, NatSource, Station, Tracking, map},
    flow_table::{Birth, Certainty, FlowTable, Stage, words_of},
    host::{Memory, Nat},
    nat::{self, OnePlace, Translation},
    tables::service_index,
    wire::protocol,
};
use edge_tests::{both::ProgramExit, kernel::MappedFlows, namespace};
use nix::sched::{CloneFlags, unshare};
use xtask::step::step;

use super::{
    super::results::{self, Results, median},
    batch,
    frames::{self, CLIENT_MAC, Content, EDGE_MAC, Shape},
    loaded,
    processors::Processors,
    records::{self, Flow},
    rig::Rig,
    stream::{Leaving, Measured, Stream},
    world::{Form, KEY, Side, USUAL_SLOTS, World, vip_v4},
};

/// Source address of translated packets, and the range of its ports.
pub(super) const SOURCE: [u8; 4] = [10, 0, 0, 9];
pub(super) const FIRST_PORT: u16 = 16_384;
pub(super) const PORTS: u32 = 16_384;
/// Port of the backends in network order.
pub(super) const BACKEND_PORT: u16 = 8443_u16.to_be();
/// Number of the hop to the clients' router.
pub(super) const HOP: u8 = 1;
/// Number of packets in a run.
const ROUNDS: u32 = 1_999;
/// Maximum excess of a turn's baseline over the best one of all turns.
const PACE: f64 = 0.25;

/// The frames of a work.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Frames {
    ToDsr,
    Forward,
    Back,
}

/// A kind of work, and the works to compare it with.
struct Work {
    name: &'static str,
    frames: Frames,
    target: Measured,
    /// Indexes of the work with as many bare reads, and of the program with hash maps.
    beside: Option<(usize, usize)>,
}

const fn ours(exit: Exit) -> Measured {
    Measured::Ours(Leaving { exit: ProgramExit::Edge(exit), moved: 0, cut: 0 })
}

const fn work(name: &'static str, frames: Frames, target: Measured, beside: Option<(usize, usize)>) -> Work {
    Work { name, frames, target, beside }
}

const DSR: usize = 0;
const WORKS: [Work; 7] = [
    work("dsr", Frames::ToDsr, ours(Exit::DsrTx), None),
    work("one read", Frames::Back, Measured::Reads(1), None),
    work("two reads", Frames::Forward, Measured::Reads(2), None),
    work("two hash maps, forward", Frames::Forward, Measured::Hashed, None),
    work("two hash maps, back", Frames::Back, Measured::Hashed, None),
    work("nat, forward", Frames::Forward, ours(Exit::NatTx), Some((2, 3))),
    work("nat, back", Frames::Back, ours(Exit::NatReplyTx), Some((1, 4))),
];

/// Nanoseconds of each work in one turn.
struct Turn {
    slower_base: f64,
    net: [f64; WORKS.len()],
}

/// Measures translation. The calling thread is left in a new network namespace.
pub(in super::super) fn measure(results: &mut Results, quick: bool) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("could not make a network namespace")?;
    let processors = Processors::all()?;
    for flows in [1, 1 << 10, 1 << 17, 1 << 20] {
        let mut bench = step(&format!("{flows} translated flows"), || Bench::load(flows))?;
        processors.choose(|| bench.rig.base(&bench.streams[0]))?;
        let end = Instant::now() + Duration::from_secs(if quick { 4 } else { 25 });
        let mut turns = vec![bench.turn()?];
        while Instant::now() < end {
            turns.push(bench.turn()?);
        }
        bench.is_as_it_was()?;
        let fastest = turns.iter().map(|turn| turn.slower_base).fold(f64::INFINITY, f64::min);
        turns.retain(|turn| turn.slower_base < (1.0 + PACE) * fastest);
        results.nat.extend((0..WORKS.len()).map(|place| row(place, flows, &turns)));
    }
    Ok(())
}

fn row(place: usize, flows: u32, turns: &[Turn]) -> results::Nat {
    let work = &WORKS[place];
    let net_ns = median(turns.iter().map(|turn| turn.net[place]));
    let (more_reads, ratio_hash_maps) = work.beside.map_or((f64::NAN, f64::NAN), |(reads, hashed)| {
        // From differences of medians, since those within a turn may be close to zero.
        let of = |place: usize| median(turns.iter().map(|turn| turn.net[place]));
        ((net_ns - of(DSR)) / of(reads), median(turns.iter().map(|turn| turn.net[place] / turn.net[hashed])))
    });
    results::Nat {
        work: work.name.to_owned(),
        flows,
        net_ns,
        ratio_dsr: median(turns.iter().map(|turn| turn.net[place] / turn.net[DSR])),
        more_reads,
        ratio_hash_maps,
        spread: median(turns.iter().map(|turn| (turn.net[place] - net_ns).abs())) / net_ns,
        turns: turns.len(),
    }
}

/// The programs over a table that is half full of these flows.
struct Bench {
    rig: Rig,
    table: MappedFlows,
    head: NatHead,
    streams: [Stream; 3],
}

impl Bench {
    fn load(flows: u32) -> Result<Self> {
        let form = Form { vip: Side::V4, backends: Some(Side::V4), mode: "dsr", protocol: protocol::TCP };
        let world = World {
            services: 1,
            ports: 1,
            // Each backend has at most as many flows as there are ports.
            backends: u16::try_from(2 * flows / PORTS)?.max(3),
            slots: USUAL_SLOTS,
            interface: namespace::LO,
            forms: vec![form, form],
            table: None,
        };
        let mut memory = world.memory()?;
        translate(&mut memory, flows);
        let (head, entries) = (memory.nat.head, memory.nat.head.flows.mask + 1);
        let sizes = [
            ("BENCH_FLOWS", flows),
            ("TABLE_INDEX", (entries / 8).max(2)),
            ("TABLE_ENTRIES", entries),
            ("HASHED_FORTH", entries),
            ("HASHED_BACK", entries),
        ];
        let stream = |frame, listed| Stream { frame, flows, services: 1, rewritten: true, listed };
        let to = |vip| frames::to_v4(vip, Content::TcpData, Shape::Plain);
        let streams = [stream(to(vip_v4(1)), false), stream(to(vip_v4(0)), false), stream(to(SOURCE), true)];
        let mut rig = Rig::over(&world, memory.clone(), &sizes)?;
        let (bench, edge) = rig.objects();
        let table = MappedFlows::new(edge, map::NAT_INDEX, map::NAT_FLOWS, entries);
        learn_hop(edge)?;
        fill(bench, &memory, &world, &table, &streams[Frames::Forward as usize], flows)?;
        Ok(Self { rig, table, head, streams })
    }

    fn turn(&mut self) -> Result<Turn> {
        let mut base = |listed: bool| self.rig.base_of(&self.streams[usize::from(listed) * 2], ROUNDS);
        let before = [base(false)?, base(true)?];
        let mut raw = [0.0; WORKS.len()];
        for (raw, work) in raw.iter_mut().zip(&WORKS) {
            *raw = self.rig.run(work.target, &self.streams[work.frames as usize], ROUNDS).context(work.name)?;
        }
        let mut base = |listed: bool| self.rig.base_of(&self.streams[usize::from(listed) * 2], ROUNDS);
        let after = [base(false)?, base(true)?];
        let of = |work: &Work| {
            let listed = usize::from(work.frames == Frames::Back);
            f64::midpoint(before[listed], after[listed])
        };
        let mut net = raw;
        net.iter_mut().zip(&WORKS).for_each(|(net, work)| *net -= of(work));
        Ok(Turn { slower_base: before[0].max(after[0]), net })
    }

    /// Checks that packets found the return hop in their entries: otherwise they would have learnt another one.
    fn is_as_it_was(&self) -> Result<()> {
        let table = table(&self.table, &self.head);
        let (_, found) = (0..=self.head.flows.mask).find_map(|number| table.read(number)).context("no flow is left")?;
        ensure!(Translation::of(found.served).hop == HOP, "flows have another path back");
        Ok(())
    }
}

fn table<'a>(memory: &'a MappedFlows, head: &'a NatHead) -> FlowTable<'a, MappedFlows> {
    FlowTable { memory, mask: head.flows.mask, timeouts: &head.flows.timeouts, now: 0 }
}

/// Makes the first service a translated one, with a table twice as large as the number of flows.
fn translate(memory: &mut Memory, flows: u32) {
    for entry in &mut memory.service_index_v4 {
        if entry.key.vip == vip_v4(0) && entry.key.protocol == protocol::TCP {
            entry.service_ref = entry.service_ref.with_mode(Mode::Nat);
        }
    }
    for service in &mut memory.services {
        service.backend_port = BACKEND_PORT.to_ne_bytes();
    }
    for generation in &mut memory.published.generations {
        generation.translates = 1;
        generation.vip_bits = service_index::vip_bits([vip_v4(0), vip_v4(1), SOURCE].map(Into::into));
    }
    let lanes = (2 * flows).div_ceil(PORTS);
    // Nothing times out: a year.
    let mut head = NatHead::new(KEY, FIRST_PORT, PORTS, lanes, |_| 31_536_000_000_000_000);
    let mut address = [0; 16];
    address[..4].copy_from_slice(&SOURCE);
    head.sources[0] = NatSource { address, family: Family::V4 as u32, reserved: 0 };
    head.sources_v4 = NatChoice { count: 1, ..NatChoice::default() };
    memory.nat = Nat::new(head);
}

/// Stores the hop to the clients' router, as packets would learn it.
fn learn_hop(edge: &mut Ebpf) -> Result<()> {
    let own = EDGE_MAC.0;
    let words = [CLIENT_MAC.0, Station::new(namespace::LO, EDGE_MAC).0, own, namespace::LO.into()];
    let size = size_of_val(&words);
    let hops = loaded::mapped(edge, map::NAT_HOPS, 256 * size)?;
    let bytes: &[u8] = bytemuck::cast_slice(&words);
    // SAFETY: the mapping has 256 hops, and no program uses it at the moment.
    unsafe { hops.as_mut_ptr().add(usize::from(HOP) * size).copy_from_nonoverlapping(bytes.as_ptr(), size) };
    Ok(())
}

/// Adds flows to the table and to the hash maps, and their backends' packets to the driver's list.
fn fill(
    bench: &mut Ebpf,
    memory: &Memory,
    world: &World,
    table_memory: &MappedFlows,
    forward: &Stream,
    flows: u32,
) -> Result<()> {
    let (head, template) = (&memory.nat.head, records::flow_of(&forward.frame, Side::V4)?);
    let table = table(table_memory, head);
    let mut source = [0; 16];
    source[..4].copy_from_slice(&SOURCE);
    let word = u32::from_ne_bytes;
    let (mut listed, mut keys, mut paths) = (Vec::new(), [Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for number in 0..flows {
        let own = Flow::Own(number);
        let (flow, backend) = (own.to(&template, Side::V4), own.backend(world, Side::V4));
        let address = memory.backends[usize::from(backend)].address;
        let hash = flow.hash(&head.hash_key);
        let tuple = nat::tuple(head, words_of(address, false), words_of(source, false), BACKEND_PORT, protocol::TCP);
        let translation = Translation { backend, hop: HOP, port: BACKEND_PORT, ..Translation::default() };
        let birth = Birth {
            stage: Stage::Established,
            class: Tracking::Tcp.into(),
            certainty: Certainty::Certain,
            served: translation.served(0),
        };
        let offset = |turn: u64| {
            let mixed = (hash.0 ^ turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed >> 40) as u32 % PORTS
        };
        let mut tried = (0..10_000).map(|turn| nat::place(head, tuple, offset(turn)));
        let place = tried.find_map(|place| table.insert(&flow, hash, &birth, &OnePlace(place)).ok());
        let port = nat::port_of(head, place.context("a half-empty table refused a flow")?);
        let backend_word = word([address[0], address[1], address[2], address[3]]);
        let ports = u32::from(BACKEND_PORT) | u32::from(port.to_be()) << 16;
        listed.push([backend_word, ports]);
        let client = flow.ends();
        let std::net::IpAddr::V4(client_v4) = client.client else { continue };
        let client_word = word(client_v4.octets());
        let client_ports = u32::from(client.client_port.to_be()) | u32::from(client.port.to_be()) << 16;
        let protocol = u32::from(protocol::TCP);
        let vip = word(vip_v4(0));
        keys[0].push(HashedFlow { source: client_word, destination: vip, ports: client_ports, protocol });
        paths[0].push(path(word(SOURCE), backend_word, ports.rotate_left(16)));
        keys[1].push(HashedFlow { source: backend_word, destination: word(SOURCE), ports, protocol });
        paths[1].push(path(vip, client_word, client_ports.rotate_left(16)));
    }
    let list = loaded::mapped(bench, "BENCH_FLOWS", 8 * listed.len())?;
    let bytes: &[u8] = bytemuck::cast_slice(&listed);
    // SAFETY: the mapping has an element for each value, and no program uses it at the moment.
    unsafe { list.as_mut_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    // In another order than that of the packets.
    let mut order: Vec<_> = (0..listed.len()).collect();
    order.sort_by_key(|number| (*number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for ((name, keys), paths) in ["HASHED_FORTH", "HASHED_BACK"].into_iter().zip(&keys).zip(&paths) {
        let Some(Map::HashMap(hashed)) = bench.map(name) else { anyhow::bail!("no hash map `{name}`") };
        let keys: Vec<_> = order.iter().map(|number| keys[*number]).collect();
        let paths: Vec<_> = order.iter().map(|number| paths[*number]).collect();
        batch::update(hashed, bytemuck::cast_slice(&keys), bytemuck::cast_slice(&paths), keys.len())?;
    }
    Ok(())
}

fn path(source: u32, destination: u32, ports: u32) -> HashedPath {
    HashedPath {
        seen_ns: 0,
        source,
        destination,
        ports,
        changes: [0x1234, 0x2345],
        addresses: [0x0202, 0x0303, 0x0404],
        flags: 0,
    }
}
