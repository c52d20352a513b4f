//! Candidates that are damaged between staging and publication are refused, and no request is lost. Also the number of
//! programs that a start loads for rehearsals.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{path::PathBuf, time::Duration};

use aya::{maps::MapData, programs::loaded_programs};
use edge_common::abi::{map, program};
use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, Mode, Small},
    topology::EDGE,
    vandal::{Vandal, maps},
    wait_until,
};

fn generation(lab: &Small) -> u64 {
    lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()["generation"].as_u64().unwrap()
}

#[test]
fn a_candidate_that_is_damaged_before_it_is_published_is_refused() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab.balance(Mode::Native).expect("the load balancer starts");
    let old = std::fs::read_to_string(lab.edge().unwrap().configuration()).unwrap();
    let new: PathBuf = lab.edge().unwrap().configuration().with_file_name("new.toml");
    let weighted = |weight: u32| {
        let text =
            old.replacen("address = \"10.1.1.11\"\n", &format!("address = \"10.1.1.11\"\nweight = {weight}\n"), 1);
        std::fs::write(&new, text).unwrap();
    };
    let apply = |lab: &Small| lab.edge().unwrap().output(lab.netns(EDGE), &["apply", new.to_str().unwrap()]).unwrap();
    weighted(50);
    assert!(apply(&lab).status.success());
    assert_eq!(generation(&lab), 2);

    let requests = lab.start_requests().expect("a client");
    weighted(60);
    for daemon in [true, false] {
        if !daemon {
            lab.kill_daemon().unwrap();
        }
        let vandal = Vandal::start(lab.edge().unwrap().pins()).unwrap();
        let refused = apply(&lab);
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{stderr}");
        assert!(
            stderr.contains("the rehearsal failed: service") && stderr.contains("but the program's result is"),
            "{stderr}"
        );
        vandal.end().unwrap();
        assert_eq!(generation(&lab), 2);
    }
    let taken = apply(&lab);
    assert!(taken.status.success(), "{taken:?}");
    assert_eq!(generation(&lab), 3);
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 100 && counts.lost == 0, "{counts:?}");
}

/// Number of programs that use the lab's maps.
fn programs(lab: &Small) -> usize {
    let services =
        MapData::from_pin(maps(lab.edge().unwrap().pins()).join(map::SERVICES)).unwrap().info().unwrap().id();
    let is_over = |ids: Option<Vec<u32>>| ids.is_some_and(|ids| ids.contains(&services));
    let loaded = loaded_programs().flatten().filter(|program| program.name_as_str() == Some(program::EDGE));
    loaded.filter(|program| program.map_ids().is_ok_and(is_over)).count()
}

#[test]
fn there_is_one_program_that_is_attached_and_one_for_rehearsals() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab.balance(Mode::Native).expect("the load balancer starts");
    assert_eq!(programs(&lab), 2);
    let (_, before) = lab.attached(EDGE, "eth0").unwrap().unwrap();
    lab.kill_daemon().unwrap();
    assert_eq!(programs(&lab), 2, "nobody has to wait for the verifier");
    lab.start_daemon().expect("it starts again");
    let is_another = || Ok(lab.attached(EDGE, "eth0")?.is_some_and(|(_, now)| now != before));
    assert!(wait_until(patience(Duration::from_secs(20)), is_another).unwrap());
    assert_eq!(programs(&lab), 2, "and the one before is gone");
}
