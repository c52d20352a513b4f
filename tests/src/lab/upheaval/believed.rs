//! Deaths of backends according to the daemon, read from its log.
//!
//! Packets follow the results of probes, right or wrong. On a machine that is busy with other work, a probe of a live
//! backend can fail three times in a row.

use std::time::{Duration, Instant, SystemTime};

use super::outage::{Outage, Reach};
use crate::lab::topology::{Backend, Family, Part};

const DAY: u64 = 24 * 60 * 60;

/// Upper bound of the time between a state's store and its log line.
const AFTER: Duration = Duration::from_millis(500);

/// Phrases of log lines about a backend that is down, but keeps its flows or still serves. A drained backend keeps its
/// flows as well; its phrase does not distinguish it from a backend that lost them.
const IN_DOUBT: [&str; 3] =
    ["it keeps its flows until the cause is clear", "it serves on, since too few are up", "it stays drained"];

/// Each time in which a backend was considered dead, by pool.
pub fn outages(log: &str) -> Vec<Outage> {
    let now = (SystemTime::now(), Instant::now());
    let mut outages: Vec<Outage> = Vec::new();
    for line in log.lines() {
        let Some((backend, reach, at)) = member(line).zip(time(line, now)).map(|((who, reach), at)| (who, reach, at))
        else {
            continue;
        };
        let lasting =
            outages.iter_mut().find(|outage| outage.to.is_none() && (outage.backend, outage.reach) == (backend, reach));
        match (lasting, line.contains("kind=\"backend_down\""), line.contains("kind=\"backend_up\"")) {
            (Some(outage), _, true) => outage.to = Some(at),
            (None, true, _) => {
                let from = at.checked_sub(AFTER).unwrap_or(at);
                outages.push(Outage {
                    backend,
                    reach,
                    from,
                    to: None,
                    in_doubt: IN_DOUBT.iter().any(|doubt| line.contains(doubt)),
                });
            }
            _ => {}
        }
    }
    outages
}

/// The outages of `believed` that began while the machine was alive.
pub fn wrong<'a>(believed: &'a [Outage], real: &[Outage]) -> Vec<&'a Outage> {
    let dead = |outage: &Outage| {
        real.iter().any(|real| {
            real.reach == Reach::Machine
                && real.backend == outage.backend
                && real.from <= outage.from
                && real.to.is_none_or(|to| to >= outage.from)
        })
    };
    believed.iter().filter(|outage| !dead(outage)).collect()
}

/// The member of a pool that a log line is about.
fn member(line: &str) -> Option<(Backend, Reach)> {
    let (pool, backend) = line.split_once("subject=\"")?.1.split_once('"')?.0.split_once('/')?;
    let backend = Backend::named(backend)?;
    let reach = [Part::Lan, Part::Wan]
        .into_iter()
        .flat_map(|part| [Family::V4, Family::V6].map(|via| (part, via)))
        .find(|&(part, via)| backend.provider.pool(part, via) == pool);
    reach.map(|(part, via)| (backend, Reach::Pool(part, via)))
}

/// Time of a log line, which contains the time of day in UTC; the line is less than a day old.
fn time(line: &str, (wall, clock): (SystemTime, Instant)) -> Option<Instant> {
    let (_, of_day) = line.split_once('T')?;
    let mut parts = of_day.split_once('Z')?.0.splitn(3, ':');
    let mut part = || parts.next();
    let (hours, minutes, seconds) = (part()?.parse::<u64>().ok()?, part()?.parse::<u64>().ok()?, part()?);
    let at =
        Duration::from_secs(hours * 3600 + minutes * 60) + Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    let day = Duration::from_secs(DAY);
    let since_epoch = wall.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let now =
        Duration::from_secs(since_epoch.as_secs() % DAY) + Duration::from_nanos(since_epoch.subsec_nanos().into());
    let age = if now >= at { now.checked_sub(at)? } else { (now + day).checked_sub(at)? };
    clock.checked_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_back() {
        let now = SystemTime::now();
        let of_day = |ago: u64| {
            let second = (now.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() - ago) % DAY;
            format!("2026-01-02T{:02}:{:02}:{:02}.000000Z", second / 3600, second / 60 % 60, second % 60)
        };
        let log = format!(
            "{}  WARN x: 3 probes failed kind=\"backend_down\" subject=\"provider-a-wan6/a2\"\n\
             {}  INFO x: a file kind=\"config_applied\" subject=\"7\"\n\
             {}  WARN x: 3 probes failed kind=\"backend_down\" subject=\"provider-b-lan4/b3\"\n\
             {}  INFO x: 2 probes passed kind=\"backend_up\" subject=\"provider-a-wan6/a2\"\n",
            of_day(40),
            of_day(30),
            of_day(20),
            of_day(10)
        );
        let outages = outages(&log);
        let [a2, b3] = ["a2", "b3"].map(|name| Backend::named(name).unwrap());
        let [first, second] = outages.as_slice() else { panic!("{outages:?}") };
        assert_eq!((first.backend, first.reach), (a2, Reach::Pool(Part::Wan, Family::V6)));
        assert_eq!((second.backend, second.reach, second.to), (b3, Reach::Pool(Part::Lan, Family::V4), None));
        let lasted = first.to.unwrap().duration_since(first.from);
        assert!(lasted > Duration::from_secs(30) && lasted < Duration::from_secs(31), "{lasted:?}");
        assert_eq!(wrong(&outages, &[Outage { reach: Reach::Machine, to: None, ..first.clone() }]).len(), 1);
    }
}
