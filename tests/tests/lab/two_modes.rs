//! Backends in two modes at a time, at the same addresses: each mode's packets go their own way, and what breaks one way
//! concerns only its mode.

use std::{collections::BTreeSet, fs, net::IpAddr, time::Duration};

use edge_tests::lab::{
    kept::Kept,
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, SERVED, Served, Small},
    status,
    talk::TALK,
    topology::{ECHO, EDGE},
    udp_echo::UdpEcho,
    wait_until,
};

/// VIPs in `nat`: of a pool of its own, and of the pool that serves `ipip` and `dsr`, too.
const OWN_POOL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 80));
const SAME_POOL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 81));

struct TwoModes {
    lab: Small,
    _echoes: Vec<UdpEcho>,
}

impl TwoModes {
    fn new() -> Self {
        let mut lab = Small::on_veth().expect("the lab comes up");
        lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
        let echo = |(number, name): (u8, &&str)| {
            let own = format!("10.1.{number}.11:{ECHO}").parse().expect("an address");
            UdpEcho::start_at(lab.netns(name), name, std::iter::once(own)).expect("it listens")
        };
        let echoes = (1..).zip(&BACKENDS).map(echo).collect();
        // Another source than that of tunnels, so that rules can tell them apart.
        lab.netns(EDGE).ip("addr add 10.9.9.9/32 dev lo\n").expect("it is added");
        let interval = patience(Duration::from_millis(100)).as_millis();
        let service = |name: &str, vip: IpAddr, pool: &str| {
            format!(
                "[[service]]\nname = \"{name}\"\nvips = [\"{vip}\"]\nports = [\"{ECHO}/tcp\", \"{ECHO}/udp\", \"{TALK}/tcp\"]\n\
                 mode = \"nat\"\npools = [\"{pool}\"]\n"
            )
        };
        let more = format!(
            "\n[nat]\nsource_v4 = [\"10.9.9.9\"]\nports = \"16384-20479\"\n\
             [[interface]]\nname = \"eth1\"\n[[interface]]\nname = \"eth2\"\n\
             [[pool]]\nname = \"n4\"\ndamping = \"0s\"\nslow_start = \"0s\"\n\
             backend = [{{ name = \"be1\", address = \"10.1.1.11\" }}, {{ name = \"be2\", address = \"10.1.2.11\" }}]\n\
             probe = {{ type = \"tcp\", port = {ECHO}, interval = \"{interval}ms\", timeout = \"{interval}ms\", rise = 1, fall = 5 }}\n\
             {}{}",
            service("own", OWN_POOL, "n4"),
            service("same", SAME_POOL, "p4")
        );
        let path = lab.prepare(Mode::Native, &more).expect("a load balancer").configuration();
        let text = fs::read_to_string(&path).expect("a configuration");
        fs::write(&path, text.replace("[limits]\n", "[limits]\nnat_flows = 16384\n")).expect("it is written");
        lab.start_daemon().expect("all backends are up");
        Self { lab, _echoes: echoes }
    }

    /// Packets that left by exits of tunnels and of translation.
    fn counted(&self) -> [u64; 2] {
        let status = self.lab.edge().and_then(|edge| edge.status(self.lab.netns(EDGE))).expect("a status");
        ["ipip_redirect", "nat_redirect"].map(|exit| status::exit(&status, exit).expect("it is counted"))
    }

    fn health(&self, pool: &str) -> String {
        let status = self.lab.edge().and_then(|edge| edge.status(self.lab.netns(EDGE))).expect("a status");
        let backends = status::backends(&status).expect("backends");
        let found = backends.into_iter().find(|backend| backend.pool == pool && backend.name == BACKENDS[0]);
        found.expect("the first backend").health
    }

    /// Waits until the first backend is in these states in `p4` and in `n4`.
    #[track_caller]
    fn becomes(&self, healths: [&str; 2]) {
        let is =
            wait_until(patience(Duration::from_secs(10)), || Ok(["p4", "n4"].map(|pool| self.health(pool)) == healths));
        assert!(is.expect("a status"), "{healths:?}: {}", self.lab.ctl(&["status"]).expect("a status"));
    }

    /// Asserts who answers at `vip`.
    #[track_caller]
    fn is_answered_by(&self, vip: IpAddr, backends: &BTreeSet<String>) {
        assert_eq!(self.lab.request(vip, 12).expect("answers"), *backends, "{vip}");
    }
}

#[test]
fn each_modes_packets_go_their_own_way() {
    let mut world = TwoModes::new();
    let both = world.lab.backends();
    let only = BTreeSet::from([BACKENDS[1].to_owned()]);
    let before = world.counted();
    for served in SERVED.iter().filter(|served| served.vip.is_ipv4()) {
        world.is_answered_by(served.vip, &both);
    }
    let between = world.counted();
    assert!(between[0] > before[0] && between[1] == before[1], "{before:?} {between:?}");
    for vip in [OWN_POOL, SAME_POOL] {
        world.is_answered_by(vip, &both);
    }
    let after = world.counted();
    assert!(after[0] == between[0] && after[1] > between[1], "{between:?} {after:?}");
    let kept = |vip| Kept::tcp(world.lab.netns(CLIENT), std::net::SocketAddr::new(vip, TALK)).expect("a connection");
    let flows: Vec<_> = std::iter::repeat_n(OWN_POOL, 8).map(kept).collect();

    // Without the tunnel's other end, only translated packets reach the backend. A pool has one state in all modes.
    world.lab.decap(BACKENDS[0], &["--detach"]).expect("it is detached");
    world.lab.pass(BACKENDS[0]).expect("its veth takes what is sent");
    world.becomes(["down", "up"]);
    world.is_answered_by(OWN_POOL, &both);
    for vip in [Served::named("4in4").vip, Served::named("dsr4").vip, SAME_POOL] {
        world.is_answered_by(vip, &only);
    }
    for flow in &flows {
        flow.wait_for(5).expect("connections of the other mode stay");
    }
    for flow in flows {
        assert_eq!(flow.end().expect("it was answered").len(), 1, "always by the same backend");
    }
}

#[test]
fn a_rule_about_one_modes_source_concerns_that_mode_alone() {
    let world = TwoModes::new();
    let both = world.lab.backends();
    let only = BTreeSet::from([BACKENDS[1].to_owned()]);
    let edge = world.lab.netns(EDGE);
    let [tunnel, own] = [Served::named("4in4").vip, OWN_POOL];
    for (source, healths, there, not_there) in
        [("10.9.9.9", ["up", "down"], tunnel, own), ("10.0.0.1", ["down", "up"], own, tunnel)]
    {
        let rule = format!("from {source} to 10.1.1.11 blackhole");
        edge.ip(&format!("rule add {rule}\n")).expect("it is added");
        world.becomes(healths);
        world.is_answered_by(there, &both);
        world.is_answered_by(not_there, &only);
        edge.ip(&format!("rule del {rule}\n")).expect("it is deleted");
        world.becomes(["up", "up"]);
        world.is_answered_by(not_there, &both);
    }
}

/// A backend has one next hop in a pool, that of the tunnel's packets.
#[test]
fn a_pool_in_two_modes_for_which_the_host_has_two_ways_is_named() {
    let world = TwoModes::new();
    let both = world.lab.backends();
    let named = "this host has two ways to 10.1.1.11";
    let status = || world.lab.ctl(&["status"]).expect("a status");
    assert!(!status().contains(named), "{}", status());
    let rule = "from 10.9.9.9 to 10.1.1.11 blackhole";
    world.lab.netns(EDGE).ip(&format!("rule add {rule}\n")).expect("it is added");
    world.becomes(["up", "down"]);
    let is_named = wait_until(patience(Duration::from_secs(10)), || Ok(status().contains(named)));
    assert!(is_named.expect("a status"), "{}", status());
    let file = world.lab.edge().expect("a load balancer").configuration().display().to_string();
    let checked = world.lab.ctl(&["check", "--host", &file]).expect("warnings alone");
    assert!(checked.contains("warning: pool p4: ") && checked.contains(named), "{checked}");
    // What it says is so: only the other pool's packets follow the rule.
    world.is_answered_by(SAME_POOL, &both);
    world.is_answered_by(OWN_POOL, &BTreeSet::from([BACKENDS[1].to_owned()]));
    world.lab.netns(EDGE).ip(&format!("rule del {rule}\n")).expect("it is deleted");
    let is_fine = wait_until(patience(Duration::from_secs(10)), || Ok(!status().contains(named)));
    assert!(is_fine.expect("a status"), "{}", status());
}
