//! Server numbers of backends in connection IDs of QUIC: distinct within a service that routes by them.

use std::collections::{HashMap, HashSet};

use super::{pools::PoolDraft, problems::Problems, services::ServiceDraft, walk::Located};

const SERVER_NUMBER: &str = "server_number = 17, the number that this server puts into its connection IDs";

/// Checks that the backends of a service that routes by connection ID have numbers that fit and are distinct, and that
/// no other backend has a number.
pub(super) fn check(problems: &Problems<'_>, services: &[ServiceDraft], pools: &HashMap<&str, &PoolDraft>) {
    let (mut used, mut reported) = (HashSet::new(), HashSet::new());
    for service in services {
        let Some(cid) = service.quic_cid() else { continue };
        let mut known: HashMap<u32, (&str, &str, usize)> = HashMap::new();
        for name in service.pools.as_deref().unwrap_or_default() {
            let Some(pool) = pools.get(name.value.as_str()) else { continue };
            used.insert(name.value.as_str());
            for backend in &pool.backends {
                let full_name = format!("`{}/{}`", name.value, backend.name);
                let Some(Located { value: number, at }) = backend.server_number else {
                    if reported.insert(backend.at) {
                        let what = format!(
                            "backend {full_name} has no `server_number`, and the service on line {} has `quic_cid`",
                            problems.line(service.at)
                        );
                        problems.add(backend.at, what, SERVER_NUMBER);
                    }
                    continue;
                };
                if u64::from(number) >> cid.length != 0 && reported.insert(at) {
                    let what = format!(
                        "`server_number` is {number}, and `quic_cid` of the service on line {} has {} bits for it",
                        problems.line(service.at),
                        cid.length
                    );
                    problems.add(at, what, format!("at most {}, or a larger `length`", (1_u64 << cid.length) - 1));
                }
                if let Some((pool, other, first)) = known.insert(number, (&name.value, &backend.name, at))
                    && reported.insert(at)
                {
                    let what = format!(
                        "backends {full_name} and `{pool}/{other}` of one service have `server_number` {number}; first on line {}",
                        problems.line(first)
                    );
                    problems.add(at, what, "a number of its own for each server");
                }
            }
        }
    }
    // A service that could not be read may be the one that needs the numbers.
    if services.iter().any(|service| service.pools.is_err() || service.is_cid_unread()) {
        return;
    }
    for (name, pool) in pools.iter().filter(|(name, _)| !used.contains(**name)) {
        for number in pool.backends.iter().filter_map(|backend| backend.server_number) {
            let what = format!("`server_number` does nothing: no service with pool `{name}` routes by connection ID");
            let _recorded =
                problems.needless(number.at, what, "`quic_cid` in the [[service]] with its QUIC port, or remove it");
        }
    }
}
