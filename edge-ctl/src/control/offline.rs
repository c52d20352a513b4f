//! Operations on the pinned maps themselves, without a daemon.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use edge_common::abi::{BackendNumber, State};
use thiserror::Error;

use super::{
    chain,
    change::{self, Candidate, ChangeError, Changed, History, Plan, Rehearser, Weigh, WeighError, Words},
    data_plane::DataPlane,
    evacuation::{self, Moment, PeakRates, Wanted as Leave},
    events::Events,
    explain::{self, Assumption, ExplainError, Explanation, FlowQuery},
    failovers,
    flow_list::{self, Listing, Wanted},
    inventory::{Inventory, InventoryError},
    operations::{self, Operation, OperationError, Outcome},
    shadow::Shadow,
    status::{self, Clock, HistoryStatus, Sample, Status},
    takedown,
};
use crate::{
    bpf::{self, BpfError, Lock, LockError, PinDir, PinnedMaps, monotonic_time},
    config::Config,
    plan::{self, PlanError},
    preflight::Pinned,
    xdp::XdpError,
};

#[derive(Debug, Error)]
pub(crate) enum OfflineError {
    #[error("nothing is pinned under {}", pin_dir.display())]
    NothingPinned { pin_dir: PathBuf },
    #[error("the pinned maps cannot be used")]
    Maps(#[from] BpfError),
    #[error("the configuration in the pinned maps cannot be used")]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error(transparent)]
    Change(Box<ChangeError>),
    #[error("only a running daemon makes other maps: start it, then repeat the command")]
    Outgrown(#[source] PlanError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("the load balancer cannot be detached")]
    Detach(#[from] XdpError),
}

impl From<ChangeError> for OfflineError {
    fn from(error: ChangeError) -> Self {
        Self::Change(Box::new(error))
    }
}

impl From<WeighError> for OfflineError {
    fn from(error: WeighError) -> Self {
        match error {
            WeighError::Operation(error) => error.into(),
            WeighError::Change(error) => Self::Change(error),
        }
    }
}

/// Pinned maps, opened for reading.
pub(crate) struct Offline {
    inventory: Inventory,
    maps: PinnedMaps,
}

impl Offline {
    pub(crate) fn open(pin_dir: &Path) -> Result<Self, OfflineError> {
        let nothing = || OfflineError::NothingPinned { pin_dir: pin_dir.to_owned() };
        let pins = PinDir::new(pin_dir).map_err(|error| nothing_pinned(pin_dir, error))?;
        let maps = PinnedMaps::open(&pins.in_force()?)?.ok_or_else(nothing)?;
        let snapshot = maps.snapshot()?.ok_or_else(nothing)?;
        Ok(Self { inventory: Inventory::from_snapshot(&snapshot)?, maps })
    }

    /// The configuration in the maps, and the maps.
    pub(crate) fn into_parts(self) -> (Inventory, PinnedMaps) {
        (self.inventory, self.maps)
    }

    /// The status by the maps. `earlier` is the sample to compute rates from, and becomes the present one. Without it
    /// there are no rates: an operator in an outage should not have to wait for a second sample.
    pub(crate) fn status(&mut self, earlier: &mut Option<Sample>) -> Result<Status, OfflineError> {
        let Self { inventory, maps } = self;
        maps.survey()?;
        let now = Sample::take(inventory, maps, Clock::now());
        let mut status = status::build(inventory, maps, earlier.as_ref(), &now, None);
        let mut history = change::recall(maps, inventory, Clock::now());
        failovers::forget_others(&mut history.failovers, inventory, maps, &history.evacuations);
        status.history = HistoryStatus::of(&history, inventory.generation, Clock::now());
        *earlier = Some(now);
        Ok(status)
    }

    /// Explains which backend a flow goes to.
    pub(crate) fn explain(&self, query: FlowQuery, assumptions: &[Assumption]) -> Result<Explanation, OfflineError> {
        let explained = explain::explain(&self.maps, &self.inventory, query, assumptions, monotonic_time());
        explained.map_err(|error| match error {
            ExplainError::Maps(error) => error.into(),
            ExplainError::Name(error) => OperationError::Name(error).into(),
        })
    }

    /// The flow records, and the translated flows.
    pub(crate) fn flows(&self, wanted: Wanted<'_>) -> Result<Listing, OfflineError> {
        let now = monotonic_time();
        let (records, translated) = (self.maps.flows(now)?, self.maps.nat_flows(now)?);
        Ok(flow_list::list(&self.inventory, &records, &translated, wanted).map_err(OperationError::Name)?)
    }
}

/// Carries out an operation, under the writer's lock if it is free: a daemon that holds the lock and does not answer
/// finds the result when it continues, and one that starts later adopts it. `notify` is called before anything is
/// changed.
pub(crate) fn operate(pin_dir: &Path, operation: &Operation, notify: impl FnOnce()) -> Result<Outcome, OfflineError> {
    let pins = PinDir::new(pin_dir).map_err(|error| nothing_pinned(pin_dir, error))?;
    // The lock is taken only if there are pins, since taking it creates the directory of its file.
    Offline::open(pin_dir)?;
    let _lock = lock_if_free(&pins)?;
    let Offline { inventory, mut maps } = Offline::open(pin_dir)?;
    notify();
    let states = states(&inventory, &maps);
    let condition = |backend| plan::condition(states.get(&backend).copied().unwrap_or_default());
    let outcome = operations::operate(&inventory, &mut maps, condition, &Events::new(), operation)?;
    let Clock { unix_ms, boot_ms } = Clock::now();
    let mut history = change::recall(&maps, &inventory, Clock::now());
    if failovers::note(&mut history.failovers, &inventory, &maps, operation, Moment { unix_ms, boot_ms }) {
        change::write_down(&maps, &mut history)?;
    }
    Ok(outcome)
}

/// The writer's lock; `None` if another process holds it.
fn lock_if_free(pins: &PinDir) -> Result<Option<Lock>, LockError> {
    match bpf::lock_pins(pins) {
        Err(LockError::Held { .. }) => Ok(None),
        taken => taken.map(Some),
    }
}

/// A request about a pool as a whole.
#[derive(Clone, Debug)]
pub(crate) enum Evacuate {
    Leave(Leave),
    Return,
}

/// Carries out the request, as [`operate`] does. It is kept in the maps, for a daemon to end it when its time is over.
pub(crate) fn evacuate(
    pin_dir: &Path,
    pool: &str,
    what: &Evacuate,
    notify: impl FnOnce(),
) -> Result<Outcome, OfflineError> {
    let pins = PinDir::new(pin_dir).map_err(|error| nothing_pinned(pin_dir, error))?;
    Offline::open(pin_dir)?;
    let _lock = lock_if_free(&pins)?;
    let Offline { inventory, mut maps } = Offline::open(pin_dir)?;
    notify();
    let mut history = change::recall(&maps, &inventory, Clock::now());
    // The peaks were the daemon's.
    let outcome = evacuate_on(&inventory, &mut maps, &mut history, (pool, what), &PeakRates::default())?;
    if outcome.changed {
        change::write_down(&maps, &mut history)?;
    }
    Ok(outcome)
}

/// The results of [`evacuate`] if it were done for one pool after the other.
pub(crate) fn would_evacuate(
    pin_dir: &Path,
    pools: &[String],
    what: &Evacuate,
    peaks: &PeakRates,
) -> Result<Vec<Outcome>, OfflineError> {
    let Offline { inventory, maps } = Offline::open(pin_dir)?;
    let (mut shadow, mut history) = (Shadow::of(&maps), change::recall(&maps, &inventory, Clock::now()));
    let would = pools.iter().map(|pool| evacuate_on(&inventory, &mut shadow, &mut history, (pool, what), peaks));
    Ok(would.collect::<Result<_, _>>()?)
}

fn evacuate_on(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    history: &mut History,
    (pool, what): (&str, &Evacuate),
    peaks: &PeakRates,
) -> Result<Outcome, OperationError> {
    let states = states(inventory, plane);
    let condition = |backend| plan::condition(states.get(&backend).copied().unwrap_or_default());
    let (events, evacuations) = (Events::new(), &mut history.evacuations);
    let Clock { unix_ms, boot_ms } = Clock::now();
    match what {
        Evacuate::Leave(wanted) => {
            let request = evacuation::Request { pool, wanted, now: Moment { unix_ms, boot_ms }, peaks };
            evacuation::carry_out(inventory, plane, &condition, &events, evacuations, request)
        }
        Evacuate::Return => {
            let why = "ended by an operator";
            evacuation::bring_back(inventory, plane, &condition, &events, evacuations, pool, why)
        }
    }
}

/// Gives backends other weights, under the writer's lock.
pub(crate) fn weigh(pin_dir: &Path, wanted: &Weigh, notify: impl FnOnce()) -> Result<Outcome, OfflineError> {
    let pins = PinDir::new(pin_dir).map_err(|error| nothing_pinned(pin_dir, error))?;
    Offline::open(pin_dir)?;
    let _lock = bpf::lock_pins(&pins)?;
    let Offline { inventory, mut maps } = Offline::open(pin_dir)?;
    notify();
    let mut history = change::recall(&maps, &inventory, Clock::now());
    let mut rehearser = Rehearser::default();
    Ok(change::weigh(&mut maps, &inventory, &mut history, wanted, &mut rehearser, &Events::new())?.outcome)
}

/// The result of [`weigh`] if it were done.
pub(crate) fn would_weigh(pin_dir: &Path, wanted: &Weigh) -> Result<Outcome, OfflineError> {
    let Offline { inventory, maps } = Offline::open(pin_dir)?;
    Ok(change::would_weigh(&maps, &inventory, wanted)?)
}

/// The results of operations if they were done one after the other.
pub(crate) fn would(pin_dir: &Path, operations: &[Operation]) -> Result<Vec<Outcome>, OfflineError> {
    let Offline { inventory, maps } = Offline::open(pin_dir)?;
    let states = states(&inventory, &maps);
    let condition = |backend| plan::condition(states.get(&backend).copied().unwrap_or_default());
    let mut shadow = Shadow::of(&maps);
    let would = |operation| Ok(operations::operate(&inventory, &mut shadow, condition, &Events::new(), operation)?);
    operations.iter().map(would).collect()
}

fn states(inventory: &Inventory, plane: &impl DataPlane) -> BTreeMap<BackendNumber, State> {
    inventory.known().map(|known| (known.number, plane.state(known.number))).collect()
}

fn nothing_pinned(pin_dir: &Path, error: BpfError) -> OfflineError {
    match error {
        BpfError::NotBpffs { .. } => OfflineError::NothingPinned { pin_dir: pin_dir.to_owned() },
        other => other.into(),
    }
}

/// Takes down everything: announced addresses, links, programs and maps. `notify` is called before anything is changed.
pub(crate) async fn detach(pin_dir: &Path, run_dir: &Path, notify: impl FnOnce()) -> Result<Outcome, OfflineError> {
    let _run_dir = bpf::lock_run_dir(run_dir)?;
    let (announced, warnings) = match Offline::open(pin_dir) {
        Ok(Offline { inventory, .. }) => (takedown::announced(&inventory.config), Vec::new()),
        Err(nothing @ OfflineError::NothingPinned { .. }) => return Err(nothing),
        // Unreadable maps can still be taken down.
        Err(unreadable) => {
            let why = chain(&unreadable);
            (Vec::new(), vec![format!("announced VIPs, if any, stay on their interfaces: {why}")])
        }
    };
    let pins = PinDir::new(pin_dir)?;
    let _pins = bpf::lock_pins(&pins)?;
    notify();
    Ok(takedown::detach(&pins, &announced, warnings).await?)
}

/// Sizes of the pinned maps, as far as they can be read.
pub(crate) fn pinned(pin_dir: &Path) -> Pinned {
    let sizes = PinDir::new(pin_dir).and_then(|pins| PinnedMaps::sizes(&pins.in_force()?));
    match sizes {
        Ok(Some(capacity)) => Pinned::Maps(capacity),
        Ok(None) | Err(BpfError::NotBpffs { .. }) => Pinned::Nothing,
        Err(error) => Pinned::Unknown(chain(&error)),
    }
}

/// Loads this version's program beside the attached one, and rehearses the configuration in force with it. Returns
/// the reason if there was nothing to rehearse.
pub(crate) fn try_program(pin_dir: &Path) -> Result<Option<String>, OfflineError> {
    let made =
        || Ok(Some("no maps of this version are pinned, and it makes some beside those of the old one".to_owned()));
    match Offline::open(pin_dir) {
        Ok(Offline { inventory, maps }) => {
            Ok(Rehearser::default().rehearse_in_force(&maps, &inventory).map_err(ChangeError::from)?)
        }
        // Maps of another version, or unusable maps.
        Err(OfflineError::NothingPinned { .. }) => made(),
        Err(OfflineError::Maps(error)) if error.is_damage() => made(),
        Err(error) => Err(error),
    }
}

/// The effects of `config` on this host, in the pinned maps or without any.
pub(crate) fn plan(pin_dir: &Path, config: &Config) -> Result<Plan, OfflineError> {
    let examined = |in_force: Option<&Config>| change::brings(in_force, config);
    match Offline::open(pin_dir) {
        Ok(Offline { inventory, maps }) => {
            Ok(Plan::of(&maps, &inventory, config)?.on_host(examined(Some(&inventory.config))))
        }
        Err(OfflineError::NothingPinned { .. }) => Ok(Plan::cold(config)?.on_host(examined(None))),
        Err(error) => Err(error),
    }
}

/// The kept generations, and the number of the one in force.
pub(crate) fn history(pin_dir: &Path) -> Result<(History, u64), OfflineError> {
    let Offline { inventory, maps } = Offline::open(pin_dir)?;
    Ok((change::recall(&maps, &inventory, Clock::now()), inventory.generation))
}

/// A change of the configuration without a daemon.
#[derive(Debug)]
pub(crate) enum Change {
    Apply(Box<Candidate>),
    Rollback(Option<u64>, Words),
    Confirm,
}

/// Makes the change, under the writer's lock. Its effects outside the maps (interfaces, announcements) are left to the
/// next daemon.
pub(crate) fn change(pin_dir: &Path, wanted: Change, notify: impl FnOnce()) -> Result<Outcome, OfflineError> {
    let pins = PinDir::new(pin_dir).map_err(|error| nothing_pinned(pin_dir, error))?;
    Offline::open(pin_dir)?;
    let _lock = bpf::lock_pins(&pins)?;
    let Offline { inventory, mut maps } = Offline::open(pin_dir)?;
    notify();
    let (events, mut rehearser) = (Events::new(), Rehearser::default());
    let mut history = change::recall(&maps, &inventory, Clock::now());
    let on_trial = matches!(&wanted, Change::Apply(candidate) if candidate.words.confirm().is_some());
    let mut candidate = match wanted {
        Change::Apply(candidate) => *candidate,
        Change::Rollback(to, words) => change::roll_back(&history, inventory.generation, to, words)?,
        Change::Confirm => return Ok(change::confirm(&maps, &mut history)?),
    };
    let is_new = candidate.config.text != inventory.config.text;
    candidate.host =
        (is_new && candidate.must_fit()).then(|| change::brings(Some(&inventory.config), &candidate.config));
    let unfit = candidate.warnings();
    let changed = change::change(&mut maps, &inventory, &mut history, candidate, &mut rehearser, &events);
    let Changed { inventory: now, mut outcome } = changed.map_err(|error| match error {
        ChangeError::Plan(why) => OfflineError::Outgrown(why),
        error => error.into(),
    })?;
    let Some(now) = now else { return Ok(outcome) };
    outcome.warnings.extend(unfit);
    if now.config.interfaces != inventory.config.interfaces
        || takedown::announced(&now.config) != takedown::announced(&inventory.config)
    {
        outcome.warnings.push("interfaces and announcements follow when a daemon runs".to_owned());
    }
    if on_trial {
        let warning = "no daemon runs: if it is not confirmed, the next one undoes it, when it starts after that time";
        outcome.warnings.push(warning.to_owned());
    }
    Ok(outcome)
}
