//! A status in one line: its level, and the worst reason.

#![deny(clippy::wildcard_enum_match_arm)]

use serde::Serialize;

use super::{
    few,
    status::{BackendState, BackendStatus, CertificateState, Level, ServiceState, ServiceStatus, Status},
};

/// Most names in the line.
const NAMED: usize = 3;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Headline {
    pub(crate) level: Level,
    pub(crate) text: String,
}

/// The headline for the worst condition that holds.
pub(crate) fn headline(status: &Status) -> Headline {
    let (level, text) = fault(status)
        .map(|text| (Level::Critical, text))
        .or_else(|| attention(status).map(|text| (Level::Warning, text)))
        .unwrap_or_else(|| (Level::Ok, well(status)));
    Headline { level, text }
}

fn fault(status: &Status) -> Option<String> {
    let is_bad = |service: &&ServiceStatus| service.level() == Level::Critical;
    let loading = status.daemon.as_ref().is_some_and(|daemon| daemon.loading);
    let off = status.interfaces.iter().find(|interface| interface.attached == Some(false));
    match (services(status, is_bad), off) {
        (Some(bad), _) => Some(bad),
        (None, Some(interface)) if loading => {
            Some(format!("the program is being loaded; it is not on {} yet", interface.name))
        }
        (None, Some(interface)) => {
            let why = interface.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            Some(format!("the program is not attached to {}{why}", interface.name))
        }
        (None, None) => None,
    }
}

fn attention(status: &Status) -> Option<String> {
    let daemon = status.daemon.as_ref();
    let history = status.history.as_ref();
    let left = services(status, |service| service.state == ServiceState::Fallback);
    let frozen = || Some(format!("health is frozen as it was: {}", daemon?.frozen.as_ref()?.why));
    let evacuated = || {
        let pools: Vec<_> = history?.evacuations.iter().map(|evacuation| evacuation.pool.as_str()).collect();
        (!pools.is_empty()).then(|| format!("evacuated by an operator: {}", few(&pools, NAMED)))
    };
    let failed_over = || services(status, |service| service.state == ServiceState::Failover);
    let unknown = || services(status, |service| service.state == ServiceState::Unknown);
    let first_line = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let refused = || Some(format!("the file is refused: {}", first_line(daemon?.refused.as_ref()?)));
    let program = || Some(format!("this version's program is not loaded: {}", first_line(daemon?.program.as_ref()?)));
    let on_trial = || {
        let trial = history?.trial.as_ref()?;
        Some(match &trial.overdue {
            Some(why) => format!("cannot go back to generation {} yet: {}", trial.back_to, first_line(why)),
            None => format!("on trial: goes back to generation {} unless confirmed", trial.back_to),
        })
    };
    let state_error =
        || Some(format!("a reboot would lose operators' decisions: {}", first_line(daemon?.state_error.as_ref()?)));
    let unfit = || {
        let finding = status.host.first()?;
        Some(format!("{}: {}", finding.subject, first_line(&finding.message)))
    };
    let unrecorded = || {
        let is_meant = |service: &&ServiceStatus| service.unrecorded.is_some();
        let names: Vec<_> = status.services.iter().filter(is_meant).map(|service| service.name.as_str()).collect();
        (!names.is_empty()).then(|| format!("new flows are not recorded: {}", few(&names, NAMED)))
    };
    let page = || Some(format!("the status page cannot be read: {}", first_line(daemon?.http.as_ref()?.why.as_ref()?)));
    let hook = || {
        let (hook, why) = daemon?.notify.iter().find_map(|hook| Some((hook, hook.failing.as_ref()?)))?;
        Some(format!("notify {} fails: {}", hook.name, first_line(why)))
    };
    let probes = || Some(format!("probes go to addresses only: {}", first_line(daemon?.probes.as_ref()?)));
    let absent = || {
        daemon.is_none().then(|| {
            "no daemon answers: backends are not probed, and packets are forwarded by the last states".to_owned()
        })
    };
    left.or_else(frozen)
        .or_else(evacuated)
        .or_else(failed_over)
        .or_else(|| backends(status))
        .or_else(refused)
        .or_else(program)
        .or_else(absent)
        .or_else(on_trial)
        .or_else(state_error)
        .or_else(unknown)
        .or_else(unrecorded)
        .or_else(|| certificates(status))
        .or_else(|| narrow(status))
        .or_else(unfit)
        .or_else(probes)
        .or_else(page)
        .or_else(hook)
}

/// `SERVICE: why`, or the number and names of several services.
fn services(status: &Status, is_meant: impl Fn(&&ServiceStatus) -> bool) -> Option<String> {
    let meant: Vec<_> = status.services.iter().filter(is_meant).collect();
    let first = meant.first()?;
    let names: Vec<_> = meant.iter().map(|service| service.name.as_str()).collect();
    let what = if names.len() == 1 { "service".to_owned() } else { format!("{} services:", names.len()) };
    Some(format!("{what} {}: {}", few(&names, NAMED), first.reason))
}

fn backends(status: &Status) -> Option<String> {
    let all = status.pools.iter().flat_map(|pool| &pool.backends);
    let is_out = |backend: &&BackendStatus| match backend.state {
        BackendState::Down | BackendState::Draining | BackendState::Disabled => true,
        BackendState::Up | BackendState::Unknown => false,
    };
    let out: Vec<_> = all.clone().filter(is_out).collect();
    let first = out.first()?;
    let rest = out[1..].iter().map(|backend| backend.name.clone());
    let names: Vec<_> = std::iter::once(format!("{} ({})", first.name, first.reason)).chain(rest).collect();
    Some(format!("{} of {} backends out: {}", out.len(), all.count(), few(&names, NAMED)))
}

fn certificates(status: &Status) -> Option<String> {
    let all = status.pools.iter().flat_map(|pool| &pool.backends);
    let near = all.filter_map(|backend| Some((backend, backend.certificate?)));
    let near = near.filter(|(_, certificate)| certificate.state != CertificateState::Valid);
    let (first, certificate) = near.min_by_key(|(_, certificate)| certificate.until)?;
    Some(format!("{}: {certificate}", first.name))
}

fn narrow(status: &Status) -> Option<String> {
    let all = status.pools.iter().flat_map(|pool| &pool.backends);
    let names: Vec<_> = all.filter(|backend| backend.needed_mtu.is_some()).map(|backend| &backend.name).collect();
    (!names.is_empty()).then(|| format!("the path is too narrow for IPv6 to {}", few(&names, NAMED)))
}

fn well(status: &Status) -> String {
    let all = status.pools.iter().flat_map(|pool| &pool.backends);
    let up = all.clone().filter(|backend| backend.state == BackendState::Up).count();
    let (services, all) = (status.services.len(), all.count());
    let each = if services == 1 { "the service is".to_owned() } else { format!("all {services} services are") };
    let backends = if up == all {
        format!("all {all} backends are up")
    } else {
        format!("{up} of {all} backends are known to be up")
    };
    format!("{each} served by the first pool; {backends}")
}

#[cfg(test)]
mod tests {
    use edge_common::abi::{Failover, State};

    use super::*;
    use crate::control::{
        data_plane::DataPlane as _,
        fixture::{FakeDataPlane, inventory},
        status::{Clock, Sample, build},
    };

    fn headline_after(change: impl FnOnce(&mut FakeDataPlane)) -> Headline {
        let inventory = inventory();
        let mut plane = FakeDataPlane::fresh(&inventory);
        for number in 1..=6 {
            let up = State(State::NEW | State::ALIVE | State::ENABLED | State::UP);
            plane.set_state(number, up, "").unwrap();
        }
        change(&mut plane);
        let now = Sample::take(&inventory, &plane, Clock::now());
        let mut status = build(&inventory, &plane, None, &now, None);
        // A daemon with nothing to report.
        status.daemon = serde_json::from_value(serde_json::json!({
            "pid": 1, "version": "1", "started": 0, "config": "", "refused": null, "repaired": 0
        }))
        .unwrap();
        headline(&status)
    }

    fn down(plane: &mut FakeDataPlane, numbers: &[u16]) {
        for number in numbers {
            plane.set_state(*number, State(State::ENABLED | State::DOWN), "connection refused").unwrap();
        }
    }

    #[test]
    fn the_worst_comes_first() {
        let well = headline_after(|_| {});
        assert_eq!(
            (well.level, &*well.text),
            (Level::Ok, "all 2 services are served by the first pool; all 6 backends are up")
        );
        let one = headline_after(|plane| down(plane, &[1]));
        assert_eq!(
            (one.level, &*one.text),
            (Level::Warning, "1 of 6 backends out: provider-a/a1 (connection refused)")
        );
        let pool = headline_after(|plane| down(plane, &[1, 2, 3]));
        assert_eq!(pool.level, Level::Warning);
        assert_eq!(pool.text, "service web: provider-a has 0 of 3 available, needs 2");
        let other = headline_after(|plane| {
            down(plane, &[1, 4, 5, 6]);
            plane.set_failover(1, Failover { first: 1, evacuate: false }).unwrap();
        });
        assert_eq!(other.level, Level::Critical);
        assert!(other.text.starts_with("service dns: has no backend left"), "{}", other.text);
    }
}
