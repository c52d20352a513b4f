//! Backends to which nothing can be sent, but that go on serving since no service has another one.

#![deny(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;

use super::{BackendState, PoolStatus, ServiceState, ServiceStatus, Status, joined};

/// Shows these backends, and the services without others. `cut_off` has the reason why nothing can be sent to a
/// backend, by its name.
pub(crate) fn show_cut_off(status: &mut Status, cut_off: &BTreeMap<String, String>) {
    if cut_off.is_empty() {
        return;
    }
    for backend in status.pools.iter_mut().flat_map(|pool| &mut pool.backends) {
        if let Some(why) = cut_off.get(&backend.name) {
            let before = std::mem::take(&mut backend.reason);
            let before = if before.is_empty() { before } else { format!("{before}; ") };
            backend.reason = format!("{before}unreachable from this host: {why}; no service has another one");
        }
    }
    for service in &mut status.services {
        if service.parts.is_empty() {
            show(service, &status.pools, cut_off);
        } else {
            service.parts.iter_mut().for_each(|part| show(part, &status.pools, cut_off));
            joined::combine_states(service);
        }
    }
}

fn show(service: &mut ServiceStatus, pools: &[PoolStatus], cut_off: &BTreeMap<String, String>) {
    let Some(pool) = pools.iter().find(|pool| service.serving.as_ref() == Some(&pool.name)) else { return };
    let serves = |state| match state {
        BackendState::Up | BackendState::Unknown => true,
        BackendState::Down => pool.panic,
        BackendState::Draining | BackendState::Disabled => false,
    };
    let serving = pool.backends.iter().filter(|backend| serves(backend.state));
    let whys: Option<Vec<_>> = serving.map(|backend| cut_off.get(&backend.name)).collect();
    let Some(why) = whys.as_ref().and_then(|whys| whys.first()) else { return };
    service.state = ServiceState::Unreachable;
    service.reason = format!("{} serves, and none of its backends is reachable: {why}", pool.name);
}
