//! Watches what clients' packets show of their backends, and has suspects probed at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_common::abi::{BackendNumber, Mode};

use crate::{
    control::{
        data_plane::DataPlane,
        events::EventKind,
        inventory::Inventory,
        status::{Status, SuspicionStatus},
    },
    health::{Change, Watch},
};

/// Interval of the looks at the evidence.
pub(super) const GLANCE: Duration = Duration::from_millis(10);

/// Time until a backend that is still suspected is probed at once again.
const AGAIN: Duration = Duration::from_secs(1);

/// The backends whose clients' packets are watched.
#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<BackendNumber, Watched>);

#[derive(Clone, Copy, Debug, Default)]
struct Watched {
    watch: Watch,
    /// When it was last probed at once.
    probed: Option<Duration>,
}

/// A change that is to be reported: kind, subject, message.
type Report = (EventKind, String, String);

impl Suspects {
    /// Watches the backends of all services in `nat`, whose answers pass by here, and no others.
    pub(super) fn follow(&mut self, inventory: &Inventory) {
        let translated = inventory.config.services.iter().filter(|service| service.mode == Mode::Nat);
        let pools: BTreeSet<_> = translated.flat_map(|service| &service.pools).copied().collect();
        let members = pools.into_iter().flat_map(|pool| inventory.members_of(pool));
        let mut before = std::mem::take(&mut self.0);
        let watches = members.map(|member| (member.number, before.remove(&member.number).unwrap_or_default()));
        self.0 = watches.collect();
    }

    /// Whether no backend is watched.
    pub(super) fn is_idle(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks at the evidence. Returns the suspects that are to be probed at once (those whose probes say that they are
    /// well), and the changes to report.
    pub(super) fn look(
        &mut self,
        inventory: &Inventory,
        plane: &impl DataPlane,
        is_well: impl Fn(BackendNumber) -> bool,
        now: Duration,
    ) -> (BTreeSet<BackendNumber>, Vec<Report>) {
        let (mut suspects, mut reports) = (BTreeSet::new(), Vec::new());
        for (backend, Watched { watch, probed }) in &mut self.0 {
            let Some(signs) = plane.signs(*backend, now) else { continue };
            let is_well = is_well(*backend);
            let change = watch.look(signs, is_well, now);
            let is_due = probed.is_none_or(|before| now.saturating_sub(before) >= AGAIN);
            if is_due && is_well && watch.suspicion().is_some() {
                *probed = Some(now);
                suspects.insert(*backend);
            }
            let Some(name) = change.and_then(|_| inventory.name(*backend)) else { continue };
            reports.extend(change.map(|change| match change {
                Change::Lasts(suspicion) => {
                    let message = format!("{}; its probes pass", suspicion.what.evidence());
                    (EventKind::BackendSuspect, name, message)
                }
                Change::Over => (EventKind::BackendTrusted, name, "its clients are answered again".to_owned()),
            }));
        }
        (suspects, reports)
    }

    /// Adds the suspicions to a status; `now` is the clock of [`look`](Self::look).
    pub(super) fn show(&self, status: &mut Status, inventory: &Inventory, now: Duration) {
        let at = status.at;
        for (position, pool) in status.pools.iter_mut().enumerate() {
            let numbers: Vec<_> = inventory.members_of(position).map(|member| member.number).collect();
            let suspicion = |number: &BackendNumber| self.0.get(number).and_then(|watched| watched.watch.suspicion());
            let suspected = numbers.iter().filter(|number| suspicion(number).is_some()).count();
            for (backend, number) in pool.backends.iter_mut().zip(&numbers) {
                backend.suspicion = suspicion(number).map(|found| SuspicionStatus {
                    evidence: found.what.evidence().to_owned(),
                    since: at.saturating_sub(u64::try_from(now.saturating_sub(found.since).as_millis()).unwrap_or(0)),
                    others: numbers.len() - 1,
                    others_suspected: suspected - 1,
                });
            }
        }
    }
}
