//! The programs in the kernel, over tables that are half full of the same flows.

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, ProgramArray},
    programs::{TestRun as _, TestRunOptions, Xdp, XdpMode},
};
use edge_bench_ebpf::{HASH_KEY, HashedRecord, TablePlan, VIP, client, table};
use edge_common::{
    abi::{FlowKeyV4, HashKey, Timeouts},
    flow_table::{Birth, Certainty, Class, Flow, FlowTable, Served, Stage},
    hash::Hash,
    wire::protocol,
};
use edge_tests::kernel::MappedFlows;

use super::super::{packets::batch, places::orders};
use crate::programs::{self, Size, object, xdp};

/// No flow ever times out.
const TIMEOUTS: Timeouts = Timeouts::all([i32::MAX; 4]);
const CLASS: Class = Class::new(1).expect("a class");

/// The flows of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flows {
    /// Flows in the tables.
    Known,
    Unknown,
    /// Flows that the program adds to the tables, and that are removed after the run.
    Added,
}

/// The bench's object, with its programs and tables.
pub(super) struct Rig {
    bench: Ebpf,
    /// The kernel empties this map when its last descriptor is closed.
    _programs: ProgramArray<MapData>,
    dense: MappedFlows,
    hashed: MapData,
    flows: u32,
    /// The round at which the next run's flows begin.
    round: u64,
}

fn key(flow: u32) -> FlowKeyV4 {
    let (client, ports) = client(flow);
    FlowKeyV4 { client, vip: VIP, ports, protocol: protocol::TCP.into() }
}

/// A flow in the dense table's format.
const fn flow(key: &FlowKeyV4) -> Flow {
    Flow::v4(key.client.to_ne_bytes(), key.vip.to_ne_bytes(), key.ports, protocol::TCP)
}

fn hash(key: &FlowKeyV4) -> Hash {
    HashKey(HASH_KEY).hash_v4(key.client.to_ne_bytes(), key.ports)
}

impl Rig {
    /// Loads everything, and fills the tables with `flows` flows, a power of two.
    pub(super) fn load(flows: u32) -> Result<Self> {
        let entries = 2 * flows;
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("TABLE_INDEX", entries / 8).map_max_entries("TABLE_ENTRIES", entries);
        let mut bench = loader.map_max_entries("TABLE_HASHED", entries).load(&object("bench")?)?;
        for name in table::NAMES.into_iter().chain(["table_driver"]) {
            programs::load(&mut bench, name)?;
        }
        // For the same reason as the other driver.
        xdp(&mut bench, "table_driver")?.attach("lo", XdpMode::Skb).context("could not attach the driver")?;
        let mut programs = ProgramArray::try_from(bench.take_map("TABLE_PROGRAMS").context("no program array")?)?;
        for (place, name) in (0..).zip(table::NAMES) {
            programs.set(place, xdp(&mut bench, name)?.fd()?, 0)?;
        }
        let map = bench.map_mut("TABLE_TIMEOUTS").context("no time-outs")?;
        Array::<_, [u64; 64]>::try_from(map)?.set(0, bytemuck::cast::<_, [u64; 64]>(TIMEOUTS), 0)?;
        let dense = MappedFlows::new(&bench, "TABLE_INDEX", "TABLE_ENTRIES", entries);
        let Some(Map::HashMap(hashed)) = bench.take_map("TABLE_HASHED") else { bail!("no hash map") };
        let mut rig = Self { bench, _programs: programs, dense, hashed, flows, round: 0 };
        rig.fill()?;
        Ok(rig)
    }

    /// Sizes of the dense table's programs.
    pub(super) fn sizes(&mut self) -> Result<Vec<Size>> {
        ["table_dense", "table_dense_add"].into_iter().map(|name| programs::size(&mut self.bench, name)).collect()
    }

    pub(super) const fn flows(&self) -> u32 {
        self.flows
    }

    /// Adds all flows, in another order than that of the runs. In the hash map, half as many others are added and
    /// removed again, so that its free entries are scattered.
    fn fill(&mut self) -> Result<()> {
        let order = |number: u32| number.wrapping_mul(0x85eb_ca6b).rotate_right(7).wrapping_mul(0xc2b2_ae35);
        let mut numbers: Vec<_> = (0..self.flows / 2 * 3).collect();
        numbers.sort_by_key(|number| order(*number));
        self.insert_hashed(&numbers)?;
        numbers.sort_by_key(|number| order(!*number));
        let (others, own): (Vec<_>, Vec<_>) = numbers.into_iter().partition(|number| *number >= self.flows);
        self.remove_hashed(&others)?;
        for number in own {
            let (key, table) = (key(number), self.table());
            let served = Served { backend: 7, ..Served::default() };
            let birth = Birth { stage: Stage::Established, class: CLASS, certainty: Certainty::Certain, served };
            let (flow, hash) = (flow(&key), hash(&key));
            let is_added = orders(hash, table.mask).any(|places| table.insert(&flow, hash, &birth, &places).is_ok());
            ensure!(is_added, "a half-empty table refused a flow");
        }
        Ok(())
    }

    fn table(&self) -> FlowTable<'_, MappedFlows> {
        FlowTable { memory: &self.dense, mask: 2 * self.flows - 1, timeouts: &TIMEOUTS, now: 0 }
    }

    fn insert_hashed(&self, numbers: &[u32]) -> Result<()> {
        let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
        let records: Vec<_> = keys
            .iter()
            .map(|key| HashedRecord { seen_ns: 0, backend: 7, fingerprint: hash(key).flow_label() })
            .collect();
        batch::update(&self.hashed, bytemuck::cast_slice(&keys), bytemuck::cast_slice(&records), keys.len())
    }

    fn remove_hashed(&self, numbers: &[u32]) -> Result<()> {
        let keys: Vec<_> = numbers.iter().map(|number| key(*number)).collect();
        batch::delete(&self.hashed, bytemuck::cast_slice(&keys), keys.len())
    }

    /// Runs a program on `rounds` flows; returns nanoseconds per flow.
    ///
    /// # Errors
    /// If the program did not do what it is meant to.
    pub(super) fn run(&mut self, program: u32, flows: Flows, rounds: u32) -> Result<f64> {
        let first_flow = if flows == Flows::Known { 0 } else { self.flows };
        let (flow_mask, entry_mask) = (self.flows - 1, 2 * self.flows - 1);
        let plan = TablePlan { rounds: self.round, done: 0, first_flow, flow_mask, entry_mask, program };
        let mut plans: Array<_, [u8; size_of::<TablePlan>()]> =
            Array::try_from(self.bench.map_mut("TABLE_PLAN").context("no plan")?)?;
        plans.set(0, bytemuck::cast::<_, [u8; size_of::<TablePlan>()]>(plan), 0)?;
        let driver: &Xdp = self.bench.program("table_driver").context("no driver")?.try_into()?;
        let options = TestRunOptions { data_in: Some(&[0; 64]), repeat: rounds, ..TestRunOptions::default() };
        let result = driver.test_run(options)?;
        ensure!(result.return_value != 0, "the driver aborted");
        let plans: Array<_, [u8; size_of::<TablePlan>()]> =
            Array::try_from(self.bench.map("TABLE_PLAN").context("no plan")?)?;
        let after: TablePlan = bytemuck::cast(plans.get(&0, 0)?);
        ensure!(after.rounds - self.round == u64::from(rounds), "not all rounds were run");
        let expected = if flows == Flows::Unknown { 0 } else { u64::from(rounds) };
        let name = table::NAMES[program as usize];
        // Occasionally, all positions of a flow are taken.
        let undone = expected.abs_diff(after.done);
        ensure!(undone * 500 <= expected, "{name} did {} of {expected} things", after.done);
        let numbers: Vec<_> = (self.round..after.rounds).map(|round| plan.flow(round)).collect();
        match program {
            table::DENSE_ADD => self.remove_dense(&numbers)?,
            table::HASHED_ADD => self.remove_hashed(&numbers)?,
            _ => {}
        }
        self.round = after.rounds;
        // Whole nanoseconds, rounded down.
        Ok(f64::from(u32::try_from(result.duration.as_nanos())?) + 0.5)
    }

    /// Removes the flows that the program has added, by the same code.
    fn remove_dense(&self, numbers: &[u32]) -> Result<()> {
        for key in numbers.iter().map(|number| key(*number)) {
            let Some(found) = self.table().find(&flow(&key), hash(&key)) else { continue };
            ensure!(found.served.backend == 7, "another backend: {}", found.served.backend);
            self.table().remove(&found);
        }
        Ok(())
    }
}
