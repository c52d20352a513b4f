//! Maximum rate of requests that the machine sustains: closed loop, by wrk.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{self, Lab, process::Process, topology::CLIENTS};
use nix::sys::signal::Signal;

use crate::interrupt;

/// Processes per client: as many as there are backends, for clients without a balancer.
const EACH: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    KeepAlive,
    /// A connection for each request.
    New,
}

/// Results of a load; sums over all its processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct WrkResult {
    pub(super) requests: u64,
    pub(super) per_second: f64,
    errors: u64,
}

/// Makes load for `time` from all clients, over `connections` connections in all.
///
/// # Errors
/// If more than one request in a hundred failed.
pub(super) fn run(
    lab: &Lab,
    targets: &[SocketAddr],
    connections: usize,
    reuse: Reuse,
    time: Duration,
) -> Result<WrkResult> {
    let each = (connections / (CLIENTS.len() * EACH)).to_string();
    let mut loads: Vec<(Process, PathBuf)> = Vec::new();
    for client in CLIENTS {
        for number in 0..EACH {
            let mut wrk = lab.netns(client).command("wrk")?;
            // wrk accepts whole seconds only; it is stopped by a signal.
            wrk.args(["-t", "1", "-c", &each, "-d", "1h"]);
            if reuse == Reuse::New {
                wrk.args(["-H", "Connection: close"]);
            }
            wrk.arg(format!("http://{}/", targets[number % targets.len()]));
            let log = lab.dir().join(format!("wrk-{client}-{number}.log"));
            // Output is appended to a log.
            let _ = std::fs::remove_file(&log);
            loads.push((Process::start("wrk", &mut wrk, &log)?, log));
        }
    }
    interrupt::pause(time)?;
    loads.iter().try_for_each(|(process, _)| process.signal(Signal::SIGINT))?;
    let mut sum = WrkResult::default();
    for (mut process, log) in loads {
        let ended = lab::wait_until(Duration::from_secs(5), || Ok(process.ended()?.is_some()))?;
        ensure!(ended, "wrk does not end");
        let found = read(&log)?;
        sum.requests += found.requests;
        sum.per_second += found.per_second;
        sum.errors += found.errors;
    }
    ensure!(sum.errors * 100 <= sum.requests, "{} of {} requests failed", sum.errors, sum.requests);
    Ok(sum)
}

fn read(log: &Path) -> Result<WrkResult> {
    let output = std::fs::read_to_string(log)?;
    parse(&output).with_context(|| format!("wrk printed something else than its figures:\n{output}"))
}

fn parse(output: &str) -> Option<WrkResult> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let requests =
        output.lines().find(|line| line.contains(" requests in "))?.split_whitespace().next()?.parse().ok()?;
    let per_second = output.lines().find_map(|line| number(line.strip_prefix("Requests/sec:")?))?;
    let errors = output.lines().filter(|line| line.contains("Socket errors:") || line.contains("Non-2xx"));
    let errors = errors.flat_map(|line| line.split([' ', ','])).filter_map(|word| word.parse::<u64>().ok()).sum();
    Some(WrkResult { requests, per_second, errors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_errors_are_read() {
        let output = "Running 60m test @ http://192.0.2.10:80/\n  1 threads and 8 connections\n  \
                    Thread Stats   Avg      Stdev     Max   +/- Stdev\n    Latency   180.74us  130.30us   6.16ms   96.96%\n    \
                    Req/Sec    43.92k     2.76k   47.01k    80.00%\n  43715 requests in 1.00s, 6.67MB read\n  \
                    Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 5\n\
                    Requests/sec:  43699.13\nTransfer/sec:      6.67MB\n";
        assert_eq!(parse(output), Some(WrkResult { requests: 43715, per_second: 43699.13, errors: 11 }));
        assert_eq!(parse("unable to connect"), None);
    }
}
