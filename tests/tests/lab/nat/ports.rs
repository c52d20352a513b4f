//! The range of ports: listeners of the host in the range are reported, and so are scarce ports.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use edge_tests::lab::{extent::extent, patience::patience, small::CLIENT, topology::EDGE, udp_echo, wait_until};

use super::{Connection, Nat, PORT, VIPS, configuration, echoes};

/// The daemon's report of a listener.
const LISTENER: &str = "sockets of this host receive packets there: UDP 10.0.0.1:16500";

fn output_contains(nat: &Nat, verb: &str, what: &str, within: Duration) -> bool {
    wait_until(patience(within), || Ok(nat.lab.ctl(&[verb])?.contains(what))).expect("it answers")
}

/// The daemon checks once a minute, and sooner after a change of the host that it is notified of, here of an address.
#[test]
fn a_listener_in_the_range_is_named_within_a_minute() {
    let nat = Nat::start("");
    let edge = nat.lab.netns(EDGE);
    assert!(!nat.lab.ctl(&["status"]).expect("a status").contains("receive packets there"));
    let listener = edge.within(|| UdpSocket::bind("10.0.0.1:16500")).expect("a namespace").expect("it listens");
    let waits = extent(Duration::from_secs(20), Duration::from_secs(75));
    if extent(true, false) {
        edge.ip("addr add 10.99.0.1/32 dev lo\n").expect("an address");
    }
    assert!(output_contains(&nat, "status", LISTENER, waits), "{}", nat.lab.ctl(&["status"]).expect("a status"));
    assert!(output_contains(&nat, "events", LISTENER, Duration::from_secs(1)));
    drop(listener);
    if extent(true, false) {
        edge.ip("addr del 10.99.0.1/32 dev lo\n").expect("an address");
    }
    assert!(output_contains(&nat, "events", "host_fits", waits), "{}", nat.lab.ctl(&["events"]).expect("events"));
}

#[test]
fn ports_that_run_out_are_reported_at_three_quarters_and_the_next_connection_is_refused() {
    const PORTS: usize = 64;
    let text = configuration("").replace("16384-20479", "16384-16447").replace("nat_flows = 16384", "nat_flows = 1024");
    let nat = Nat::start_with(&text);
    let mut clients = Vec::new();
    let connect = || {
        let address = SocketAddr::new(VIPS[0].parse().expect("an address"), PORT);
        let connected = || TcpStream::connect_timeout(&address, patience(Duration::from_secs(3)));
        nat.lab.netns(CLIENT).within(connected).expect("a namespace")
    };
    // A new flow tries 32 ports, so the first refusal comes before the last port is taken.
    let mut refused = 0;
    while refused == 0 || clients.len() < PORTS * 7 / 8 {
        match connect() {
            Ok(stream) => clients.push(Connection(stream)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "after {}: {error}", clients.len());
                refused += 1;
            }
        }
        assert!(clients.len() <= PORTS && refused < 1000, "{} connections, {refused} refused", clients.len());
    }
    // A datagram gets no answer, since its sender would not believe one.
    let exchange = || udp_echo::request(echoes()[0], b"?", Duration::from_millis(300));
    let _lost = nat.lab.netns(CLIENT).within(exchange).expect("a namespace");
    for client in &mut clients {
        client.request().expect("who has a port keeps it");
    }
    println!("{} of {PORTS}, {refused} refused", clients.len());
    // The daemon checks the table every ten seconds.
    assert!(
        output_contains(&nat, "events", "ports_scarce", Duration::from_secs(30)),
        "{}",
        nat.lab.ctl(&["events"]).expect("events")
    );
    let counted = nat.left_by("nat_exhausted");
    assert!(counted >= refused, "{refused} were refused, and {counted} counted");
}
