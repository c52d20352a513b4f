//! Load on translation: bytes, connections per second, consecutive connections to one backend, and changes under load.
//!
//! Each test makes little load; with `EDGE_TEST_LONG=1` and a release build, all that is promised.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use edge_tests::lab::{
    bulk::{self, BULK, Direction},
    extent::extent,
    load::{Load, Manner, Pace, Reuse, Stream},
    patience::patience,
    short::{self, Tally},
    small::{BACKENDS, CLIENT},
};

use super::{Nat, PORT, VIPS, configuration};

/// Additional client addresses.
const CLIENTS: u8 = 8;
/// Connections per second that one backend and one source must carry, if the machine does.
const FAST: u32 = 8_000;

fn service(vip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(vip.parse().expect("an address"), port)
}

/// The configuration with the default range of ports, for which other tests of a small lab have no memory.
fn all_ports() -> String {
    let text = configuration("").replace("16384-20479", "16384-32767");
    text.replace("nat_flows = 16384", "nat_flows = 131072").replace("slots = 1024", "slots = 4096")
}

/// So many client addresses that no port is reused soon.
fn clients(nat: &Nat, is_v4: bool) -> Vec<IpAddr> {
    let address = |number: u8| if is_v4 { format!("10.0.0.{number}") } else { format!("fd00::{number:x}") };
    let all = 100..100 + CLIENTS;
    let mut lines = String::new();
    for number in all.clone() {
        let more = if is_v4 { "/24 dev eth0" } else { "/64 dev eth0 nodad" };
        let _infallible = writeln!(lines, "addr add {}{more}", address(number));
    }
    nat.lab.netns(CLIENT).ip(&lines).expect("addresses");
    all.map(|number| address(number).parse().expect("an address")).collect()
}

#[test]
fn much_goes_up_and_down_with_equal_checksums() {
    let nat = Nat::start("");
    let bytes = extent(64 << 20, 1 << 30);
    for vip in VIPS {
        for direction in [Direction::Up, Direction::Down] {
            let began = Instant::now();
            let exchange = || bulk::exchange(service(vip, BULK), direction, bytes);
            let sum = nat.lab.netns(CLIENT).within(exchange).expect("a namespace");
            let sum = sum.unwrap_or_else(|error| panic!("{vip} {direction:?}: {error}"));
            println!("{vip} {direction:?}: {bytes} bytes, checksum {sum:016x}, in {:?}", began.elapsed());
        }
    }
}

fn short(nat: &Nat, from: &[IpAddr], to: SocketAddr, per_second: u32, lasts: Duration) -> Tally {
    let plan = short::Plan { from: from.to_vec(), to, per_second, lasts };
    short::run(nat.lab.netns(CLIENT), &plan).expect("a namespace")
}

/// Checks that no connection failed, found no port or had to send its SYN twice, at a rate that means something.
fn is_good(nat: &Nat, tally: &Tally, wanted: u32) {
    let [exhausted, raced] = ["nat_exhausted", "nat_raced"].map(|exit| nat.left_by(exit));
    println!("{exhausted} SYNs found no port, {raced} raced");
    assert_eq!((tally.failed.len(), exhausted), (0, 0), "{tally:?}");
    assert!(tally.rate() > f64::from(wanted) / 20.0, "{tally:?}");
    // A SYN that the backend refuses at first is sent again after a second; so is one that a busy machine loses.
    if extent(false, true) {
        assert!(tally.longest < Duration::from_secs(1), "{tally:?}");
    }
}

#[test]
fn short_connections_at_four_fifths_of_what_the_lab_carries_alone_all_end_well() {
    let mut nat = Nat::without_balancer();
    let (v4, v6) = (clients(&nat, true), clients(&nat, false));
    let kinds = [(v4, VIPS[0], "10.1.1.11"), (v6, VIPS[1], "fd01:1::11")];
    let rates = kinds.each_ref().map(|(from, _, backend)| {
        let tally =
            short(&nat, from, service(backend, 80), u32::MAX, extent(Duration::from_secs(1), Duration::from_secs(5)));
        assert_eq!(tally.failed.len(), 0, "{tally:?}");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousands")]
        let four_fifths = (0.8 * tally.rate()) as u32;
        four_fifths
    });
    nat.balance(&all_ports());
    for ((from, vip, _), rate) in kinds.iter().zip(rates) {
        let tally = short(&nat, from, service(vip, PORT), rate, extent(Duration::from_secs(2), Duration::from_mins(1)));
        println!(
            "{vip}: {rate}/s wanted, {:.0}/s, {} answered, longest {:?}",
            tally.rate(),
            tally.answered,
            tally.longest
        );
        is_good(&nat, &tally, rate);
    }
}

/// The web server closes first, so that each connection leaves a `TIME_WAIT` of its tuple at the backend.
#[test]
fn a_port_in_time_wait_is_taken_again_and_no_connection_is_refused() {
    let nat = Nat::start_with(&all_ports());
    let from = clients(&nat, true);
    let lasts = extent(Duration::from_secs(3), Duration::from_mins(2));
    let tally = short(&nat, &from, service(VIPS[0], PORT), FAST, lasts);
    println!("{FAST}/s wanted, {:.0}/s, {} answered, longest {:?}", tally.rate(), tally.answered, tally.longest);
    is_good(&nat, &tally, FAST);
}

#[test]
fn flows_of_living_backends_outlive_restart_upgrade_reload_drain_and_failover_under_load() {
    let mut nat = Nat::start("");
    let streams = VIPS.map(|vip| [Stream { target: service(vip, PORT), reuse: Reuse::KeepAlive }; 16]).concat();
    let manner = Manner { pace: Pace::Answered(Duration::from_millis(20)), patience: patience(Duration::from_secs(5)) };
    let load = Load::with(nat.lab.netns(CLIENT), &streams, 0, manner).expect("a load");
    let rest = || thread::sleep(extent(Duration::from_millis(300), Duration::from_secs(5)));
    rest();
    for round in 0..extent(1, 3) {
        let file = nat.lab.edge().expect("an edge").configuration();
        let text = std::fs::read_to_string(&file).expect("it is there");
        std::fs::write(&file, text.replace("# end", &format!("# {round}\n# end"))).expect("it is written");
        nat.lab.ctl(&["reload"]).expect("it reloads");
        rest();
        nat.lab.kill_daemon().expect("it is killed");
        rest();
        nat.lab.start_daemon().expect("it starts again");
        rest();
        let output = nat.lab.ctl(&["upgrade"]).expect("it upgrades");
        assert!(output.contains("its program is attached"), "{output}");
        rest();
        for (one, other) in [
            (&["drain", "provider-a/a1"][..], &["enable", "provider-a/a1"][..]),
            (&["failover", "web", "--to", "provider-b"], &["failback", "web"]),
        ] {
            nat.lab.ctl(one).expect("it is done");
            rest();
            nat.lab.ctl(other).expect("it is undone");
            rest();
        }
    }
    let records = load.stop().expect("it ends");
    let lost: Vec<_> = records.iter().filter(|record| record.outcome.as_deref() != Ok(BACKENDS[0])).collect();
    println!("{} requests over {} connections, {} lost or moved", records.len(), streams.len(), lost.len());
    assert!(records.len() > 20 * streams.len(), "{}", records.len());
    assert!(lost.is_empty(), "{} of {}: {:?}", lost.len(), records.len(), &lost[..lost.len().min(5)]);
}
