//! Watches what clients' packets show of their backends, and has suspects probed at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use edge_common::abi::{BackendNumber, Mode, State};

use crate::{
    control::{
        data_plane::DataPlane,
        events::EventKind,
        inventory::Inventory,
        status::{Status, SuspicionStatus},
    },
    health::{Change, Handshakes, Recent, Watch, is_gray},
};

/// Interval of the looks at the evidence.
pub(super) const GLANCE: Duration = Duration::from_millis(10);

/// Time until a backend that is still suspected is probed at once again.
const AGAIN: Duration = Duration::from_millis(200);

/// The backends whose clients' packets are watched.
#[derive(Debug, Default)]
pub(super) struct Suspects(BTreeMap<BackendNumber, Watched>);

#[derive(Clone, Debug, Default)]
struct Watched {
    watch: Watch,
    /// When it was last probed at once.
    probed: Option<Duration>,
    recent: Recent,
    /// Handshakes of late, and since when it loses more of them than others, if it does.
    handshakes: Handshakes,
    gray: Option<Duration>,
    /// Whether it served its established flows at the last look.
    was_alive: bool,
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
        for (backend, Watched { watch, probed, .. }) in &mut self.0 {
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

    /// The backends that have lost their established flows since the last look.
    pub(super) fn dead(&mut self, plane: &impl DataPlane) -> Vec<BackendNumber> {
        let mut dead = Vec::new();
        for (backend, watched) in &mut self.0 {
            let is_alive = plane.state(*backend).has_all(State::ALIVE);
            if std::mem::replace(&mut watched.was_alive, is_alive) && !is_alive {
                dead.push(*backend);
            }
        }
        dead
    }

    /// Compares the handshakes of all backends, once a second, and returns the changes to report.
    pub(super) fn compare(&mut self, inventory: &Inventory, plane: &impl DataPlane, now: Duration) -> Vec<Report> {
        let mut all = Handshakes::default();
        for (backend, watched) in &mut self.0 {
            let Some((repeated, clients)) = plane.take_repeated(*backend) else { continue };
            watched.handshakes = watched.recent.note(plane.backend_traffic(*backend).flows, repeated, clients);
            all.started += watched.handshakes.started;
            all.repeated += watched.handshakes.repeated;
        }
        let mut reports = Vec::new();
        for (backend, watched) in &mut self.0 {
            let own = watched.handshakes;
            let others =
                Handshakes { started: all.started - own.started, repeated: all.repeated - own.repeated, clients: 0 };
            let is_gray = is_gray(own, others);
            if is_gray == watched.gray.is_some() {
                continue;
            }
            watched.gray = is_gray.then_some(now);
            let Some(name) = inventory.name(*backend) else { continue };
            reports.push(if is_gray {
                (EventKind::BackendSuspect, name, lost(own, others))
            } else {
                (EventKind::BackendTrusted, name, "it loses no more of its clients' SYNs than others do".to_owned())
            });
        }
        reports
    }

    /// Adds the suspicions to a status; `now` is the clock of [`look`](Self::look).
    pub(super) fn show(&self, status: &mut Status, inventory: &Inventory, now: Duration) {
        let at = status.at;
        for (position, pool) in status.pools.iter_mut().enumerate() {
            let numbers: Vec<_> = inventory.members_of(position).map(|member| member.number).collect();
            let suspicion = |number: &BackendNumber| {
                let watched = self.0.get(number)?;
                let by_silence = watched.watch.suspicion().map(|found| (found.what.evidence().to_owned(), found.since));
                by_silence.or_else(|| Some((repeated(watched.handshakes), watched.gray?)))
            };
            let suspected = numbers.iter().filter(|number| suspicion(number).is_some()).count();
            for (backend, number) in pool.backends.iter_mut().zip(&numbers) {
                backend.suspicion = suspicion(number).map(|(evidence, since)| SuspicionStatus {
                    evidence,
                    since: at.saturating_sub(u64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(0)),
                    others: numbers.len() - 1,
                    others_suspected: suspected - 1,
                });
            }
        }
    }
}

/// What a backend's handshakes show.
fn repeated(Handshakes { started, repeated, .. }: Handshakes) -> String {
    format!("{repeated} SYNs were sent again, of {started} connections")
}

/// The same, compared with the other backends.
fn lost(own: Handshakes, others: Handshakes) -> String {
    format!("{}; of all others {} of {}", repeated(own), others.repeated, others.started)
}
