//! A service with several VIPs and ports: served at each of them, and a single service for its operator.

use std::{
    collections::BTreeSet,
    io,
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use edge_tests::lab::{
    patience::patience,
    small::{CLIENT, Mode, Small, UNSERVED},
    tcp_echo,
    topology::ECHO,
    udp_echo,
};
use serde_json::{Value, json};

/// A service with both VIPs, one of each family, at all TCP ports and one UDP port.
fn doors() -> String {
    let vips = UNSERVED.map(|vip| format!("\"{vip}\"")).join(", ");
    format!(
        "\n[[service]]\nname = \"doors\"\nvips = [{vips}]\nports = [\"{ECHO}/udp\", \"any/tcp\"]\nmode = \"ipip\"\n\
         pools = [\"p4\", \"p6\"]\nslots = 4096\n"
    )
}

fn lab() -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
    lab.prepare(Mode::Native, &doors()).expect("a configuration");
    lab.start_daemon().expect("the load balancer starts");
    lab
}

#[test]
fn each_address_is_served_at_each_port() {
    const OTHER: u16 = 8123;
    let lab = lab();
    let listen = |backend: &String| lab.netns(backend).within(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, OTHER)));
    let _listening: Vec<_> = lab.backends().iter().map(|backend| listen(backend).unwrap().unwrap()).collect();
    for vip in UNSERVED {
        assert_eq!(lab.request(vip, 12).unwrap(), lab.backends(), "{vip}");
        // The index has no entry for this port, which is one of all ports.
        let other = SocketAddr::new(vip, OTHER);
        let connect = || TcpStream::connect_timeout(&other, patience(Duration::from_secs(1))).map(drop);
        lab.netns(CLIENT).within(connect).unwrap().unwrap_or_else(|error| panic!("{other}: {error}"));
        // Another UDP port belongs to no service.
        let closed = SocketAddr::new(vip, ECHO + 1);
        let answer = lab.netns(CLIENT).within(|| udp_echo::request(closed, b"who?", Duration::from_millis(300)));
        assert!(answer.unwrap().is_err(), "{closed}");
    }
}

#[test]
fn all_of_it_fails_over_at_once_and_is_one_line() {
    let lab = lab();
    let service = || {
        let status: Value = serde_json::from_str(&lab.ctl(&["status", "--json"]).unwrap()).unwrap();
        let services = status["services"].as_array().unwrap().iter();
        let mut doors = services.filter(|service| service["name"] == "doors").cloned();
        let one = doors.next().expect("it is there");
        assert_eq!(doors.next(), None);
        one
    };
    assert_eq!(service()["vips"], json!(UNSERVED.map(|vip| vip.to_string())));
    assert_eq!(service()["ports"], json!([format!("{ECHO}/udp"), "any/tcp"]));
    let shown = lab.ctl(&["status"]).unwrap();
    assert!(shown.contains(&format!("{} +1 :{ECHO}/udp any/tcp", UNSERVED[0])), "{shown}");
    lab.ctl(&["failover", "doors", "--to", "p6"]).unwrap();
    assert_eq!(service()["serving"], "p6");
    for vip in UNSERVED {
        assert_eq!(lab.request(vip, 12).unwrap(), lab.backends(), "{vip}");
    }
    let events = lab.ctl(&["events"]).unwrap();
    assert_eq!(events.lines().filter(|line| line.contains("  failover ")).count(), 1, "{events}");
}

#[test]
fn established_connections_stay_whatever_address_and_port_they_came_to() {
    let lab = lab();
    let netns = lab.netns(CLIENT);
    let connect = || {
        let doors = UNSERVED.iter().cycle().take(16).map(|vip| SocketAddr::new(*vip, ECHO));
        doors.map(|door| tcp_echo::Begun::connect(door, b"half of it, ")).collect::<io::Result<Vec<_>>>()
    };
    let begun = netns.within(connect).unwrap().unwrap();
    lab.ctl(&["drain", "p4/be1"]).unwrap();
    for vip in UNSERVED {
        assert_eq!(lab.request(vip, 12).unwrap(), BTreeSet::from(["be2".to_owned()]), "new ones go elsewhere");
    }
    let served: io::Result<BTreeSet<_>> =
        begun.into_iter().map(|begun| begun.finish(b"and the rest").map(|exchange| exchange.backend)).collect();
    assert_eq!(served.unwrap(), lab.backends(), "and those that were there are where they were");
}
