//! Which instructions a packet costs, counted where nothing else runs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use bytemuck::NoUninit;
use edge_common::{
    abi::{Traffic, map, program},
    exit::{Exit, Verdict},
    host::Memory,
};
use edge_tests::{
    both::{self, Program as Which},
    kernel::{self, Arrival},
};

use super::{
    super::results::Profile,
    cases::{self, Case},
};
use crate::{
    interpreter::{Machine, Map, Program, Ran, files},
    programs,
};

/// Steps of a packet's way, in order, with the sources of each: files, or directories, which end in `/`. The first that has
/// a file counts.
const STEPS: [(&str, &[&str]); 8] = [
    ("link layer", &["edge-common/src/frame.rs"]),
    ("IP, transport", &["edge-common/src/ip/", "edge-common/src/transport.rs"]),
    ("hash, index", &["edge-common/src/hash.rs", "edge-common/src/abi/service.rs", "edge-common/src/service_index/"]),
    ("selection", &["edge-common/src/select.rs", "edge-common/src/abi/pool.rs", "edge-common/src/abi/backend.rs"]),
    ("rewrite", &["edge-common/src/forward.rs", "edge-common/src/encap.rs", "edge-common/src/checksum.rs"]),
    ("maps", &["edge-ebpf/src/maps.rs", "edge-common/src/tables.rs", "edge-common/src/abi/"]),
    ("bounds", &["edge-ebpf/src/packet.rs", "edge-common/src/packet.rs"]),
    ("rest", &["edge-common/src/", "edge-ebpf/src/"]),
];
const REST: usize = STEPS.len() - 1;

/// Runs one packet of each important kind through the built load balancer.
///
/// # Errors
/// The host pipeline makes something else of one of them.
pub(in super::super) fn all() -> Result<Vec<Profile>> {
    let object = programs::object("edge")?;
    let program = Program::link(&object, program::EDGE)?;
    let cases = cases::profiled();
    let world = &cases.first().context("no cases")?.world;
    let memory = world.memory()?;
    let mut machine = Machine::new(&program, maps(&memory));
    let run = |case| one(&mut machine, &memory, case).with_context(|| name(case));
    let ran = cases.iter().map(run).collect::<Result<Vec<_>>>()?;

    let places: BTreeSet<_> = ran.iter().flat_map(|ran| &ran.trace).copied().collect();
    let steps = files(&object, &places, step)?;
    ensure!(!steps.is_empty(), "the object has no debugging information");
    Ok(cases.iter().zip(&ran).map(|(case, ran)| profile(case, ran, &steps)).collect())
}

fn name(case: &Case) -> String {
    format!("{} {} {} {}", case.mode, case.family, case.protocol, case.state.name())
}

/// What the load balancer's maps are in the kernel.
fn maps(memory: &Memory) -> BTreeMap<&'static str, Map> {
    fn map<T: NoUninit>(entries: &[T]) -> Map {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        Map { entry: size_of::<T>(), bytes: bytemuck::cast_slice(entries).to_vec() }
    }
    BTreeMap::from([
        (map::PUBLISHED, map(&[memory.published])),
        (map::SERVICE_INDEX_V4, map(&memory.service_index_v4)),
        (map::SERVICE_INDEX_V6, map(&memory.service_index_v6)),
        (map::SERVICES, map(&memory.services)),
        (map::POOLS, map(&memory.pools)),
        (map::BACKENDS, map(&memory.backends)),
        (map::CANDIDATES, map(&memory.candidates)),
        (map::OWNERS, map(&memory.owners.borrow())),
        (map::EXITS, map(&[0u64; Exit::ALL.len()])),
        (map::SERVICE_STATS, map(&vec![Traffic::default(); memory.services.len() / 2])),
        (map::BACKEND_STATS, map(&vec![Traffic::default(); memory.backends.len()])),
    ])
}

/// Runs a packet; the host pipeline must make the same of it.
fn one(machine: &mut Machine<'_>, memory: &Memory, case: &Case) -> Result<Ran> {
    let interface = case.world.interface;
    let seen = both::on_host(memory, Which::Edge, &case.stream.frame.bytes, Arrival::by(interface));
    let ran = machine.run(&case.stream.frame.bytes, interface)?;
    ensure!(seen.way == case.leaving.way, "it left by {}, not {}", seen.way.name(), case.leaving.way.name());
    let verdict = match seen.way.verdict() {
        Verdict::Pass => kernel::PASS,
        Verdict::Drop => kernel::DROP,
        Verdict::Tx => kernel::TX,
        Verdict::Redirect => kernel::REDIRECT,
    };
    ensure!(ran.verdict == u64::from(verdict), "verdict {} in the interpreter, {verdict} on the host", ran.verdict);
    ensure!(ran.frame == seen.frame, "{}", both::difference(&ran.frame, &seen.frame));
    let exits = Exit::ALL.iter().map(|exit| memory.exit_count(*exit)).collect::<Vec<_>>();
    let traffic = |count, of: &dyn Fn(u16) -> Traffic| (0..count).map(of).collect::<Vec<_>>();
    let services = traffic(u16::try_from(memory.services.len() / 2)?, &|number| memory.service_traffic(number.into()));
    let backends = traffic(u16::try_from(memory.backends.len())?, &|number| memory.backend_traffic(number));
    let owners = memory.owners.borrow();
    let kept: [(_, &[u8]); 4] = [
        (map::EXITS, bytemuck::cast_slice(&exits)),
        (map::SERVICE_STATS, bytemuck::cast_slice(&services)),
        (map::BACKEND_STATS, bytemuck::cast_slice(&backends)),
        (map::OWNERS, bytemuck::cast_slice(&owners)),
    ];
    for (map, on_host) in kept {
        ensure!(machine.map(map) == on_host, "{map} differs between the interpreter and the host");
    }
    Ok(ran)
}

/// Number of the step that a source file is part of; none for a library's.
fn step(file: &str) -> Option<usize> {
    let has = |source: &str| {
        if source.ends_with('/') { file.contains(source) } else { file.ends_with(source) }
    };
    STEPS.iter().position(|(_, sources)| sources.iter().any(|source| has(source)))
}

fn profile(case: &Case, ran: &Ran, steps: &BTreeMap<usize, usize>) -> Profile {
    let mut counts = [0; STEPS.len()];
    // What no source of ours stands for goes with what is before it.
    let mut now = REST;
    for place in &ran.trace {
        now = steps.get(place).copied().unwrap_or(now);
        counts[now] += 1;
    }
    Profile {
        mode: case.mode.to_owned(),
        family: case.family.to_owned(),
        protocol: case.protocol.to_owned(),
        state: case.state.name().to_owned(),
        instructions: counts.iter().sum(),
        lookups: ran.lookups,
        stack: ran.stack,
        steps: STEPS.iter().zip(counts).map(|((name, _), count)| ((*name).to_owned(), count)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_part_of_one_step() {
        let name = |file| step(file).map(|number| STEPS[number].0);
        assert_eq!(name("/home/me/edge/edge-common/src/ip/v4.rs"), Some("IP, transport"));
        assert_eq!(name("/home/me/edge/edge-common/src/abi/pool.rs"), Some("selection"));
        assert_eq!(name("edge-common/src/abi/mod.rs"), Some("maps"));
        assert_eq!(name("edge-ebpf/src/main.rs"), Some("rest"));
        assert_eq!(name("/rustc/1/library/core/src/ptr/mod.rs"), None);
        // A source that was moved would be part of the rest.
        for source in STEPS.iter().flat_map(|(_, sources)| *sources) {
            assert!(crate::cargo::root().join(source).exists(), "{source}");
        }
    }

    /// Of those that are timed, too, which are more.
    #[test]
    fn packets_are_as_on_the_host() {
        let object = programs::object("edge").expect("the built object (`cargo xtask build`)");
        let program = Program::link(&object, program::EDGE).expect("a program");
        let cases = cases::timed(true);
        let world = &cases[0].world;
        let memory = world.memory().expect("a world");
        let mut machine = Machine::new(&program, maps(&memory));
        let ours = cases.iter().filter(|case| case.world == *world && matches!(case.leaving.way, both::Way::Edge(_)));
        for case in ours {
            if let Err(error) = one(&mut machine, &memory, case) {
                panic!("{}: {error:#}", name(case));
            }
        }
    }

    #[test]
    fn packets_take_the_steps_that_they_should() {
        let all = all().expect("the built object (`cargo xtask build`) does what the host pipeline does");
        for kind in &all {
            let taken = |name: &str| kind.steps.iter().any(|(step, count)| step == name && *count > 0);
            let is_ours = !kind.name().starts_with("not_ours");
            assert!(taken("link layer") && taken("maps") && taken("bounds") && taken("rest"), "{kind:?}");
            assert_eq!([taken("selection"), taken("rewrite")], [is_ours; 2], "{kind:?}");
            assert_eq!(taken("hash, index"), kind.name() != "not_ours none arp", "{kind:?}");
        }
    }
}
