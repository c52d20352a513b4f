//! UDP and ICMP probes also take the path of clients' packets, and receive errors that are reported on this path.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use edge_tests::lab::{
    dnsmasq,
    netns::Netns,
    patience::patience,
    small::{BACKENDS, Mode, SERVED, Served, Small},
    topology::{ECHO, EDGE},
    udp_echo::UdpEcho,
    wait_until,
};

const SOURCES: [&str; 2] = ["10.0.0.1", "fd00::1"];
/// Time from a fault to its detection by three failed probes.
const SOON: Duration = Duration::from_secs(8);
/// A port of backends without a server.
const NOBODY: u16 = 98;
/// A port of the services that exist for their probes.
const PORT: u16 = 99;

/// Kinds of probes, and their configuration.
const KINDS: [(&str, &str); 3] = [
    ("udp", "type = \"udp\", port = 7, send = \"who?\", expect = \"who?\""),
    ("icmp", "type = \"icmp\""),
    ("dns", "type = \"dns\", port = 53, query = \"www.example.org\", answer = \"192.0.2.77\""),
];

fn address(number: usize, served: &Served) -> IpAddr {
    let text = if served.name.ends_with('4') { format!("10.1.{number}.11") } else { format!("fd01:{number}::11") };
    text.parse().expect("an address")
}

/// A service per mode and IP version, with a pool per kind of probe; and a service that is probed at a port
/// without a server, and expects no answer.
fn services() -> String {
    let interval = patience(Duration::from_millis(300)).as_millis();
    let gone = ("gone", format!("type = \"udp\", port = {NOBODY}, send = \"who?\""));
    let kinds: Vec<_> = KINDS.iter().map(|(name, probe)| (*name, (*probe).to_owned())).chain([gone]).collect();
    let mut text = String::new();
    for served @ Served { name, vip, .. } in &SERVED {
        let backend = |(number, name): (usize, &str)| {
            format!("{{ name = \"{name}\", address = \"{}\" }}", address(number, served))
        };
        let backends: Vec<_> = (1..).zip(BACKENDS).map(backend).collect();
        for (kind, probe) in &kinds {
            write!(
                text,
                "\n[[pool]]\nname = \"{kind}-{name}\"\nbackend = [{}]\ndamping = \"0s\"\nslow_start = \"0s\"\n\
                 probe = {{ {probe}, interval = \"{interval}ms\", timeout = \"{interval}ms\", rise = 1, fall = 3 }}\n",
                backends.join(", ")
            )
            .expect("memory");
        }
        let pools: Vec<_> = kinds.iter().map(|(kind, _)| format!("\"{kind}-{name}\"")).collect();
        let mode = if served.is_tunnel() { "ipip" } else { "dsr" };
        write!(
            text,
            "\n[[service]]\nname = \"route-{name}\"\nvips = [\"{vip}\"]\nports = [\"{PORT}/udp\"]\nmode = \"{mode}\"\n\
             pools = [{}]\n",
            pools.join(", ")
        )
        .expect("memory");
    }
    text
}

/// Pool, health and reason of a backend, in the pools of these services.
fn seen(lab: &Small, backend: &str) -> Vec<(String, String, String)> {
    let status = lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("a status");
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pools = status["pools"].as_array().expect("a list").iter().filter(|pool| text(&pool["name"]).contains('-'));
    let found = pools.map(|pool| {
        let backends = pool["backends"].as_array().expect("a list");
        let one = backends.iter().find(|one| text(&one["name"]).ends_with(&format!("/{backend}"))).expect("a backend");
        (text(&pool["name"]), text(&one["health"]), text(&one["reason"]))
    });
    found.collect()
}

/// Waits until `be1` is down in exactly the `concerned` pools, for a reason that contains `why`.
fn expect(lab: &Small, concerned: impl Fn(&str, &Served) -> bool, why: &str) {
    let is_so = |(pool, health, reason): &(String, String, String)| {
        let (kind, name) = pool.split_once('-').expect("a kind and a mode");
        if kind == "gone" {
            // This probe expects no answer: it passes where its datagrams are lost.
            return concerned(kind, &Served::named(name)) || health == "down" && reason.contains("refused");
        }
        if concerned(kind, &Served::named(name)) { health == "down" && reason.contains(why) } else { health == "up" }
    };
    let reached = wait_until(patience(SOON), || Ok(seen(lab, BACKENDS[0]).iter().all(is_so)));
    let wrong: Vec<_> = seen(lab, BACKENDS[0]).into_iter().filter(|one| !is_so(one)).collect();
    assert!(reached.expect("a status"), "waited for {why:?}: {wrong:#?}");
}

/// Starts an echo at a backend's own addresses; the lab's servers only listen at the VIPs.
fn answer_at_addresses(netns: &Netns, number: usize) -> UdpEcho {
    let own = ["4in4", "6in6"].map(|name| SocketAddr::new(address(number, &Served::named(name)), ECHO));
    UdpEcho::start_at(netns, "own", own.into_iter()).expect("the lab's servers start")
}

#[test]
fn datagrams_and_pings_find_faults_on_the_path() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &SOURCES).expect("decapsulation attaches");
    let dirs = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    let mut servers = Vec::new();
    for ((number, backend), dir) in (1..).zip(BACKENDS).zip(&dirs) {
        let netns = lab.netns(backend);
        // By default, Linux sends such errors to each host only once a second.
        netns.set("ipv4/icmp_ratelimit", "0").expect("a setting");
        netns.set("ipv6/icmp/ratelimit", "0").expect("a setting");
        servers.push((answer_at_addresses(netns, number), dnsmasq::start(netns, dir.path()).expect("a name server")));
    }
    lab.prepare(Mode::Native, &services()).expect("a configuration");
    lab.launch_daemon().expect("the daemon starts");
    expect(&lab, |_, _| false, "nothing is wrong");

    let netns = lab.netns(BACKENDS[0]);
    lab.decap(BACKENDS[0], &["--detach"]).expect("decap goes");
    expect(&lab, |_, served| served.is_tunnel(), "through the tunnel: decap or VIP missing?");
    lab.decapsulate(BACKENDS[0], Mode::Native, &SOURCES).expect("decap comes back");
    expect(&lab, |_, _| false, "decapsulation is back");

    // The last VIPs in the file, which are those of dsr.
    for (name, length, more) in [("dsr4", 32, ""), ("dsr6", 128, "nodad")] {
        let vip = Served::named(name).vip;
        netns.ip(&format!("addr del {vip}/{length} dev lo\n")).expect("a VIP goes");
        expect(&lab, |_, served| served.name == name, "VIP missing on its lo?");
        netns.ip(&format!("addr add {vip}/{length} dev lo {more}\n")).expect("a VIP comes back");
        expect(&lab, |_, _| false, "the VIP is back");
    }

    // The error comes back from each address of the name server.
    drop(servers.remove(0).1);
    expect(&lab, |kind, _| kind == "dns", "connection refused");
}
