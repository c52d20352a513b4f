//! Events of services whose new flows go elsewhere: one for each cause, whatever the number of services.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::{
    config::Service,
    control::{
        data_plane::DataPlane,
        events::{EventKind, Events},
        few,
        inventory::Inventory,
        selection::{self, Counts, Serving},
    },
    daemon::transitions::EACH,
};

/// Reports services that were served as `before` says and are as `now` says, both in the order of the configuration.
pub(super) fn report(
    inventory: &Inventory,
    plane: &impl DataPlane,
    events: &Events,
    before: &[Serving],
    now: &[Serving],
) {
    let mut causes: BTreeMap<_, Vec<&Service>> = BTreeMap::new();
    for ((service, before), after) in inventory.config.services.iter().zip(before).zip(now) {
        let pool = |serving: &Serving| serving.position().map(|position| service.pools[position]);
        let (returned, pool) = match after.rank().cmp(&before.rank()) {
            Ordering::Less => (true, pool(after)),
            Ordering::Equal => continue,
            Ordering::Greater => (false, pool(before)),
        };
        let what = selection::described(inventory, service, *after);
        causes.entry((returned, pool, what)).or_default().push(service);
    }
    if causes.is_empty() {
        return;
    }
    let counts = Counts::take(inventory, plane);
    for ((returned, pool, what), services) in causes {
        let kind = if returned { EventKind::PoolReturned } else { EventKind::PoolLeft };
        let names: Vec<_> = services.iter().map(|service| service.name.as_str()).collect();
        let (pool, [_, _, ..]) = (pool.map(|pool| (pool, &inventory.config.pools[pool])), &names[..]) else {
            let name = names.first().copied().unwrap_or_default();
            events.report(kind, name, format!("service {name} {what}"));
            continue;
        };
        let (count, listed) = (names.len(), few(&names, EACH));
        let Some((position, pool)) = pool else {
            events.report_for(kind, &format!("{count} services"), format!("each {what}: {listed}"), &names);
            continue;
        };
        let (available, all) = (counts.available(position), pool.backends.len());
        let verb = if returned { "return to" } else { "leave" };
        let message = format!("{available} of {all} available: {count} services {verb} it, each {what}: {listed}");
        events.report_for(kind, &pool.name, message, &names);
    }
}
