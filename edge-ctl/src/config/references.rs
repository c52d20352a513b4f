//! `reference_targets`: hosts whose silence means that this host is cut off.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::{pools::PoolDraft, problems::Problems, services::ServiceDraft, walk::Located};

/// Refuses addresses that fall silent together with the backends, or that this host answers itself: neither shows
/// whether this host is cut off. `own` are addresses of this host.
pub(super) fn check(
    problems: &Problems<'_>,
    targets: &[Located<SocketAddr>],
    services: &[ServiceDraft],
    pools: &[PoolDraft],
    own: &[IpAddr],
) {
    let vips = services.iter().flat_map(ServiceDraft::vips).map(|vip| (vip.value, ("the VIP", vip.at)));
    let backends = pools.iter().flat_map(|pool| &pool.backends).flat_map(|backend| &backend.addresses);
    let known: HashMap<IpAddr, (&str, usize)> =
        backends.map(|address| (address.value, ("the backend", address.at))).chain(vips).collect();
    for target in targets {
        let address = target.value.ip();
        let why = match known.get(&address) {
            Some((what, at)) => format!("{what} on line {}: it falls silent with the backends", problems.line(*at)),
            None if own.contains(&address) => "a source address of this host, which always answers itself".to_owned(),
            None => continue,
        };
        let what = format!("`reference_targets` has {}, {why}", target.value);
        problems.add(target.at, what, "a host that answers whatever happens to the backends, such as the next router");
    }
}
