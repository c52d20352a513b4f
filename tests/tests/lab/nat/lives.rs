//! What becomes of flows and their ports: when a source is removed, when maps are replaced, and after an answer.

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use edge_tests::lab::{
    extent::extent,
    pace::Pace,
    patience::patience,
    small::{BACKENDS, CLIENT},
    topology::EDGE,
    udp_echo, wait_until,
};

use super::{Connection, NOBODY, Nat, VIPS, configuration, echoes};

#[test]
fn a_connection_from_a_removed_source_goes_on_while_others_come_from_the_new_one() {
    let nat = Nat::start("");
    let mut client = Connection::open(&nat, VIPS[0]);
    assert_eq!(client.request().expect("an answer"), BACKENDS[0]);
    nat.lab.netns(EDGE).ip("addr add 10.0.0.9/24 dev eth0\n").expect("an address");
    let path = nat.lab.edge().expect("an edge").configuration();
    let text = configuration("").replace("source_v4 = [\"10.0.0.1\"]", "source_v4 = [\"10.0.0.9\"]");
    std::fs::write(&path, text).expect("it is written");
    nat.lab.ctl(&["reload"]).expect("it reloads");
    assert_eq!(client.request().expect("an answer to the source that was removed"), BACKENDS[0]);
    assert_eq!(nat.request(VIPS[0], 3), BTreeSet::from([BACKENDS[0].to_owned()]));
    let flows = nat.lab.ctl(&["flows", "--service", "web"]).expect("flows");
    assert!(flows.contains("from 10.0.0.1:") && flows.contains("from 10.0.0.9:"), "{flows}");
}

#[test]
fn a_server_that_is_the_next_to_send_reaches_its_client_from_larger_maps() {
    let text = configuration("").replace(&format!("\"{NOBODY}/udp\""), &format!("\"{NOBODY}/udp\", \"{NOBODY}/tcp\""));
    let nat = Nat::start_with(&text);
    let listen = || TcpListener::bind(("10.1.1.11", NOBODY));
    let listener = nat.lab.netns(BACKENDS[0]).within(listen).expect("a namespace").expect("it listens");
    let address = SocketAddr::new(VIPS[0].parse().expect("an address"), NOBODY);
    let connect = || TcpStream::connect_timeout(&address, patience(Duration::from_secs(3)));
    let mut client = nat.lab.netns(CLIENT).within(connect).expect("a namespace").expect("a connection");
    let (mut server, _) = listener.accept().expect("a client");
    let mut heard = [0; 5];
    for (word, larger) in [(b"first", false), (b"later", true)] {
        if larger {
            let path = nat.lab.edge().expect("an edge").configuration();
            let larger = text.replace("nat_flows = 16384", "nat_flows = 32768").replace("16384-20479", "16384-24575");
            std::fs::write(&path, larger).expect("it is written");
            let programs = || {
                let attached = |name| nat.lab.attached(EDGE, name).expect("a namespace").map(|(_, program)| program);
                ["eth0", "eth1"].map(attached)
            };
            let before = programs();
            nat.lab.ctl(&["apply", path.to_str().expect("a path")]).expect("it is applied");
            let are_new = || Ok(programs().iter().zip(&before).all(|(now, before)| now != before));
            assert!(wait_until(patience(Duration::from_mins(1)), are_new).expect("a namespace"), "the program follows");
        }
        client.set_read_timeout(Some(patience(Duration::from_secs(3)))).expect("a timeout");
        server.write_all(word).expect("it is sent");
        client.read_exact(&mut heard).expect("it arrives, though the client sends nothing");
        assert_eq!(&heard, word);
    }
    let log = nat.lab.edge().expect("an edge").log_text();
    assert!(log.contains("recorded flows were carried over; counters"), "none ends: {log}");
}

#[test]
fn requests_one_after_another_hold_no_port_once_they_are_answered() {
    let text = configuration("").replace("name = \"echo\"\n", "name = \"echo\"\nudp = \"stateless\"\n");
    let nat = Nat::start_with(&text);
    // More requests than ports within two minutes.
    let count: u64 = extent(6_000, 20_000);
    let ask = || {
        let pace = Pace::start(1_000);
        for number in 0..count {
            while pace.due() < number {
                thread::sleep(Duration::from_millis(1));
            }
            let answer = udp_echo::request(echoes()[0], b"?", patience(Duration::from_secs(3)));
            let answer = answer.unwrap_or_else(|error| panic!("request {number}: {error}"));
            assert_eq!(answer, BACKENDS[0]);
        }
    };
    nat.lab.netns(CLIENT).within(ask).expect("a namespace");
    assert_eq!(nat.left_by("nat_exhausted_silent"), 0);
}
