//! Events of services whose new flows go to another pool: one event per cause, whatever the number of services.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    config::{configured, joined_names},
    control::{
        data_plane::DataPlane,
        events::{EventKind, Events},
        few,
        inventory::Inventory,
        selection::{self, Counts, Serving},
    },
    daemon::transitions::EACH,
};

/// Reports the services that are served otherwise in `now` than in `before`; both are in the order of the
/// configuration.
pub(super) fn report(
    inventory: &Inventory,
    plane: &impl DataPlane,
    events: &Events,
    before: &[Serving],
    now: &[Serving],
) {
    let mut causes: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for ((service, before), after) in inventory.config.services.iter().zip(before).zip(now) {
        let pool = |serving: &Serving| {
            let position = *service.pools.get(serving.position()?)?;
            Some(configured(&inventory.config.pools[position].name).0)
        };
        let (returned, pool) = match after.rank().cmp(&before.rank()) {
            Ordering::Less => (true, pool(after)),
            Ordering::Equal => continue,
            Ordering::Greater => (false, pool(before)),
        };
        let what = selection::described(inventory, service, *after);
        causes.entry((returned, pool, what)).or_default().push(&service.name);
    }
    if causes.is_empty() {
        return;
    }
    let counts = Counts::take(inventory, plane);
    for ((returned, pool, what), services) in causes {
        let kind = if returned { EventKind::PoolReturned } else { EventKind::PoolLeft };
        let parts: BTreeSet<_> = services.iter().copied().collect();
        let names = joined_names(services);
        let (pool, [_, _, ..]) = (pool, &names[..]) else {
            let name = names.first().map(String::as_str).unwrap_or_default();
            events.report(kind, name, format!("service {name} {what}"));
            continue;
        };
        let (count, listed) = (names.len(), few(&names, EACH));
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let Some(pool) = pool else {
            events.report_for(kind, &format!("{count} services"), format!("each {what}: {listed}"), &names);
            continue;
        };
        // Only those parts of the pool count that these services list.
        let all = inventory.config.services.iter().filter(|service| parts.contains(service.name.as_str()));
        let listed_pools: BTreeSet<_> = all.flat_map(|service| &service.pools).copied().collect();
        let is_it = |at: &&usize| configured(&inventory.config.pools[**at].name).0 == pool;
        let count_of = |at: &usize| (counts.available(*at), inventory.config.pools[*at].backends.len());
        let (available, all) =
            listed_pools.iter().filter(is_it).map(count_of).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let verb = if returned { "return to" } else { "leave" };
        let message = format!("{available} of {all} available: {count} services {verb} it, each {what}: {listed}");
        events.report_for(kind, pool, message, &names);
    }
}
