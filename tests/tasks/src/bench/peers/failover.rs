//! The effect on clients when a backend dies silently.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use edge_tests::lab::{
    Lab,
    load::{
        self, Load, Manner, Pace, Record, Reuse, Stream,
        report::{longest_gap, served},
    },
    topology::{Backend, CLIENTS, Provider},
};

use super::super::results::Failover;
use crate::interrupt;

/// The backend that dies.
pub(super) const VICTIM: Backend = Backend { provider: Provider::A, number: 2 };

/// Streams of each client over kept connections, and as many over new ones.
const STREAMS: usize = 18;
/// Interval of requests in each stream. A stream that waits for an answer sends nothing else until its timeout.
const PACE: Duration = Duration::from_millis(50);
/// Timeout of a request, after which the next one is sent.
const PATIENCE: Duration = Duration::from_millis(500);
/// Interval between the points of the plot.
const TENTH: Duration = Duration::from_millis(100);

/// Makes load for `before`, cuts the victim's cables and kills its server, and makes load for `after`.
///
/// # Errors
/// If the run is invalid: requests failed before, the victim had no traffic, or (if the load balancer `balances`)
/// clients were not moved.
pub(super) fn run(
    lab: &mut Lab,
    targets: &[SocketAddr],
    balances: bool,
    before: Duration,
    after: Duration,
) -> Result<Failover> {
    let streams: Vec<_> = (0..2 * STREAMS)
        .map(|index| Stream {
            target: targets[index / 2 % targets.len()],
            reuse: if index % 2 == 0 { Reuse::KeepAlive } else { Reuse::New },
        })
        .collect();
    let manner = Manner { pace: Pace::Answered(PACE), patience: PATIENCE };
    let start = Instant::now();
    let clients = CLIENTS.into_iter().enumerate();
    let loads = clients.map(|(index, client)| Load::with(lab.netns(client), &streams, index * streams.len(), manner));
    let loads = loads.collect::<Result<Vec<_>>>()?;
    interrupt::pause(before)?;
    let died = Instant::now();
    lab.kill_backend(VICTIM)?;
    let dead = Instant::now();
    interrupt::pause(after)?;
    let end = Instant::now();
    let records = load::stop(loads)?;
    check(&records, start, died, dead, end, balances)?;
    Ok(Failover {
        requests: records.len() as u64,
        failed: records.iter().filter(|record| record.outcome.is_err()).count() as u64,
        longest_gap_ms: longest_gap(&records).as_secs_f64() * 1e3,
        answers: answers(&records, start, end),
        died_at: tenth(start, died),
    })
}

/// Checks that the run is valid.
fn check(records: &[Record], start: Instant, died: Instant, dead: Instant, end: Instant, balances: bool) -> Result<()> {
    let failed = |record: &&Record| record.outcome.is_err();
    let early = records.iter().filter(|record| record.end < died);
    let lost = early.clone().filter(failed).count();
    let all = early.clone().count();
    ensure!(lost * 100 <= all, "{lost} of {all} requests failed while every backend was alive");
    let victim = VICTIM.to_string();
    let before = served(records, start, died);
    ensure!(before.len() == 3, "answers came from {before:?}, not from three backends");
    ensure!(before[&victim] * 10 > all, "{victim} had next to no traffic: {before:?}");
    // Answers that were sent before may still arrive.
    let afterwards = served(records, dead + TENTH, end);
    ensure!(!afterwards.contains_key(&victim), "{victim} is dead and answers: {afterwards:?}");
    ensure!(records.iter().any(|record| failed(&record)), "a backend died and no request was lost");
    if balances {
        let last = records.iter().filter(|record| record.start + PATIENCE >= end && record.end < end);
        let (all, lost) = (last.clone().count(), last.filter(failed).count());
        ensure!(lost * 10 < all, "{lost} of the last {all} requests still failed");
    }
    Ok(())
}

/// Number of answers in each tenth of a second between `start` and `end`; only whole tenths count.
fn answers(records: &[Record], start: Instant, end: Instant) -> Vec<u32> {
    let mut answers = vec![0; tenth(start, end)];
    for record in records.iter().filter(|record| record.outcome.is_ok()) {
        if let Some(count) = answers.get_mut(tenth(start, record.end)) {
            *count += 1;
        }
    }
    answers
}

fn tenth(start: Instant, at: Instant) -> usize {
    usize::try_from(at.saturating_duration_since(start).as_millis() / TENTH.as_millis()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(zero: Instant, start: u64, end: u64, outcome: Result<&str, &str>) -> Record {
        let at = |ms| zero + Duration::from_millis(ms);
        let outcome = outcome.map(str::to_owned).map_err(str::to_owned);
        Record { stream: 0, start: at(start), end: at(end), outcome }
    }

    #[test]
    fn answers_fall_into_the_tenth_in_which_they_came() {
        let zero = Instant::now();
        let records = [
            record(zero, 0, 99, Ok("a1")),
            record(zero, 90, 100, Ok("a1")),
            record(zero, 150, 190, Err("lost")),
            record(zero, 150, 250, Ok("a1")),
            // After the end.
            record(zero, 250, 350, Ok("a1")),
        ];
        assert_eq!(answers(&records, zero, zero + Duration::from_millis(310)), [1, 1, 1]);
    }

    #[test]
    fn a_run_that_shows_nothing_is_refused() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let check = |records: &[Record]| check(records, zero, at(100), at(110), at(2000), true);
        let healthy = ["a1", "a2", "a3"].map(|name| record(zero, 0, 10, Ok(name)));
        let lost = record(zero, 100, 600, Err("no answer"));
        let moved = record(zero, 1600, 1610, Ok("a1"));
        let with = |more: &[&Record]| healthy.iter().chain(more.iter().copied()).cloned().collect::<Vec<_>>();

        check(&with(&[&lost, &moved])).unwrap();
        let message = |records: &[Record]| check(records).unwrap_err().to_string();
        assert!(message(&with(&[&moved])).contains("no request was lost"));
        assert!(message(&healthy[..2]).contains("not from three backends"));
        assert!(message(&with(&[&record(zero, 10, 20, Err("refused")), &lost, &moved])).contains("was alive"));
        assert!(message(&with(&[&lost, &record(zero, 1600, 1610, Ok("a2"))])).contains("is dead and answers"));
        assert!(message(&with(&[&lost, &record(zero, 1600, 1610, Err("no answer"))])).contains("still failed"));
    }
}
