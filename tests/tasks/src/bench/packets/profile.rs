//! Counts the instructions that a packet executes, in the interpreter.

#![deny(clippy::wildcard_enum_match_arm)]

use std::{cell::RefCell, collections::BTreeMap, sync::atomic::AtomicU32};

use anyhow::{Context as _, Result, ensure};
use bytemuck::{NoUninit, bytes_of};
use edge_common::{
    abi::{Exit, FlowBucket, FlowCount, FlowCounts, FlowEntry, NatHop, RateLimiter, Traffic, Verdict, map, program},
    flow_table::{Entry, Native, Word},
    host::{FlowArrays, Memory},
};
use edge_tests::{
    both::{self, Program as Which, ProgramExit},
    kernel::{self, Arrival},
    namespace,
};

use super::{
    super::results::Profile,
    cases::{self, Case},
    records,
    state::State,
    translated::{self, Packet},
    world::World,
};
use crate::{
    interpreter::{Content, Machine, Program, Ran},
    programs,
};

/// Time of the clock, nanoseconds.
const CLOCK: u64 = 12_345_678_901;

/// Runs one packet of each important kind through the built load balancer.
///
/// # Errors
/// If the host pipeline treats one of them differently.
pub(in super::super) fn all() -> Result<Vec<Profile>> {
    let object = programs::object("edge")?;
    let [program, nat] = [Program::link(&object, program::EDGE)?, Program::link(&object, program::NAT)?];
    let cases = cases::profiled();
    let ran = run(&program, &cases)?;
    let mut profiles: Vec<_> = cases.iter().zip(&ran).map(|(case, ran)| profile(case, ran)).collect();
    for Packet { mode, family, memory, bytes, exit } in translated::all(CLOCK)? {
        let name = || format!("{mode} {family}");
        let ran =
            same(&program, Some(&nat), &memory, namespace::LO, &bytes, ProgramExit::Edge(exit)).with_context(name)?;
        profiles.push(counted([mode, family, "tcp", State::Steady.name()], &ran));
    }
    Ok(profiles)
}

/// Runs a packet of each of `cases`.
fn run<'a>(program: &Program, cases: &'a [Case]) -> Result<Vec<Ran>> {
    let mut worlds: Vec<(&'a World, Memory)> = Vec::new();
    let mut run = |case: &'a Case| {
        let known = worlds.iter().position(|(world, _)| **world == case.world);
        let place = known.map_or_else(
            || {
                worlds.push((&case.world, case.world.memory()?));
                anyhow::Ok(worlds.len() - 1)
            },
            Ok,
        )?;
        let mut memory = worlds[place].1.clone();
        if case.world.table.is_some() {
            records::prepare(&mut memory, &case.world, &case.stream.frame, case.side, case.state)?;
        }
        one(program, &memory, case)
    };
    cases.iter().map(|case| run(case).with_context(|| name(case))).collect()
}

fn name(case: &Case) -> String {
    format!("{} {} {} {}", case.mode, case.family, case.protocol, case.state.name())
}

/// Content of the load balancer's maps.
fn content(memory: &Memory) -> BTreeMap<&'static str, Content> {
    fn array<T: NoUninit>(entries: &[T]) -> Content {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        Content::Array(bytemuck::cast_slice(entries).to_vec())
    }
    let services = memory.services.len() / 2;
    BTreeMap::from([
        (map::PUBLISHED, array(&[memory.published])),
        (map::SERVICE_INDEX_V4, array(&memory.service_index_v4)),
        (map::SERVICE_INDEX_V6, array(&memory.service_index_v6)),
        (map::SERVICES, array(&memory.services)),
        (map::POOLS, array(&memory.pools)),
        (map::BACKENDS, array(&memory.backends)),
        (map::CANDIDATES, array(&memory.candidates)),
        (map::SLOTS, array(&memory.slots.borrow())),
        (map::FLOW_HEAD, array(&[memory.flows.head])),
        (map::FLOW_INDEX, array(&index(&memory.flows.arrays))),
        (map::FLOWS, array(&entries(&memory.flows.arrays))),
        (map::NAT_HEAD, array(&[memory.nat.head])),
        (map::NAT_INDEX, array(&index(&memory.nat.arrays))),
        (map::NAT_FLOWS, array(&entries(&memory.nat.arrays))),
        (map::NAT_HOPS, array(&hops(memory))),
        (map::FLOW_STATS, array(&vec![FlowCounts::default(); services])),
        (map::FRAGMENTS_V4, Content::Hash { entries: BTreeMap::new(), room: 16 }),
        (map::FRAGMENTS_V6, Content::Hash { entries: BTreeMap::new(), room: 16 }),
        (map::RATE_LIMITS, array(&[RateLimiter::default()])),
        (map::EXITS, array(&[0u64; Exit::ALL.len()])),
        (map::SERVICE_STATS, array(&vec![Traffic::default(); services])),
        (map::BACKEND_STATS, array(&vec![Traffic::default(); memory.backends.len()])),
    ])
}

fn index(arrays: &FlowArrays<Native>) -> Vec<FlowBucket> {
    let bucket = |slots: &Vec<AtomicU32>| FlowBucket(std::array::from_fn(|at| Word::load(&slots[at])));
    arrays.buckets.iter().map(bucket).collect()
}

fn entries(arrays: &FlowArrays<Native>) -> Vec<FlowEntry> {
    arrays.entries.iter().map(Entry::words).collect()
}

fn hops(memory: &Memory) -> Vec<NatHop> {
    memory.nat.hops.iter().map(|hop| NatHop(hop.each_ref().map(Word::load))).collect()
}

/// Keys and records in the layout of the kernel's maps.
fn recorded<K: NoUninit, V: NoUninit>(records: &RefCell<BTreeMap<K, V>>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    records.borrow().iter().map(|(key, record)| (bytes_of(key).to_vec(), bytes_of(record).to_vec())).collect()
}

/// Runs a packet; the host pipeline must produce the same result.
fn one(program: &Program, memory: &Memory, case: &Case) -> Result<Ran> {
    let ran = same(program, None, memory, case.world.interface, &case.stream.frame.bytes, case.leaving.exit)?;
    let counted = |what: FlowCount| flow_counts(memory).iter().map(|counts| counts.0[what as usize]).sum::<u64>();
    for what in FlowCount::ALL {
        let expected = u64::from(case.state.counts().contains(&what));
        if case.state.may_look_up() && what == FlowCount::Lookups {
            continue;
        }
        ensure!(counted(what) == expected, "`{}` is counted {} times", what.name(), counted(what));
    }
    Ok(ran)
}

fn flow_counts(memory: &Memory) -> Vec<FlowCounts> {
    let services = memory.services.len() / 2;
    (0..).take(services).map(|number| memory.flow_counts(number)).collect()
}

/// Runs a packet in the interpreter and on the host; both must produce the same result, and the packet must leave by
/// `exit`. The program `next` goes on with a packet that is handed over, which costs what both execute.
fn same(
    program: &Program,
    next: Option<&Program>,
    memory: &Memory,
    interface: u32,
    frame: &[u8],
    exit: ProgramExit,
) -> Result<Ran> {
    memory.clock_ns.set(CLOCK);
    let mut machine = Machine::new(program, content(memory), CLOCK)?;
    let mut ran = machine.run(frame, interface)?;
    if ran.is_handed_over {
        machine = Machine::new(next.context("it was handed over")?, content(memory), CLOCK)?;
        let rest = machine.run(frame, interface)?;
        let Ran { instructions, lookups, calls, stack, .. } = ran;
        ran = Ran {
            instructions: instructions + rest.instructions,
            lookups: lookups + rest.lookups,
            calls: calls + rest.calls,
            stack: stack + rest.stack,
            ..rest
        };
    }
    let seen = both::on_host(memory, Which::Edge, frame, Arrival::by(interface));
    ensure!(seen.exit == exit, "it left by {}, not {}", seen.exit.name(), exit.name());
    let verdict = match seen.exit.verdict() {
        Verdict::Pass => kernel::PASS,
        Verdict::Drop => kernel::DROP,
        Verdict::Tx => kernel::TX,
        Verdict::Redirect => kernel::REDIRECT,
    };
    ensure!(ran.verdict == u64::from(verdict), "verdict {} in the interpreter, {verdict} on the host", ran.verdict);
    ensure!(ran.frame == seen.frame, "{}", both::difference(&ran.frame, &seen.frame));
    compare(&machine, memory)?;
    Ok(ran)
}

/// Compares the maps after the interpreter's run with the host's.
fn compare(machine: &Machine<'_>, memory: &Memory) -> Result<()> {
    let exits = Exit::ALL.iter().map(|exit| memory.exit_count(*exit)).collect::<Vec<_>>();
    let traffic = |count, of: &dyn Fn(u16) -> Traffic| (0..count).map(of).collect::<Vec<_>>();
    let services = traffic(u16::try_from(memory.services.len() / 2)?, &|number| memory.service_traffic(number.into()));
    let backends = traffic(u16::try_from(memory.backends.len())?, &|number| memory.backend_traffic(number));
    let slots = memory.slots.borrow();
    let (hops, counts) = (hops(memory), flow_counts(memory));
    let tables = [&memory.flows.arrays, &memory.nat.arrays].map(|arrays| (index(arrays), entries(arrays)));
    let [(flow_index, flows), (nat_index, nat_flows)] = &tables;
    let arrays: [(_, &[u8]); 10] = [
        (map::FLOW_INDEX, bytemuck::cast_slice(flow_index)),
        (map::FLOWS, bytemuck::cast_slice(flows)),
        (map::NAT_INDEX, bytemuck::cast_slice(nat_index)),
        (map::NAT_FLOWS, bytemuck::cast_slice(nat_flows)),
        (map::NAT_HOPS, bytemuck::cast_slice(&hops)),
        (map::EXITS, bytemuck::cast_slice(&exits)),
        (map::SERVICE_STATS, bytemuck::cast_slice(&services)),
        (map::BACKEND_STATS, bytemuck::cast_slice(&backends)),
        (map::FLOW_STATS, bytemuck::cast_slice(&counts)),
        (map::SLOTS, bytemuck::cast_slice(&slots)),
    ];
    let arrays = arrays.map(|(map, on_host)| (map, machine.array(map) == on_host));
    let hashes =
        [(map::FRAGMENTS_V4, recorded(&memory.fragments_v4)), (map::FRAGMENTS_V6, recorded(&memory.fragments_v6))];
    let hashes = hashes.map(|(map, on_host)| (map, machine.hash(map) == on_host));
    for (map, same) in arrays.into_iter().chain(hashes) {
        ensure!(same, "{map} differs between the interpreter and the host");
    }
    Ok(())
}

fn profile(case: &Case, ran: &Ran) -> Profile {
    counted([case.mode, case.family, case.protocol, case.state.name()], ran)
}

fn counted(name: [&str; 4], ran: &Ran) -> Profile {
    let [mode, family, protocol, state] = name.map(ToOwned::to_owned);
    Profile {
        mode,
        family,
        protocol,
        state,
        instructions: ran.instructions,
        lookups: ran.lookups,
        calls: ran.calls,
        stack: ran.stack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Including the more numerous kinds that are timed.
    #[test]
    fn packets_are_as_on_the_host() {
        let object = programs::object("edge").expect("the built object (`cargo xtask build`)");
        let program = Program::link(&object, program::EDGE).expect("a program");
        let is_ours = |case: &Case| matches!(case.leaving.exit, ProgramExit::Edge(_));
        let is_small = |case: &Case| case.world.backends <= 3 && case.world.table.is_none_or(|table| table.room <= 2);
        let cases: Vec<_> = cases::timed(true).into_iter().filter(|case| is_ours(case) && is_small(case)).collect();
        assert!(cases.len() > 40, "{}", cases.len());
        if let Err(error) = run(&program, &cases) {
            panic!("{error:#}");
        }
    }
}
