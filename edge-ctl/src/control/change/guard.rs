//! The guard: a change may remove things from service only with an operator's consent. Pure.
//!
//! | a change that | needs |
//! |---|---|
//! | removes a service, or moves it to another destination | `--allow-removal N` |
//! | removes a pool, or takes one off a service | `--allow-removal N` |
//! | removes an interface, or an announcement of a VIP that stays | `--allow-removal N` |
//! | removes more than a quarter of a service's capacity: backends, addresses or weight | `--allow-removal N` |
//! | gives another name to a backend that an operator has drained, disabled or forced | `--allow-removal N` |
//! | has only the beginning of the text in force, or much less of it, or lacks its last line `# end` | `--allow-removal N` |
//! | changes `hash_key`, `slots`, or a service's `affinity` | `--allow-moves` |
//!
//! N is the number of removed services, pools, backends, interfaces and announcements, at least 1: consent to two
//! removals does not cover two hundred.

#![deny(clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
};

use serde::Serialize;
use thiserror::Error;

use super::{How, Words, diff::pools_of};
use crate::{
    config::{Backend, Config, Pool, Ports, Service, lost_end},
    control::{few, takedown},
};

/// A backend (`POOL/BACKEND`) about which an operator has decided, and its address.
pub(crate) type Decided = (String, IpAddr);

/// Everything that a change removes or moves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Findings {
    /// Each needs `--allow-removal`.
    pub(crate) removals: Vec<String>,
    /// The number that `--allow-removal` must have.
    pub(crate) removed: u32,
    /// Each needs `--allow-moves`.
    pub(crate) moves: Vec<String>,
}

/// A change that was refused, since it removes or moves more than the operator has allowed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}\nto apply it all the same, add {needs}", what(lines))]
pub(crate) struct Refused {
    lines: Vec<String>,
    /// Options to type.
    pub(crate) needs: String,
}

impl Refused {
    /// The reason without the options that overrule it.
    pub(super) fn what(&self) -> String {
        what(&self.lines)
    }
}

fn what(lines: &[String]) -> String {
    format!("the change removes or moves more than was allowed:\n{}", lines.join("\n"))
}

impl Findings {
    /// Examines the change from `old` to `new`. `decided` are the backends that an operator has drained, disabled or
    /// forced.
    pub(crate) fn of(old: &Config, new: &Config, decided: &[Decided]) -> Self {
        let (old, new) = (&old.joined(), &new.joined());
        let mut removals = cut_off(old, new);
        let pools =
            |config: &Config| -> BTreeSet<String> { config.pools.iter().map(|pool| pool.name.clone()).collect() };
        let (old_pools, new_pools) = (pools(old), pools(new));
        for pool in old_pools.difference(&new_pools) {
            removals.push(format!("pool {pool} is removed, with all of its backends"));
        }
        let pools = Pools::of(old, new);
        let kept: BTreeMap<_, _> = new.services.iter().map(|service| (service.name.as_str(), service)).collect();
        let (mut services, mut taken_off) = (0, 0);
        for before in &old.services {
            let Some(after) = kept.get(before.name.as_str()) else {
                services += 1;
                removals.push(format!("service {} is removed", before.name));
                continue;
            };
            if let Some(lost) = lost_destinations(before, after) {
                services += 1;
                removals.push(lost);
            }
            let left = pools_of(new, after);
            let off = pools_of(old, before).into_iter().filter(|pool| !left.contains(pool));
            for pool in off.filter(|pool| new_pools.contains(pool)) {
                taken_off += 1;
                removals.push(format!("service {} no longer uses pool {pool}", before.name));
            }
            let lost = pools.lost(old, before, &left);
            if lost > LOST {
                removals.push(format!("service {} loses {:.0} % of its capacity", before.name, lost * 100.0));
            }
        }
        let lost_ingress = lost_ingress(old, new);
        let closed = lost_ingress.len();
        removals.extend(lost_ingress);
        removals.extend(renamed(new, decided));
        let removed = closed + services + taken_off + old_pools.difference(&new_pools).count() + pools.removed;
        let removed = if removals.is_empty() { 0 } else { u32::try_from(removed).unwrap_or(u32::MAX).max(1) };
        Self { removals, removed, moves: moves(old, new) }
    }

    /// Refuses findings that `words` do not allow.
    pub(crate) fn judge(&self, how: How, words: &Words) -> Result<(), Refused> {
        if how.is_back() {
            return Ok(());
        }
        let removes = !self.removals.is_empty() && words.allow_removal < self.removed;
        let moves = !self.moves.is_empty() && !words.allow_moves;
        if !removes && !moves {
            return Ok(());
        }
        let mut lines = Vec::new();
        if removes {
            lines.extend(self.removals.iter().cloned());
        }
        if moves {
            lines.extend(self.moves.iter().cloned());
        }
        let more = lines.len().saturating_sub(SHOWN);
        lines.truncate(SHOWN);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        // Lists everything that the change needs, including options that were given already, so that the command can be
        // typed as it stands.
        Err(Refused { lines, needs: self.needs().unwrap_or_default() })
    }

    /// Options to type for the change; `None` if it needs none.
    pub(crate) fn needs(&self) -> Option<String> {
        let removal = (self.removed > 0).then(|| format!("--allow-removal {}", self.removed));
        let moves = (!self.moves.is_empty()).then(|| "--allow-moves".to_owned());
        let needs: Vec<_> = removal.into_iter().chain(moves).collect();
        (!needs.is_empty()).then(|| needs.join(" "))
    }
}

/// Interfaces that `new` lacks, and announcements that it lacks for VIPs that it keeps: packets of clients arrive by
/// these.
fn lost_ingress(old: &Config, new: &Config) -> Vec<String> {
    let names: BTreeSet<_> = new.interfaces.iter().map(|interface| &interface.name).collect();
    let removed = old.interfaces.iter().map(|interface| &interface.name).filter(|name| !names.contains(name));
    let mut closed: Vec<_> = removed
        .map(|name| format!("interface {name} is removed: packets that arrive by it are no longer balanced"))
        .collect();
    let kept: BTreeSet<_> = new.services.iter().flat_map(|service| &service.vips).collect();
    let announced = takedown::announced(new);
    let withdrawn = takedown::announced(old).into_iter().filter(|one| !announced.contains(one));
    closed.extend(withdrawn.filter(|one| kept.contains(&one.vip)).map(|one| {
        format!("{} is no longer announced on {}: packets of its clients may not arrive here", one.vip, one.interface)
    }));
    closed
}

/// Most VIPs and ports in one finding.
const NAMED: usize = 3;

/// Most findings in one refusal.
const SHOWN: usize = 20;

/// Share of its capacity that a service may lose without an operator's consent.
const LOST: f64 = 0.25;
/// A text with less than this percentage of the earlier number of lines counts as much shorter.
const MUCH_SHORTER: usize = 75;

/// Signs that the end of the file is missing.
fn cut_off(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(what) = lost_end(&old.text, &new.text) {
        found.push(format!("{what}: the file may be cut off"));
    }
    let same = Config { text: String::new(), ..old.clone() } == Config { text: String::new(), ..new.clone() };
    if same {
        return found;
    }
    let lines = |text: &str| {
        let lines = text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).count()
    };
    let (before, after) = (lines(&old.text), lines(&new.text));
    if is_start(&new.text, &old.text) {
        found.push(format!("the file has only the first {after} of the {before} lines in force: it may be cut off"));
    } else if after * 100 < before * MUCH_SHORTER {
        found.push(format!("the file has {after} lines, and the text in force has {before}: it may be cut off"));
    }
    found
}

/// Whether `text` is a proper prefix of `whole`.
fn is_start(text: &str, whole: &str) -> bool {
    let (text, whole) = (text.trim_end(), whole.trim_end());
    text.len() < whole.len() && whole.starts_with(text)
}

/// The VIPs and ports of a service that are no longer served.
fn lost_destinations(before: &Service, after: &Service) -> Option<String> {
    let kept: HashSet<_> = after.vips.iter().collect();
    let vips: Vec<_> = before.vips.iter().filter(|vip| !kept.contains(vip)).map(ToString::to_string).collect();
    let is_kept = |ports: &Ports| {
        ports.numbers().all(|port| {
            after.ports_of(port, ports.protocol.number()).is_some_and(|kept| !ports.is_any() || kept.is_any())
        })
    };
    let ports: Vec<_> = before.ports.iter().filter(|ports| !is_kept(ports)).map(ToString::to_string).collect();
    let lost: Vec<_> = [vips, ports].iter().filter(|names| !names.is_empty()).map(|names| few(names, NAMED)).collect();
    let all = lost.join(" and ");
    (!lost.is_empty())
        .then(|| format!("service {} no longer serves {all}: packets to it are not balanced", before.name))
}

/// Losses of the pools of a configuration, each computed once.
struct Pools {
    /// For each of the old pools, at its position: the number of its backends, and the share of its weight that is
    /// lost.
    each: Vec<(f64, f64)>,
    /// Number of removed backends.
    removed: usize,
}

/// The weights of a pool's backends by their addresses: a backend with another name is the same server, and one with
/// another address is another server, of which nothing is known yet.
fn weights(backends: &[Backend]) -> BTreeMap<IpAddr, f64> {
    let mut weights = BTreeMap::new();
    for Backend { address, weight, .. } in backends {
        *weights.entry(*address).or_default() += f64::from(*weight);
    }
    weights
}

/// The share of a pool's weight that it loses: all of the weight of addresses that are gone, and of the others what
/// they have less. Weights that are all lowered by the same factor are no loss.
fn lost_share(before: &BTreeMap<IpAddr, f64>, after: &BTreeMap<IpAddr, f64>) -> f64 {
    let kept = || before.iter().filter_map(|(address, was)| Some((*was, *after.get(address)?)));
    let factor = kept().map(|(was, is)| is / was).fold(0.0, f64::max).min(1.0);
    let left: f64 = kept().map(|(was, is)| if factor > 0.0 { was.min(is / factor) } else { 0.0 }).sum();
    1.0 - left / before.values().sum::<f64>()
}

impl Pools {
    fn of(old: &Config, new: &Config) -> Self {
        let named: BTreeMap<_, _> = new.pools.iter().map(|pool| (pool.name.as_str(), pool)).collect();
        let mut removed = 0;
        let mut lost = |pool: &Pool| {
            let now = named.get(pool.name.as_str()).map_or(&[][..], |pool| &pool.backends);
            let (before, after) = (weights(&pool.backends), weights(now));
            removed += pool.backends.iter().filter(|backend| !after.contains_key(&backend.address)).count();
            let count = pool.backends.iter().map(|_| 1.0).sum();
            (count, lost_share(&before, &after))
        };
        let each = old.pools.iter().map(&mut lost).collect();
        Self { each, removed }
    }

    /// The share of its capacity that a service with the remaining pools `left` loses. Backends count by their weight
    /// within the pool, and pools by their number of backends.
    fn lost(&self, old: &Config, service: &Service, left: &[String]) -> f64 {
        let (mut all, mut lost_all) = (0.0, 0.0);
        for at in &service.pools {
            let (count, lost) = self.each[*at];
            all += count;
            lost_all += if left.contains(&old.pools[*at].name) { count * lost } else { count };
        }
        if all > 0.0 { lost_all / all } else { 0.0 }
    }
}

/// Backends that an operator has taken out, and that would return under another name.
fn renamed(new: &Config, decided: &[Decided]) -> Vec<String> {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeMap::new());
    for (pool, backend) in new.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend))) {
        names.insert((pool.name.as_str(), backend.name.as_str()));
        addresses.insert((pool.name.as_str(), backend.address), backend.name.as_str());
    }
    let other = |(full, address): &Decided| {
        let (pool, name) = full.split_once('/')?;
        let other = addresses.get(&(pool, *address)).filter(|_| !names.contains(&(pool, name)))?;
        Some(format!(
            "{full} was drained, disabled or forced by an operator, and would serve again as {pool}/{other}: repeat \
             the decision for that name, too"
        ))
    };
    decided.iter().filter_map(other).collect()
}

fn moves(old: &Config, new: &Config) -> Vec<String> {
    let mut moves = Vec::new();
    if old.hash_key != new.hash_key {
        moves.push("`hash_key` changes, which moves the flows of all services, and running ones are cut".to_owned());
    }
    let kept: BTreeMap<_, _> = new.services.iter().map(|service| (service.name.as_str(), service)).collect();
    for before in &old.services {
        let Some(after) = kept.get(before.name.as_str()) else { continue };
        if after.slots != before.slots {
            moves.push(format!(
                "`slots` of service {} changes from {} to {}, which moves its flows",
                before.name, before.slots, after.slots
            ));
        }
        if after.affinity != before.affinity {
            moves.push(format!("`affinity` of service {} changes, which moves its flows", before.name));
        }
    }
    moves
}
