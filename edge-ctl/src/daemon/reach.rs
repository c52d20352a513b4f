//! Backends that nothing can be sent to, and which of them are taken out. Pure.
//!
//! A link that is down, a missing route and a next hop that does not answer are certain knowledge, but of this host
//! alone. So an unreachable backend is taken out if a service that uses it has another backend to go to. If no service
//! has one, this host is cut off, and all states stay as they were: they must not flap. A backend that is out stays out
//! until something can be sent to it again.

#![deny(clippy::disallowed_methods, clippy::wildcard_enum_match_arm)]

use std::collections::{BTreeMap, BTreeSet};

use edge_common::abi::BackendNumber;

use crate::control::inventory::Inventory;

/// Reachability of the backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Unreachable backends, with the reasons.
    unreachable: BTreeMap<BackendNumber, String>,
    out: BTreeSet<BackendNumber>,
}

impl Reach {
    /// Notes why nothing can be sent to a backend; `None` if something can, or if that is not known.
    ///
    /// Returns whether the backend was out and no longer is.
    pub(super) fn note(&mut self, backend: BackendNumber, why: Option<String>) -> bool {
        if let Some(why) = why {
            self.unreachable.insert(backend, why);
            return false;
        }
        self.unreachable.remove(&backend);
        self.out.remove(&backend)
    }

    pub(super) fn is_out(&self, backend: BackendNumber) -> bool {
        self.out.contains(&backend)
    }

    /// The backends that are out.
    pub(super) fn out(&self) -> impl Iterator<Item = BackendNumber> {
        self.out.iter().copied()
    }

    /// Why nothing can be sent to a backend, if that is so.
    pub(super) fn why(&self, backend: BackendNumber) -> Option<&str> {
        self.unreachable.get(&backend).map(String::as_str)
    }

    /// Takes out the unreachable backends for which there is another one, and returns them. `serves` is whether a
    /// backend would take new flows if they reached it.
    pub(super) fn judge(
        &mut self,
        inventory: &Inventory,
        serves: impl Fn(BackendNumber) -> bool,
    ) -> Vec<BackendNumber> {
        if self.unreachable.len() == self.out.len() {
            return Vec::new();
        }
        let pools: Vec<_> = (0..inventory.config.pools.len()).map(|pool| self.pool(inventory, pool, &serves)).collect();
        let mut new = BTreeSet::new();
        for (service, _) in inventory.services() {
            let pools = || service.pools.iter().filter_map(|&pool| pools.get(pool));
            if pools().any(|pool| pool.has_another) {
                new.extend(pools().flat_map(|pool| &pool.cut_off).copied());
            }
        }
        self.out.extend(&new);
        new.into_iter().collect()
    }

    /// Forgets backends that no longer exist.
    pub(super) fn keep(&mut self, is_there: impl Fn(BackendNumber) -> bool) {
        self.unreachable.retain(|backend, _| is_there(*backend));
        self.out.retain(|backend| is_there(*backend));
    }

    fn pool(&self, inventory: &Inventory, pool: usize, serves: impl Fn(BackendNumber) -> bool) -> PoolReach {
        let mut reach = PoolReach::default();
        for member in inventory.members_of(pool) {
            if !self.unreachable.contains_key(&member.number) {
                reach.has_another |= serves(member.number);
            } else if !self.out.contains(&member.number) {
                reach.cut_off.push(member.number);
            }
        }
        reach
    }
}

/// Reachability of a pool from this host.
#[derive(Debug, Default)]
struct PoolReach {
    /// Whether new flows can go to one of its backends.
    has_another: bool,
    /// Unreachable backends that are not out yet.
    cut_off: Vec<BackendNumber>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::fixture::inventory;

    fn lose(reach: &mut Reach, backend: BackendNumber) {
        reach.note(backend, Some("no route".to_owned()));
    }

    #[test]
    fn an_unreachable_backend_is_taken_out_for_another_one() {
        let (inventory, mut reach) = (inventory(), Reach::default());
        lose(&mut reach, 1);
        assert_eq!(reach.judge(&inventory, |_| true), [1]);
        assert!(reach.is_out(1));
        assert!(reach.judge(&inventory, |_| true).is_empty(), "once");
        assert!(reach.note(1, None), "it was out");
        assert_eq!((reach.is_out(1), reach.why(1)), (false, None));
    }

    #[test]
    fn a_host_that_is_cut_off_takes_nobody_out() {
        let (inventory, mut reach) = (inventory(), Reach::default());
        let all: Vec<_> = inventory.members().map(|member| member.number).collect();
        for backend in &all {
            lose(&mut reach, *backend);
        }
        assert!(reach.judge(&inventory, |_| true).is_empty());
        // One backend is reachable again: new flows can go there.
        reach.note(all[0], None);
        assert!(!reach.judge(&inventory, |_| true).is_empty());
        assert!(!reach.is_out(all[0]));
    }

    #[test]
    fn a_backend_that_takes_no_flows_is_no_replacement() {
        let (inventory, mut reach) = (inventory(), Reach::default());
        lose(&mut reach, 1);
        assert!(reach.judge(&inventory, |_| false).is_empty());
    }

    #[test]
    fn a_backend_that_is_out_stays_out_although_the_other_one_dies() {
        let (inventory, mut reach) = (inventory(), Reach::default());
        lose(&mut reach, 1);
        reach.judge(&inventory, |_| true);
        reach.judge(&inventory, |_| false);
        assert!(reach.is_out(1));
    }
}
