//! Faults of the controller and of its host: none of them takes traffic down.

use std::{fmt::Write as _, thread::sleep, time::Duration};

use edge_tests::lab::{
    asking::Asking,
    small::{BACKENDS, CLIENT, Mode, Served, Small},
    topology::{ECHO, EDGE},
};

/// Pools of ten backends that are not there, and a service of each: a probe waits until its timeout.
fn silent(pools: u8) -> String {
    let mut text = String::new();
    for pool in 0..pools {
        let backends: String = (0..10)
            .map(|number| format!("{{ name = \"s{number}\", address = \"10.1.1.{}\" }}, ", 100 + 10 * pool + number))
            .collect();
        write!(
            text,
            "\n[[pool]]\nname = \"silent-{pool}\"\nbackend = [{backends}]\n\
             probe = {{ type = \"tcp\", port = 80, interval = \"1s\", timeout = \"1s\" }}\n\
             \n[[service]]\nname = \"silent-{pool}\"\nvip = \"192.0.2.200\"\nport = {}\nprotocol = \"tcp\"\n\
             mode = \"dsr\"\npools = [\"silent-{pool}\"]\n",
            80 + u16::from(pool)
        )
        .expect("memory");
    }
    text
}

/// A lab whose backends take what the edge sends them.
fn lab() -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).expect("a program that passes");
    lab
}

#[test]
fn without_descriptors_the_program_stays_where_it_is() {
    let mut lab = lab();
    lab.prepare(Mode::Native, &silent(6)).expect("a configuration").limit_files(64);
    lab.start_daemon().expect("64 descriptors are enough to start");
    let attached = lab.attached(EDGE, "eth0").unwrap();
    assert!(attached.is_some());

    let asking = Asking::start(lab.netns(CLIENT), Served::named("dsr4").at(ECHO)).expect("a client");
    for round in 0..60 {
        lab.netns(EDGE).ip(&format!("link set dev eth0 mtu {}", 1400 + 100 * (round % 2))).unwrap();
        sleep(Duration::from_millis(150));
        assert_eq!(lab.attached(EDGE, "eth0").unwrap(), attached, "after {round} changes:\n{}", said(&lab));
    }
    let asked = asking.stop().unwrap();
    assert!(asked.answered > 1000 && asked.lost == 0, "{asked:?}\n{}", said(&lab));
}

fn said(lab: &Small) -> String {
    lab.edge().expect("there is one").said()
}
