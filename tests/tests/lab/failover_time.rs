//! How long packets still go to a backend after user space has been told that nothing can be sent there.
//!
//! A busy machine wakes every process late. So each event is timed beside a witness, which waits for the same
//! notification and then as long as the load balancer collects changes: what the witness is late by is the machine's.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, UdpSocket},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use edge_tests::lab::{
    extent::extent,
    netns::Netns,
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, Served, Small},
    status,
    topology::{ECHO, EDGE},
    wait_until,
};

/// Promised from the event to the last packet that goes to the backend.
const LIMIT: Duration = Duration::from_millis(100);
/// As long as the load balancer collects changes.
const COLLECTED: Duration = Duration::from_millis(20);
/// Interval between requests.
const PACE: Duration = Duration::from_millis(1);
/// How long requests go on after an event.
const AFTER: Duration = Duration::from_millis(400);
/// Sockets, whose flows are spread over the backends.
const SOCKETS: usize = 64;

/// A kind of event.
struct Kind {
    name: &'static str,
    /// What ip(8) monitors, and a part of the line that tells of it.
    told: (&'static str, &'static str),
    /// On the first backend, then on the edge.
    gone: [&'static str; 2],
    back: [&'static str; 2],
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "link down",
        told: ("link", "eth1"),
        gone: ["", "link set eth1 down\n"],
        back: ["", "link set eth1 up\naddr replace fd01:1::1/64 dev eth1 nodad\n"],
    },
    Kind {
        name: "no way left",
        told: ("route", "blackhole 10.1.1.11"),
        gone: ["", "route add blackhole 10.1.1.11/32\n"],
        back: ["", "route del blackhole 10.1.1.11/32\n"],
    },
    // The backend takes packets as before, so that only the kernel's word moves them.
    Kind {
        name: "neighbour failed",
        told: ("neigh", "10.1.1.11 dev eth1 FAILED"),
        gone: ["link set eth0 arp off\n", "neigh change 10.1.1.11 lladdr MAC dev eth1 nud probe\n"],
        back: ["link set eth0 arp on\n", ""],
    },
];

/// What was measured of one event.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// From the notification to the last request that did not reach the other backend.
    took: Duration,
    /// How late the witness was.
    late: Duration,
}

/// Lines of `ip monitor`, with the times at which they were read.
struct Monitor {
    child: Child,
    lines: Receiver<(Instant, String)>,
}

impl Monitor {
    fn start(edge: &Netns, what: &str) -> Self {
        let mut command = edge.command("ip").expect("a command");
        let mut child = command.args(["monitor", what]).stdout(Stdio::piped()).spawn().expect("ip(8) starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _the_test_is_over = sender.send((Instant::now(), line));
            }
        });
        Self { child, lines }
    }

    /// The time of the next line that contains `text`, of those after `since`.
    #[track_caller]
    fn told(&self, text: &str, since: Instant) -> Instant {
        let until = Instant::now() + patience(Duration::from_secs(5));
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let (at, line) = self.lines.recv_timeout(left).unwrap_or_else(|error| panic!("{text}: {error}"));
            if at >= since && line.contains(text) {
                return at;
            }
        }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _it_may_have_ended = (self.child.kill(), self.child.wait());
    }
}

/// Sends requests from now on for [`AFTER`] after `told` has returned a time, and returns when the last request was sent
/// that the first backend or nobody answered.
fn last_elsewhere(told: &Receiver<Instant>) -> Instant {
    let sockets: Vec<UdpSocket> = (0..SOCKETS).map(|_| socket()).collect();
    let mut sent: Vec<(Instant, bool)> = Vec::new();
    let mut end = None;
    let mut buffer = [0; 64];
    while end.is_none_or(|end| Instant::now() < end) {
        let number = u32::try_from(sent.len()).expect("seconds of requests");
        let socket = &sockets[sent.len() % SOCKETS];
        sent.push((Instant::now(), false));
        // Without a way to the edge this fails, and so counts as lost.
        let _lost = socket.send(&number.to_be_bytes());
        thread::sleep(PACE);
        for socket in &sockets {
            take(socket, &mut buffer, &mut sent);
        }
        end = end.or_else(|| told.try_recv().ok().map(|told| told + AFTER));
    }
    thread::sleep(patience(Duration::from_millis(200)));
    for socket in &sockets {
        take(socket, &mut buffer, &mut sent);
    }
    let elsewhere = sent.iter().filter(|(_, good)| !good).map(|(at, _)| *at);
    elsewhere.max().expect("before the event the first backend answers some")
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    socket.connect(Served::named("4in4").at(ECHO)).expect("a route");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

/// Notes the requests that the second backend has answered.
fn take(socket: &UdpSocket, buffer: &mut [u8], sent: &mut [(Instant, bool)]) {
    while let Ok(length) = socket.recv(buffer) {
        let Some((name, number)) = buffer[..length].split_last_chunk::<4>() else { continue };
        if name.starts_with(BACKENDS[1].as_bytes()) {
            sent[u32::from_be_bytes(*number) as usize].1 = true;
        }
    }
}

fn measure(lab: &Small, kind: &Kind, mac: &str) -> Measured {
    let (edge, backend) = (lab.netns(EDGE), lab.netns(BACKENDS[0]));
    let monitor = Monitor::start(edge, kind.told.0);
    let (sender, told) = channel();
    let client = lab.netns(CLIENT).spawn(move || Ok(last_elsewhere(&told))).expect("a client");
    thread::sleep(Duration::from_millis(100));
    let started = Instant::now();
    backend.ip(kind.gone[0]).expect("the backend's part");
    edge.ip(&kind.gone[1].replace("MAC", mac)).expect("the edge's part");
    let at = monitor.told(kind.told.1, started);
    thread::sleep(COLLECTED);
    let late = at.elapsed().saturating_sub(COLLECTED);
    sender.send(at).expect("the client waits");
    let last = client.join().expect("it does not panic").expect("it measures");
    backend.ip(kind.back[0]).expect("the backend's part");
    edge.ip(kind.back[1]).expect("the edge's part");
    let up = wait_until(patience(Duration::from_secs(10)), || {
        let seen = status::backends(&lab.edge()?.status(lab.netns(EDGE))?)?;
        Ok(seen.iter().any(|one| one.pool == "p4" && one.name == BACKENDS[0] && one.health == "up"))
    });
    assert!(up.expect("a status"), "{}: {}", kind.name, lab.ctl(&["status"]).expect("a status"));
    Measured { took: last.saturating_duration_since(at), late }
}

#[test]
fn no_packet_is_lost_a_tenth_of_a_second_after_a_path_is_known_to_be_dead() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
    // The kernel gives up soon after it asks; it would ask for seconds before it gives up on whom it knows no MAC address of.
    for (name, value) in [("ucast_solicit", "1"), ("mcast_solicit", "60"), ("retrans_time_ms", "50")] {
        lab.netns(EDGE).set(&format!("ipv4/neigh/eth1/{name}"), value).expect("it is set");
    }
    lab.balance(Mode::Native).expect("the load balancer starts");
    let shown = edge_tests::lab::tool::run(
        lab.netns(BACKENDS[0]).command("cat").expect("a command").arg("/sys/class/net/eth0/address"),
    );
    let mac = shown.expect("a MAC address").trim().to_owned();
    let mut report = String::new();
    for kind in &KINDS {
        let mut all: Vec<_> = (0..extent(5, 21)).map(|_| measure(&lab, kind, &mac)).collect();
        all.sort_unstable_by_key(|measured| measured.took);
        let took: Vec<_> = all.iter().map(|measured| measured.took.as_millis()).collect();
        let _infallible = writeln!(report, "{}: {took:?} ms", kind.name);
        let mut own: Vec<_> = all.iter().map(|measured| measured.took.saturating_sub(measured.late)).collect();
        own.sort_unstable();
        assert!(own[own.len() / 2] < LIMIT, "{report}{all:?}");
    }
    println!("{report}");
}
