//! The decapsulation that watches its interface: it is attached again after any change of the interface or of
//! addresses.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use edge_tests::lab::{
    patience::patience,
    process::Process,
    small::{BACKENDS, CLIENT, Mode, Served, Small},
    topology::{ECHO, EDGE},
    wait_until,
};

/// The edge's tunnel sources.
const SOURCES: [&str; 2] = ["10.0.0.1", "fd00::1"];
const BACKEND: &str = BACKENDS[0];
/// How soon the watcher follows a change.
const SOON: Duration = Duration::from_secs(1);

/// A lab whose first backend decapsulates under a watcher.
struct Watched {
    lab: Small,
    watcher: Option<Process>,
    log: std::path::PathBuf,
}

impl Watched {
    fn new() -> Self {
        let mut lab = Small::on_veth().expect("the lab comes up");
        lab.probe_addresses();
        lab.decapsulate(BACKENDS[1], Mode::Native, &SOURCES).expect("decapsulation attaches");
        let (watcher, log) = Self::watcher(&lab);
        let mut world = Self { lab, watcher: Some(watcher), log };
        world.within("attached at the start", |world| world.is_attached("eth0"));
        world.lab.balance(Mode::Native).expect("the load balancer starts");
        world
    }

    fn watcher(lab: &Small) -> (Process, std::path::PathBuf) {
        let args = ["--from", SOURCES[0], "--from", SOURCES[1], "--vip", "192.0.2.0/24", "--vip", "2001:db8::10"];
        lab.watch_decap(BACKEND, &args).expect("it starts")
    }

    /// Waits until a condition holds, which must be soon.
    #[track_caller]
    fn within(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        let is = wait_until(patience(Duration::from_secs(5)), || Ok(condition(self))).expect("it can be looked at");
        assert!(is && started.elapsed() <= patience(SOON), "{what}: after {:?}:\n{}", started.elapsed(), self.logged());
    }

    fn is_attached(&self, interface: &str) -> bool {
        self.lab.attached(BACKEND, interface).ok().flatten().is_some()
    }

    fn logged(&self) -> String {
        std::fs::read_to_string(Path::new(&self.log)).expect("a log")
    }

    /// Asserts that both backends answer through each tunnel whose VIP they know, and that an upload completes.
    #[track_caller]
    fn is_served(&self) {
        for name in ["4in4", "4in6", "6in6"] {
            let answered = self.lab.use_it(Served::named(name).vip).expect("answers");
            assert_eq!(answered, self.lab.backends(), "{name}:\n{}", self.logged());
        }
    }

    /// Asserts the same after a while, in which the load balancer finds the backend again.
    #[track_caller]
    fn will_be_served(&self) {
        let by_all =
            |name| self.lab.use_it(Served::named(name).vip).is_ok_and(|answered| answered == self.lab.backends());
        let all = || Ok(["4in4", "4in6", "6in6"].into_iter().all(by_all));
        let is = wait_until(patience(Duration::from_secs(10)), all).expect("the counters are read");
        assert!(is, "{}", self.logged());
        self.is_served();
    }

    fn ip(&self, lines: &str) {
        self.lab.netns(BACKEND).ip(lines).expect("ip(8)");
    }
}

#[test]
fn an_interface_that_is_made_anew_or_renamed_has_its_program_at_once() {
    let world = Watched::new();
    world.is_served();

    world.lab.netns(EDGE).ip("link del eth1\n").expect("the cable is cut");
    std::thread::sleep(patience(Duration::from_millis(300)));
    world.lab.cable(BACKEND, "eth1").expect("another cable");
    world.within("made anew", |world| world.is_attached("eth0"));
    world.ip("addr add 10.1.1.11/24 dev eth0\naddr add fd01:1::11/64 dev eth0 nodad\n");
    world.ip("route add default via 10.1.1.1\nroute add default via fd01:1::1\n");
    world.lab.netns(EDGE).ip("addr add 10.1.1.1/24 dev eth1\naddr add fd01:1::1/64 dev eth1 nodad\n").unwrap();
    world.will_be_served();

    // The renamed interface keeps its program; a new interface with the old name then gets one, and the renamed one
    // loses it.
    world.ip("link set eth0 down\nlink set eth0 name lan0\nlink set lan0 up\n");
    assert!(world.is_attached("lan0"));
    world.ip(
        "link add other0 type veth peer name peer0\nlink set other0 name eth0\nlink set eth0 up\nlink set peer0 up\n",
    );
    world.within("renamed", |world| world.is_attached("eth0"));
    world.within("the name identifies it", |world| !world.is_attached("lan0"));
    world.ip("link del peer0\nlink set lan0 down\nlink set lan0 name eth0\nlink set eth0 up\n");
    world.within("renamed back", |world| world.is_attached("eth0"));

    world.ip("link set eth0 down\nlink set eth0 up\n");
    world.within("down and up", |world| world.is_attached("eth0"));
    // Taking a link down removes its IPv6 addresses and all routes.
    world.ip("addr add fd01:1::11/64 dev eth0 nodad\nroute replace default via 10.1.1.1\nroute replace default via fd01:1::1\n");
    world.will_be_served();
}

#[test]
fn added_and_removed_addresses_apply_at_once() {
    let world = Watched::new();
    let takes = |address: &str| {
        let status = world.lab.decap(BACKEND, &["--status", "--json"]).expect("a status");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["to"].as_array().expect("a list").iter().any(|to| to == address)
    };
    assert!(takes("10.1.1.11") && takes("fd01:1::11") && !takes("10.1.1.77"));
    world.ip("addr add 10.1.1.77/24 dev eth0\naddr add fd01:1::77/64 dev eth0 nodad\n");
    world.within("an address more", |_| takes("10.1.1.77") && takes("fd01:1::77"));
    world.ip("addr del 10.1.1.77/24 dev eth0\n");
    world.within("an address less", |_| !takes("10.1.1.77") && takes("10.1.1.11"));
    world.is_served();
}

#[test]
fn packets_go_on_without_it_and_what_it_drops_is_logged() {
    let mut world = Watched::new();
    // A VIP that the backend is not configured with.
    let stranger = Served::named("6in4").at(ECHO);
    let dropped =
        |world: &Watched| world.logged().contains("tunnel packets dropped: unknown_vip (From one of our edges");
    assert!(!dropped(&world), "nothing is dropped yet");
    let is_logged = wait_until(patience(Duration::from_secs(30)), || {
        let _ = world.lab.netns(CLIENT).within(|| {
            let connecting = std::net::TcpStream::connect_timeout(&stranger, Duration::from_millis(50));
            drop(connecting);
        });
        Ok(dropped(&world))
    });
    assert!(is_logged.unwrap(), "{}", world.logged());

    world.watcher.take().expect("it runs").kill().expect("it is killed");
    assert!(world.is_attached("eth0"), "the program stays");
    world.is_served();
    let (watcher, _) = Watched::watcher(&world.lab);
    world.watcher = Some(watcher);
    std::thread::sleep(patience(Duration::from_millis(500)));
    world.is_served();
    world.watcher.take().expect("it runs").stop().expect("it ends");
    assert!(world.is_attached("eth0"), "the program stays");
    world.is_served();
}

#[test]
fn an_egress_that_is_not_there_keeps_no_tunnel_packet_out() {
    let lab = Small::on_veth().expect("the lab comes up");
    let args = ["--from", SOURCES[0], "--vip", "192.0.2.0/24", "--egress", "eth0", "--egress", "away0"];
    let (watcher, log) = lab.watch_decap(BACKEND, &args).expect("it starts");
    let world = Watched { lab, watcher: Some(watcher), log };
    world.within("attached without it", |world| world.is_attached("eth0"));
    world.within("named", |world| world.logged().contains("no interface away0"));
    world.ip("link add away0 type veth peer name away1\nlink set away0 up\nlink set away1 up\n");
    world.within("taken as it comes", |world| world.logged().contains("leave by eth0, away0"));
    world.ip("link del away0\n");
    world.within("and left as it goes", |world| world.logged().matches("no interface away0").count() == 2);
    assert!(world.is_attached("eth0"));
}
