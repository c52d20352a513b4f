//! Ports of backends, which only `nat` translates to.

use edge_common::abi::Mode;

use super::{pools::PoolDraft, problems::Problems, services::ServiceDraft};

/// Refuses ports of backends that have no effect, once for each pool: of all services that list the pool, none is in
/// `nat`, so packets keep the port that clients sent them to. A port of `[defaults.pool]` is ignored there.
pub(super) fn check(problems: &Problems<'_>, services: &[ServiceDraft], pools: &[PoolDraft]) {
    for pool in pools {
        let Ok(name) = &pool.name else { continue };
        let of_pool = pool.port.as_ref().ok().and_then(Option::as_ref).filter(|_| !pool.is_port_default);
        let of_backend = || pool.backends.iter().find_map(|own| Some((own.port.as_ref()?.at, Some(&own.name))));
        let Some((at, backend)) = of_pool.map(|port| (port.at, None)).or_else(of_backend) else { continue };
        let lists = |service: &&ServiceDraft| {
            service.pools.as_deref().unwrap_or_default().iter().any(|listed| listed.value == name.value)
        };
        let mut users = services.iter().filter(lists).peekable();
        let first = users.peek().and_then(|user| user.name.as_ref().ok());
        let (Some(user), true) = (first, users.all(|user| user.mode.is_ok_and(|mode| mode != Mode::Nat))) else {
            continue;
        };
        let whose = match backend {
            Some(backend) => format!("backend `{}/{backend}`", name.value),
            None => format!("pool `{}`", name.value),
        };
        let what = format!(
            "`port` of {whose} has no effect: service `{}` is not in mode = \"nat\", so packets keep the port that \
             clients sent them to",
            user.value
        );
        let others = pool.backends.iter().filter(|own| own.port.is_some()).count().saturating_sub(backend.iter().len());
        let too = if others > 0 { ", here and in the other backends of the pool" } else { "" };
        let _recorded =
            problems.needless(at, what, format!("mode = \"nat\" in the [[service]], or remove `port`{too}"));
    }
}
