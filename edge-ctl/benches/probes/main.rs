//! How many probes a second the probe engine sustains, and what they cost, against real servers (root).
//!
//! `cargo bench --package edge-ctl --bench probes` prints one JSON object for each figure; `EDGE_BENCH_QUICK=1` takes
//! less time for it.

mod engine;
mod server;

use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use serde::Serialize;

use self::{
    engine::{Load, ProbeType},
    server::{Handshakes, Server},
};

/// What a line of the output is.
#[derive(Serialize)]
struct Figure {
    bench: &'static str,
    size: String,
    /// Median.
    value: f64,
    unit: &'static str,
    /// Half of the samples lie within this part of the median.
    spread: f64,
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some(server::VERB) {
        return server::serve();
    }
    assert!(nix::unistd::geteuid().is_root(), "this makes a network namespace, which needs root");
    // Its sockets, those in TIME-WAIT too, are gone with this process.
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    edge_tests::namespace::sh("ip link set lo up && ip route add local 10.1.0.0/16 dev lo");
    let mut server = Server::start();
    let quick = std::env::var_os("EDGE_BENCH_QUICK").is_some();
    for kind in [ProbeType::Tcp, ProbeType::Http] {
        cost(kind, quick);
        rate(kind, quick);
    }
    https(&mut server, quick);
}

/// Processor time for as many backends as an edge may have, or as many as this host sustains, and the share of their
/// handshakes that resume a session.
fn https(server: &mut Server, quick: bool) {
    for backends in [10_000, 7_000, 5_000, 2_500, 1_000] {
        let load = Load { kind: ProbeType::Https, backends, interval: Duration::from_secs(1) };
        let slice = Duration::from_millis(if quick { 500 } else { 2000 });
        let measured = load.measure(slice, || {
            server.handshakes();
        });
        let Handshakes { all, resumed } = server.handshakes();
        if measured.is_sustained(load) {
            let (value, spread) = middle(&measured.processor);
            print(&Figure { bench: "probe engine", size: load.to_string(), value, unit: "CPU s/s", spread });
            #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53")]
            let value = 100.0 * resumed as f64 / all as f64;
            let bench = "probe engine, resumed TLS sessions";
            return print(&Figure { bench, size: load.to_string(), value, unit: "%", spread: 0.0 });
        }
        eprintln!("{load} is too much for this host: {measured:?}");
    }
}

/// Processor time at an ordinary load.
fn cost(kind: ProbeType, quick: bool) {
    let load = Load { kind, backends: 1000, interval: Duration::from_secs(1) };
    let measured = load.measure(Duration::from_millis(if quick { 200 } else { 600 }), || ());
    assert!(measured.is_sustained(load), "{load} is too much for this host: {measured:?}");
    let (value, spread) = middle(&measured.processor);
    print(&Figure { bench: "probe engine", size: load.to_string(), value, unit: "CPU s/s", spread });
}

/// The highest rate at which all probes are made in time and answered in time, to within the steps in which it is sought.
fn rate(kind: ProbeType, quick: bool) {
    let (slice, more) = if quick { (80, 2.0) } else { (160, 1.4) };
    let mut best = None;
    let mut backends = 250.0_f64;
    // More do not fit into one service.
    while backends < 10_000.0 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 10,000")]
        let load = Load { kind, backends: backends as u32, interval: Duration::from_millis(100) };
        // Something else on this host may have been in the way once.
        let sustained = (0..2).find_map(|_| {
            let measured = load.measure(Duration::from_millis(slice), || ());
            measured.is_sustained(load).then_some(measured)
        });
        let Some(measured) = sustained else { break };
        best = Some((load, measured));
        backends *= more;
    }
    let (load, measured) = best.expect("2,500 probes a second are not too many");
    let (value, spread) = middle(&measured.rate);
    print(&Figure { bench: "probe engine, most probes", size: load.to_string(), value, unit: "probes/s", spread });
    let (value, spread) = middle(&measured.processor);
    print(&Figure { bench: "probe engine, most probes", size: load.to_string(), value, unit: "CPU s/s", spread });
}

fn print(figure: &Figure) {
    println!("{}", serde_json::to_string(figure).expect("text and numbers"));
}

/// Median of an odd number of values, and the median distance to it as a part of it.
fn middle(values: &[f64]) -> (f64, f64) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let middle = median(values.to_vec());
    (middle, median(values.iter().map(|value| (value - middle).abs()).collect()) / middle)
}
