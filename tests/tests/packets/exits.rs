//! Every exit and every mode: each case of the table through the real program and through the host pipeline. Whole
//! frames are compared with frames that were built independently of both.

use std::collections::BTreeSet;

use edge_common::abi::{DecapExit, Exit, Traffic};
use edge_tests::{
    both::{Both, ProgramExit, difference, hex},
    cases::{self, Case, Forwarded, Scene},
    namespace::in_namespace,
    packet::verify,
};

#[test]
fn every_case_has_the_result_in_the_table() {
    check_cases(&Scene::new(), |_| true);
}

/// The other variant of `gue`, and a source of each flow's own in `ipip`.
#[test]
fn tunnels_have_other_forms() {
    let tunnelled = |case: &Case| {
        let is_tunnels = [Exit::GueTx, Exit::GueRedirect, Exit::IpipTx, Exit::IpipRedirect, Exit::TooBig];
        matches!(case.exit, ProgramExit::Edge(exit) if is_tunnels.contains(&exit))
    };
    check_cases(&Scene::with(0, true), tunnelled);
}

fn check_cases(scene: &Scene, are_meant: impl Fn(&Case) -> bool) {
    let mut cases = cases::runnable(scene, "every_case_has_the_result_in_the_table");
    cases.retain(are_meant);
    let failures = in_namespace(|| {
        let both = Both::new(scene.world.clone());
        cases.iter().filter_map(|case| check(&both, case).err().map(|error| report(case, &error))).collect::<Vec<_>>()
    });
    println!("{} cases", cases.len());
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

#[test]
fn every_exit_has_a_case_and_every_case_a_name_of_its_own() {
    let cases = cases::all(&Scene::new());
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    let has = |exit: ProgramExit| cases.iter().any(|case| case.exit == exit);
    let edge = Exit::ALL.iter().filter(|exit| !cases::OF_NO_CASE.contains(exit)).map(|exit| ProgramExit::Edge(*exit));
    // Moving a frame's start towards its end by less than its length always succeeds, so no frame takes this exit.
    let reachable = DecapExit::ALL.iter().filter(|exit| **exit != DecapExit::DecapNoRoom);
    let missing: Vec<_> =
        edge.chain(reachable.map(|exit| ProgramExit::Decap(*exit))).filter(|exit| !has(*exit)).collect();
    assert!(missing.is_empty(), "no case leaves by {missing:?}");
}

fn check(both: &Both, case: &Case) -> Result<(), String> {
    let before = Counters::of(both);
    let traffic =
        case.forwarded.map(|to| (both.memory.service_traffic(to.service), both.memory.backend_traffic(to.backend)));
    let seen = both.try_run(case.exit.program(), &case.frame, case.arrival)?;
    if seen.exit != case.exit {
        return Err(format!("left by {:?}, not by {:?}", seen.exit, case.exit));
    }
    if case.exit.verdict() != case.verdict {
        return Err(format!("{:?}, not {:?}", case.exit.verdict(), case.verdict));
    }
    if let Some(out) = &case.out {
        if seen.frame != *out {
            return Err(difference(&seen.frame, out));
        }
        if case.sound {
            verify::checksums(&seen.frame)?;
        }
    }
    let egress = case.forwarded.map_or(0, |forwarded| forwarded.egress);
    if seen.egress != egress {
        return Err(format!("egress {}, not {egress}", seen.egress));
    }
    before.moved(both, case)?;
    both.compare_state()?;
    let Some((to, (service, backend))) = case.forwarded.zip(traffic) else { return Ok(()) };
    let expected = [more(service, to), more(backend, to)];
    let counted = [both.memory.service_traffic(to.service), both.memory.backend_traffic(to.backend)];
    if counted == expected { Ok(()) } else { Err(format!("counted {counted:?}, not {expected:?}")) }
}

/// The expected count after another packet.
fn more(mut traffic: Traffic, packet: Forwarded) -> Traffic {
    traffic.packets += 1;
    traffic.bytes += packet.bytes;
    traffic.flows += u64::from(packet.starts);
    traffic
}

/// The kernel's counters.
struct Counters {
    exits: Vec<u64>,
    decap_exits: Vec<u64>,
}

impl Counters {
    fn of(both: &Both) -> Self {
        Self { exits: both.kernel.exits(), decap_exits: both.kernel.decap_exits() }
    }

    /// Checks that exactly one counter was incremented, by one.
    fn moved(&self, both: &Both, case: &Case) -> Result<(), String> {
        let Self { mut exits, mut decap_exits } =
            Self { exits: self.exits.clone(), decap_exits: self.decap_exits.clone() };
        match case.exit {
            ProgramExit::Edge(exit) => exits[exit as usize] += 1,
            ProgramExit::Decap(exit) => decap_exits[exit as usize] += 1,
        }
        let now = Self::of(both);
        if (exits, decap_exits) != (now.exits, now.decap_exits) {
            return Err("other exits were counted".to_owned());
        }
        Ok(())
    }
}

fn report(case: &Case, error: &str) -> String {
    format!("{} ({}): {error}\n    in {}", case.name, case.what, hex(&case.frame))
}
