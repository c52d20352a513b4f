//! Backends with an address of each IP version: one name for operators, health per address, and clients use the address
//! of their IP version.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, Small, UNSERVED},
    tcp_echo,
    topology::{ECHO, EDGE},
    wait_until,
};
use serde_json::{Value, json};

const V4: [&str; 2] = ["10.1.1.11", "10.1.2.11"];
const V6: [&str; 2] = ["fd01:1::11", "fd01:2::11"];

/// Pool `first` with `be1`, pool `second` with `be2`, and a service at an address of each IP version.
fn dual(mode: &str) -> String {
    let vips = UNSERVED.map(|vip| format!("\"{vip}\"")).join(", ");
    let pool = |name: &str, at: usize| {
        format!(
            "\n[[pool]]\nname = \"{name}\"\nfailback_after = \"0s\"\nfailback_over = \"0s\"\n\
             backend = [{{ name = \"{}\", address = [\"{}\", \"{}\"] }}]\n\
             probe = {{ type = \"tcp\", port = {ECHO}, interval = \"200ms\", timeout = \"200ms\", fall = 2 }}\n",
            BACKENDS[at], V4[at], V6[at]
        )
    };
    format!(
        "{}{}\n[[service]]\nname = \"dual\"\nvips = [{vips}]\nports = [\"{ECHO}/tcp\", \"{ECHO}/udp\"]\nmode = \"{mode}\"\n\
         pools = [\"first\", \"second\"]\n",
        pool("first", 0),
        pool("second", 1)
    )
}

fn lab(more: &str) -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
    lab.prepare(Mode::Native, more).expect("a configuration");
    lab.start_daemon().expect("the load balancer starts");
    lab
}

fn status(lab: &Small) -> Value {
    lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()
}

fn service(status: &Value) -> &Value {
    let mut services = status["services"].as_array().unwrap().iter().filter(|service| service["name"] == "dual");
    let one = services.next().expect("it is there");
    assert_eq!(services.next(), None, "one service");
    one
}

/// Packets to each address of `be1`.
fn packets(lab: &Small) -> [u64; 2] {
    let status = status(lab);
    let pools = status["pools"].as_array().unwrap();
    ["first@ipv4", "first@ipv6"].map(|name| {
        let pool = pools.iter().find(|pool| pool["name"] == name).expect("it is there");
        pool["backends"][0]["traffic"]["packets"].as_u64().unwrap()
    })
}

fn only(backend: &str) -> BTreeSet<String> {
    BTreeSet::from([backend.to_owned()])
}

/// Sends requests until only `backend` answers at `vip`.
fn moves_to(lab: &Small, vip: IpAddr, backend: &str) {
    // Packets in flight when the address goes may be lost.
    let moved =
        wait_until(patience(Duration::from_secs(5)), || Ok(lab.request(vip, 2).is_ok_and(|who| who == only(backend))));
    assert!(moved.unwrap(), "{vip} does not go to {backend}: {}", lab.ctl(&["status"]).unwrap());
}

fn each_at_its_own(mode: &str) {
    let lab = lab(&dual(mode));
    let [v4, v6] = UNSERVED;
    let before = packets(&lab);
    assert_eq!(lab.request(v4, 4).unwrap(), only("be1"));
    let between = packets(&lab);
    assert!(between[0] > before[0] && between[1] == before[1], "{mode}: {before:?} {between:?}");
    assert_eq!(lab.request(v6, 4).unwrap(), only("be1"));
    let after = packets(&lab);
    assert!(after[0] == between[0] && after[1] > between[1], "{mode}: {between:?} {after:?}");

    // The route to one address disappears: clients of that IP version leave, and the others stay.
    lab.netns(EDGE).ip("route del fd01:1::/64 dev eth1\n").unwrap();
    moves_to(&lab, v6, "be2");
    assert_eq!(lab.request(v4, 4).unwrap(), only("be1"));
    let now = status(&lab);
    let dual = service(&now);
    assert_eq!((&dual["state"], &dual["serving"]), (&json!("fallback"), &json!("second")));
    assert!(dual["reason"].as_str().unwrap().starts_with("dual@ipv6: first@ipv6 has 0 of 1 available"), "{dual}");
    let parts = dual["parts"].as_array().unwrap().iter().map(|part| &part["state"]).collect::<Vec<_>>();
    assert_eq!(parts, [&json!("ok"), &json!("fallback")]);

    // The route returns.
    lab.netns(EDGE).ip("route add fd01:1::/64 dev eth1\n").unwrap();
    moves_to(&lab, v6, "be1");

    // One command affects both addresses, and so does its reversal; likewise a failover.
    for (there, back) in [
        (&["drain", "first/be1"][..], &["enable", "first/be1"][..]),
        (&["failover", "dual", "--to", "second"], &["failback", "dual"]),
    ] {
        lab.ctl(there).unwrap();
        for vip in UNSERVED {
            assert_eq!(lab.request(vip, 4).unwrap(), only("be2"), "{there:?} {vip}");
        }
        lab.ctl(back).unwrap();
        for vip in UNSERVED {
            assert_eq!(lab.request(vip, 4).unwrap(), only("be1"), "{back:?} {vip}");
        }
    }
    // A command can also name a single part.
    lab.ctl(&["failover", "dual@ipv6", "--to", "second"]).unwrap();
    assert_eq!((lab.request(v4, 4).unwrap(), lab.request(v6, 4).unwrap()), (only("be1"), only("be2")));
    let shown = lab.ctl(&["status"]).unwrap();
    assert!(shown.contains("dual@ipv6: failed over to second by an operator"), "{shown}");
}

#[test]
fn clients_in_dsr_reach_the_address_of_their_ip_version() {
    each_at_its_own("dsr");
}

#[test]
fn clients_in_a_tunnel_reach_the_address_of_their_ip_version() {
    each_at_its_own("ipip");
}

#[test]
fn a_second_address_moves_no_connection_and_a_word_outlives_a_reboot() {
    let one_each = dual("ipip").replace(", \"fd01:1::11\"]", "]").replace(", \"fd01:2::11\"]", "]");
    // Both in one pool, so that slots have owners that other addresses would not have.
    let both = |text: String| {
        let second = format!(", {{ name = \"be2\", address = [\"{}\"] }}]\nprobe", V4[1]);
        text.replacen("]\nprobe", &second, 1).replace("[\"first\", \"second\"]", "[\"first\"]")
    };
    let text = both(one_each);
    let mut lab = lab(&text);
    let netns = lab.netns(CLIENT);
    let connect = || {
        let doors = UNSERVED.iter().cycle().take(40).map(|vip| SocketAddr::new(*vip, ECHO));
        doors.map(|door| tcp_echo::Begun::connect(door, b"half of it, ")).collect::<io::Result<Vec<_>>>()
    };
    let begun = netns.within(connect).unwrap().unwrap();
    let path = lab.edge().unwrap().configuration();
    let whole = fs::read_to_string(&path).unwrap();
    let two = whole.replace(&format!("[\"{}\"]", V4[0]), &format!("[\"{}\", \"{}\"]", V4[0], V6[0]));
    let two = two.replace(&format!("[\"{}\"]", V4[1]), &format!("[\"{}\", \"{}\"]", V4[1], V6[1]));
    assert_ne!(two, whole);
    fs::write(&path, &two).unwrap();
    let plan = lab.ctl(&["plan", path.to_str().unwrap()]).unwrap();
    assert!(plan.contains("first/be1") && plan.contains("address: 10.1.1.11 -> 10.1.1.11, fd01:1::11"), "{plan}");
    lab.ctl(&["reload"]).unwrap();
    let up = wait_until(patience(Duration::from_secs(5)), || {
        let status = status(&lab);
        let pool = status["pools"].as_array().unwrap().iter().find(|pool| pool["name"] == "first@ipv6").cloned();
        let backends = pool.map(|pool| pool["backends"].as_array().unwrap().clone()).unwrap_or_default();
        Ok(backends.len() == 2 && backends.iter().all(|backend| backend["health"] == "up"))
    });
    assert!(up.unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    for vip in UNSERVED {
        assert_eq!(lab.request(vip, 12).unwrap(), lab.backends(), "{vip}");
    }
    let finished: io::Result<Vec<_>> = begun.into_iter().map(|begun| begun.finish(b"and the rest")).collect();
    assert_eq!(finished.unwrap().len(), 40, "whoever was there is where it was");

    // An operator's command about the name applies to both addresses after a cold start.
    lab.ctl(&["drain", "first/be1"]).unwrap();
    lab.stop_daemon().unwrap();
    lab.pinned(EDGE).iter().for_each(|pin| fs::remove_file(pin).unwrap());
    lab.launch_daemon().unwrap();
    for vip in UNSERVED {
        moves_to(&lab, vip, "be2");
    }
}
