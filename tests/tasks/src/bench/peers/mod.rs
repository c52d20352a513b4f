//! Comparison of this load balancer with alternatives: same lab, same clients, same backends, one run.
//!
//! Clients, load balancer and backends share the machine's CPUs, so figures compare within a run, and mean little
//! beyond it. "No balancer" is the floor: clients that have the addresses of the three backends and spread themselves
//! over them.
//!
//! IPVS is not among them: its `nat` needs the module `ip_vs` in the kernel that the bench runs on, and the tool `ipvsadm`.
//! `cargo xtask vm --icount` has rows for its other methods, in kernels that have the module.
//!
//! Load balancers on XDP need cables whose senders compute checksums, and a program at the far end (see `lab::link` and
//! `lab::fabric`), which would cost the others time without need. So the XDP ones come first, and then all cables are
//! reset to the kernel's defaults.

mod tools;
mod contender;
mod running;

mod wrk;
mod machine;
mod steady;
mod failover;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};
use edge_tests::lab::{Lab, Options, topology::CLIENTS};
use xtask::step::step;

use self::{contender::Contender, machine::Meter, running::Running, tools::Tools};
use super::results::{Peer, Results};
use crate::interrupt;

/// Number of connections of all clients, in the two maxima and in the steady phase.
const CONNECTIONS: usize = 48;

/// Duration of each phase.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// Duration of each of the two maxima.
    maximum: Duration,
    steady: Duration,
    /// Time with all backends.
    before: Duration,
    /// Time with a dead backend.
    after: Duration,
}

const FULL: Times = Times {
    maximum: Duration::from_secs(5),
    steady: Duration::from_secs(10),
    before: Duration::from_secs(2),
    after: Duration::from_secs(8),
};

/// Short phases; the last one is as long as the slowest check takes, plus the last client's timeout.
const QUICK: Times = Times {
    maximum: Duration::from_millis(500),
    steady: Duration::from_millis(500),
    before: Duration::from_millis(300),
    after: Duration::from_millis(1900),
};

/// Measures all load balancers, one after the other.
pub(super) fn measure(results: &mut Results, quick: bool, edge_ctl: &Path) -> Result<()> {
    interrupt::install()?;
    let tools = Tools::ensure(edge_ctl)?;
    let times = if quick { QUICK } else { FULL };
    let mut lab = step("laying out the lab", || {
        let lab = Lab::up(&Options::default())?;
        settings(&lab)?;
        Ok(lab)
    })?;
    let meter = Meter::start()?;
    interrupt::pause(Duration::from_millis(300))?;
    let busy = meter.busy_part()?;
    if busy > 0.1 {
        let percent = busy * 100.0;
        results.notes.push(format!(
            "CPU seconds in the lab without others: {percent:.0} % of the machine were busy before it began"
        ));
    }
    for (index, contender) in Contender::ALL.into_iter().enumerate() {
        if index > 0 {
            lab.heal_backend(failover::VICTIM)?;
        }
        if !contender.is_xdp() {
            lab.without_xdp()?;
        }
        let measured = peer(&mut lab, contender, &tools, times);
        // The cause is the user's Ctrl-C, not the interrupted system call.
        interrupt::check()?;
        match measured {
            Ok(peer) => {
                eprintln!("xtask: {}: {:.0} connections/s", peer.name, peer.connections_per_second);
                results.peers.push(peer);
            }
            Err(error) => results.failures.push(format!("{}: {error:#}", contender.name())),
        }
    }
    Ok(())
}

/// Sets kernel limits for many connections in a short time.
fn settings(lab: &Lab) -> Result<()> {
    for host in CLIENTS.into_iter().chain([edge_tests::lab::topology::EDGE]) {
        lab.netns(host).set("ipv4/ip_local_port_range", "10000 65000")?;
        lab.netns(host).set("ipv4/tcp_tw_reuse", "1")?;
    }
    Ok(())
}

fn peer(lab: &mut Lab, contender: Contender, tools: &Tools, times: Times) -> Result<Peer> {
    let running = Running::start(lab, contender, tools).context("it does not start")?;
    let targets = running.targets();
    let connections_per_second = {
        let before = running.carried(lab)?;
        let found = wrk::run(lab, &targets, CONNECTIONS, wrk::Reuse::New, times.maximum)?;
        running.has_carried(running.carried(lab)? - before, found.requests)?;
        found.per_second
    };
    let requests_per_second = wrk::run(lab, &targets, CONNECTIONS, wrk::Reuse::KeepAlive, times.maximum)?.per_second;
    let steady = steady::run(lab, &targets, CONNECTIONS, times.steady)?;
    let failover = failover::run(lab, &targets, contender.balances(), times.before, times.after)?;
    let peer = Peer {
        name: contender.name().to_owned(),
        version: contender.version(tools)?,
        configuration: contender.configuration().map(|file| format!("tests/tasks/src/bench/peers/{file}")),
        connections_per_second,
        requests_per_second,
        latency: steady.latency,
        cpu_seconds_per_million: steady.cpu_seconds_per_million,
        failover,
    };
    running.stop(lab, tools).context("it does not stop")?;
    Ok(peer)
}
