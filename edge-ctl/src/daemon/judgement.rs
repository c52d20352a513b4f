//! Judges the results of the probes of all backends together, and derives the condition of each backend. No I/O.

#![deny(clippy::disallowed_methods)]
#![deny(clippy::wildcard_enum_match_arm)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_common::abi::BackendNumber;

use super::{hearing, panic_mode::Panic, probed::Probed, reach::Reach, returning::Returns};
use crate::{
    control::{data_plane::DataPlane, inventory::Inventory},
    health::{self, Blame, Condition, Count, Deafness, Health, HealthChange, References, Standing, Verdict},
    plan,
};

/// Health of all probed backends.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    /// One entry for each backend whose pool has a probe.
    pub(super) probed: BTreeMap<BackendNumber, Probed>,
    /// Health set by operators, in place of the result of probes.
    forced: BTreeMap<BackendNumber, Health>,
    /// By position of the pool.
    blame: Vec<Blame>,
    panic: Panic,
    pub(super) returns: Returns,
    frozen: Option<Frozen>,
    /// End of the last freeze.
    thawed: Option<Duration>,
    /// Last answer of each reference target that could be probed; `None` for a silent one.
    references: BTreeMap<usize, Option<Duration>>,
    /// Whether a judgement is due.
    restless: bool,
}

/// Set while this host is the presumed cause of its unanswered probes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frozen {
    pub(super) since: Duration,
    pub(super) why: Deafness,
}

/// Result of a judgement.
#[derive(Debug, Default)]
pub(super) struct Ruling {
    /// Changes of health.
    pub(super) changes: Vec<(BackendNumber, HealthChange)>,
    /// Backends whose condition may have changed for another reason, with that reason.
    pub(super) others: BTreeMap<BackendNumber, String>,
    pub(super) frozen: Option<Frozen>,
    /// Duration of the freeze that has just ended.
    pub(super) thawed: Option<Duration>,
    /// Pools that begin or stop to panic.
    pub(super) panic: Vec<(usize, bool)>,
}

impl Judgement {
    /// Begins anew with the pools of `inventory`; a freeze continues.
    pub(super) fn restart(&mut self, inventory: &Inventory) {
        self.blame = vec![Blame::Nobody; inventory.config.pools.len()];
        self.panic = Panic::default();
        self.references.retain(|position, _| *position < inventory.config.reference_targets.len());
        self.restless = true;
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Whether all backends of the pool at this position serve, up or not.
    pub(super) fn panics(&self, pool: usize) -> bool {
        self.panic.has(pool)
    }

    pub(super) fn frozen(&self) -> Option<&Frozen> {
        self.frozen.as_ref()
    }

    /// Records whether a reference target has answered. A target that could not be probed does not count as a
    /// reference.
    pub(super) fn note_reference(&mut self, position: usize, verdict: &Verdict, now: Duration) {
        match verdict {
            Verdict::Pass | Verdict::Fail(_) => self.references.insert(position, Some(now)),
            Verdict::Unreachable(_) | Verdict::Silent(_) => self.references.insert(position, None),
            Verdict::Inconclusive(_) => self.references.remove(&position),
        };
    }

    /// Takes the health set by operators from the maps.
    pub(super) fn heed(&mut self, inventory: &Inventory, plane: &impl DataPlane) {
        let forced =
            inventory.addresses().filter_map(|(number, ..)| Some((number, plan::forced(plane.state(number))?)));
        self.forced = forced.collect();
    }

    /// The health set by an operator, or else the result of the backend's probes.
    pub(super) fn health(&self, backend: BackendNumber) -> Health {
        let found = || self.probed.get(&backend).map_or(Health::Unknown, Probed::health);
        self.forced.get(&backend).copied().unwrap_or_else(found)
    }

    /// How many days before expiry of a backend's certificate a warning is due; `None` if no probe checks certificates.
    pub(super) fn warn_days(&self, inventory: &Inventory, backend: BackendNumber) -> Option<u16> {
        let pool = inventory.config.pools.get(self.probed.get(&backend)?.pool?)?;
        Some(pool.probe.as_ref()?.kind.tls()?.warn_days)
    }

    /// Whether a backend would serve, by its reachability and health alone.
    pub(super) fn is_up(&self, reach: &Reach, backend: BackendNumber) -> bool {
        is_up((&self.probed, &self.forced), reach, backend)
    }

    /// The backend's condition for the packet path, apart from operators' decisions.
    pub(super) fn condition(&self, reach: &Reach, backend: BackendNumber) -> Condition {
        if reach.is_out(backend) {
            return Condition::CUT_OFF;
        }
        let Some(probed) = self.probed.get(&backend) else { return Health::Unknown.into() };
        let health = probed.health();
        let standing = if health != Health::Down || probed.pool.is_some_and(|pool| self.panic.has(pool)) {
            Standing::Serving
        } else if probed.machine().is_silenced() && !probed.is_out() {
            Standing::Keeping
        } else {
            Standing::Out
        };
        let withheld = if health == Health::Down { 0 } else { self.returns.of(backend) };
        Condition { health, standing, withheld, cut_off: false }
    }

    /// Whether the passage of time alone can bring a change, since some health is in doubt.
    pub(super) fn is_restless(&self) -> bool {
        self.restless || self.returns.is_active() || self.panic.is_active()
    }

    /// Marks a judgement as due.
    pub(super) fn disturb(&mut self) {
        self.restless = true;
    }

    /// Judges the results of the probes. `changes` are the latest ones.
    pub(super) fn judge(
        &mut self,
        inventory: &Inventory,
        reach: &Reach,
        plane: &impl DataPlane,
        changes: Vec<(BackendNumber, HealthChange)>,
        now: Duration,
    ) -> Ruling {
        for (backend, change) in &changes {
            match change.to {
                Health::Up if change.from == Health::Down && !self.forced.contains_key(backend) => {
                    self.start_slowly(inventory, *backend, now);
                }
                Health::Up | Health::Unknown => {}
                Health::Down => self.returns.stop(*backend),
            }
        }
        let mut ruling = Ruling { changes, ..Ruling::default() };
        let counts = self.count(inventory, reach, now);
        self.listen(inventory, &counts, now, &mut ruling);
        // Counted again, since no backend counts as silenced after a pardon.
        let counts = if ruling.frozen.is_some() { self.count(inventory, reach, now) } else { counts };
        self.restless = self.is_frozen() || counts.iter().any(|count| !count.is_calm());
        self.put_out(inventory, &counts, now, &mut ruling);
        let (known, deaf) = ((&self.probed, &self.forced), self.is_frozen());
        let is_up = |backend| is_up(known, reach, backend);
        ruling.panic = self.panic.look(inventory, plane, &self.blame, is_up, deaf, now);
        for (pool, _) in &ruling.panic {
            for member in inventory.members_of(*pool) {
                if self.health(member.number) == Health::Down {
                    // Its flows may have a reason to move at the same time.
                    ruling.others.entry(member.number).or_default();
                }
            }
        }
        ruling
    }

    /// Gives a backend that was down its share of new flows gradually, as long as its pool has other backends.
    fn start_slowly(&mut self, inventory: &Inventory, backend: BackendNumber, now: Duration) {
        let pool = self.probed.get(&backend).and_then(|probed| inventory.config.pools.get(probed.pool?));
        if let Some(pool) = pool {
            self.returns.start(backend, pool.judging.slow_start, now);
        }
    }

    fn count(&self, inventory: &Inventory, reach: &Reach, now: Duration) -> Vec<Count> {
        let mut counts = vec![Count::default(); inventory.config.pools.len()];
        for (backend, probed) in &self.probed {
            if let Some(count) = probed.pool.and_then(|pool| counts.get_mut(pool)) {
                let is_cut_off = reach.why(*backend).is_some();
                count.add(probed.machine(), probed.is_out(), probed.is_final(now), is_cut_off);
                count.fall_time = probed.fall_time();
            }
        }
        if counts.iter().any(Count::has_silence) {
            for (count, heard) in counts.iter_mut().zip(hearing::of_others(inventory, self.probed.values())) {
                count.another = heard;
            }
        }
        counts
    }

    fn references(&self) -> References {
        let answered = self.references.values().copied().max().flatten();
        References { are_silent: answered.is_none() && !self.references.is_empty(), answered }
    }

    /// Checks whether this host is deaf; if so, restores the health of backends that the deafness has affected.
    fn listen(&mut self, inventory: &Inventory, counts: &[Count], now: Duration, ruling: &mut Ruling) {
        if let Some(frozen) = &self.frozen {
            let deaf_for = now.saturating_sub(frozen.since);
            if health::hears(counts, self.references(), self.thawed, frozen.why, deaf_for) {
                (self.frozen, self.thawed) = (None, Some(now));
                ruling.thawed = Some(deaf_for);
            }
            return;
        }
        let Some(why) = health::deafness(counts, self.references(), self.thawed) else { return };
        self.frozen = Some(Frozen { since: now, why });
        ruling.frozen.clone_from(&self.frozen);
        self.returns.pardon(inventory, now);
        let reason = format!("as before: {}, so the cause may be this host", why.reason());
        let pardoned: BTreeMap<_, _> = self
            .probed
            .iter_mut()
            .filter_map(|(backend, probed)| Some((*backend, probed.pardon(now, &reason)?)))
            .collect();
        // Backends that this silence was about to take out have not changed yet, so there is nothing to report.
        let news: BTreeSet<_> = ruling.changes.iter().map(|(backend, _)| *backend).collect();
        ruling.changes.retain(|(backend, _)| !pardoned.contains_key(backend));
        for (backend, change) in pardoned {
            if news.contains(&backend) {
                ruling.others.insert(backend, change.reason);
            } else {
                ruling.changes.push((backend, change));
            }
        }
    }

    /// Moves the established flows of backends that are down for their own silence, too.
    fn put_out(&mut self, inventory: &Inventory, counts: &[Count], now: Duration, ruling: &mut Ruling) {
        if self.is_frozen() {
            self.blame.fill(Blame::Nobody);
            return;
        }
        let blames: Vec<_> = counts
            .iter()
            .zip(&inventory.config.pools)
            .enumerate()
            .map(|(position, (count, pool))| {
                let others = Count::without(counts, position);
                health::blame(count, &others, pool.judging.ejection_cap)
            })
            .collect();
        for (backend, probed) in &mut self.probed {
            let Some((blame, count)) = probed.pool.and_then(|pool| blames.get(pool).zip(counts.get(pool))) else {
                // A retired backend is taken out without this judgement, since its flows leave it in any case.
                if probed.machine().is_silenced() && !probed.is_out() {
                    probed.put_out(now);
                    ruling.others.insert(*backend, String::new());
                }
                continue;
            };
            let is_reported = probed.machine().is_reported();
            let why = match blame {
                Blame::Backends | Blame::Many if is_reported && count.is_heard_after(probed.machine()) => {
                    "its flows move, too: it is unreachable, and others of its pool are not"
                }
                Blame::Backends => "its flows move, too: it alone is silent",
                Blame::Provider => "its flows move, too: its whole pool is silent, and another is not",
                Blame::Nobody | Blame::Many | Blame::All => continue,
            };
            // A backend that answers again but is held back keeps its flows.
            if probed.machine().is_silenced() && probed.machine().silent_since().is_some() && !probed.is_out() {
                probed.put_out(now);
                match ruling.changes.iter_mut().find(|(changed, _)| changed == backend) {
                    // The maps keep the first hundred bytes or so.
                    Some((_, change)) => change.reason = format!("{}; {why}", change.reason),
                    None => drop(ruling.others.insert(*backend, why.to_owned())),
                }
            }
        }
        self.blame = blames;
    }

    /// Releases backends that are held back although no other backend of a service could serve.
    pub(super) fn release(
        &mut self,
        inventory: &Inventory,
        reach: &Reach,
        plane: &impl DataPlane,
        now: Duration,
    ) -> Vec<(BackendNumber, HealthChange)> {
        let held = self.probed.iter().filter(|(_, probed)| probed.machine().held(now).is_some());
        let held: Vec<_> = held.map(|(backend, probed)| (*backend, probed.pool)).collect();
        if held.is_empty() {
            return Vec::new();
        }
        let serves = |backend| plan::admin(plane.state(backend)) == plan::Admin::Enabled && self.is_up(reach, backend);
        let up: Vec<_> = (0..inventory.config.pools.len())
            .map(|pool| inventory.members_of(pool).any(|member| serves(member.number)))
            .collect();
        let has_none = |pool: usize| {
            let mut services = inventory.config.services.iter().filter(|service| service.pools.contains(&pool));
            services.any(|service| !service.pools.iter().any(|pool| up.get(*pool).is_some_and(|up| *up)))
        };
        let last: Vec<_> = held.into_iter().filter(|(_, pool)| pool.is_some_and(has_none)).collect();
        let release = |(backend, _)| Some((backend, self.probed.get_mut(&backend)?.release(now)?));
        last.into_iter().filter_map(release).collect()
    }
}

/// Results of probes, and health set by operators.
type Known<'a> = (&'a BTreeMap<BackendNumber, Probed>, &'a BTreeMap<BackendNumber, Health>);

fn is_up((probed, forced): Known<'_>, reach: &Reach, backend: BackendNumber) -> bool {
    let found = || probed.get(&backend).map_or(Health::Unknown, Probed::health);
    !reach.is_out(backend) && forced.get(&backend).copied().unwrap_or_else(found) != Health::Down
}
