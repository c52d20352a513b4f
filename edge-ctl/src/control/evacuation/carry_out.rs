//! Effects of an evacuation and of its end on services, and the messages about them.

use edge_common::abi::{BackendNumber, Failover};

use super::{Base, Evacuation, MOST, PeakRates, Request, Wanted, base_of, passed, settled};
use crate::{
    config::{Service, is_meant, joined_backends, joined_names},
    control::{
        data_plane::DataPlane,
        deadline::Deadline,
        events::{EventKind, Events},
        few,
        inventory::{Inventory, Member},
        operations::{self, MAX_REASON, Operation, OperationError, Outcome},
        selection::{self, Counts},
    },
    health::Condition,
    plan::{self, Admin},
};

/// Most services of each kind in a message.
const NAMED: usize = 8;

/// Moves all services past `pool`, and adds the evacuation to `evacuations`.
pub(crate) fn carry_out(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    condition: &dyn Fn(BackendNumber) -> Condition,
    events: &Events,
    evacuations: &mut Vec<Evacuation>,
    Request { pool, wanted, now, peaks }: Request<'_>,
) -> Result<Outcome, OperationError> {
    let length = wanted.reason.as_ref().map_or(0, String::len);
    if length > MAX_REASON {
        return Err(OperationError::Reason { length });
    }
    inventory.pool(pool)?;
    let earlier = evacuations.iter().position(|evacuation| evacuation.pool == pool);
    if earlier.is_none() && evacuations.len() >= MOST {
        return Err(OperationError::Evacuations);
    }
    let mut entry = earlier.map(|at| evacuations[at].clone()).unwrap_or_default();
    entry = Evacuation {
        pool: pool.to_owned(),
        since: now.unix_ms,
        deadline: Deadline::after(wanted.for_ms, now.boot_ms),
        drain: wanted.drain,
        reason: wanted.reason.clone(),
        ..entry
    };
    let before = evacuations.clone();
    let mut after = evacuations.clone();
    match earlier {
        Some(at) => after[at] = entry.clone(),
        None => after.push(entry.clone()),
    }
    let mut effects = Effects::new(inventory, pool, Some(peaks));
    let mut moves = Vec::new();
    for (service, number) in concerned(inventory, pool) {
        let present = plane.failover(number);
        let base = match base_of(&before, service) {
            Some(base) => base,
            None if settled(inventory, service, &before, Failover::default()) == present => Failover::default(),
            // An operator has failed the service over.
            None => present,
        };
        let to = settled(inventory, service, &after, base);
        let is_alone = passed(inventory, service, &after, base).is_none();
        if is_alone {
            effects.alone.push(&service.name);
        }
        if base != Failover::default() && base_of(&before, service).is_none() {
            let base = Base { service: service.name.clone(), first: base.first, evacuate: base.evacuate };
            entry.before.push(base);
        }
        if to == present && !is_alone {
            effects.elsewhere.push(&service.name);
        } else if to != present {
            moves.push((service, number, to));
        }
    }
    let mut forced: Vec<_> = if wanted.force { serving(inventory, plane, pool) } else { Vec::new() };
    // Backends that the earlier request has drained are disabled now, or the other way round.
    if let Some(earlier) = earlier.map(|at| &before[at]).filter(|earlier| earlier.drain != wanted.drain) {
        forced.extend(earlier.backends.iter().filter(|name| is_as_taken(inventory, plane, earlier, name)).cloned());
    }
    if moves.is_empty() && forced.is_empty() && effects.elsewhere.is_empty() && entry.backends.is_empty() {
        let message = match &effects.alone[..] {
            [] => format!("pool {pool} is not evacuated: no service has it"),
            _ => format!("pool {pool} is not evacuated: {}", effects.no_other_pool()),
        };
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    }
    let counts = Counts::take(inventory, plane);
    for (service, number, to) in moves {
        effects.add_move(&counts, service, to);
        plane.set_failover(number, to)?;
    }
    let mut warnings = Vec::new();
    for backend in forced {
        let reason = Some(format!("pool {pool} is evacuated"));
        let name = backend.clone();
        let operation =
            if wanted.drain { Operation::Drain { backend, reason } } else { Operation::Disable { backend, reason } };
        let outcome = operations::operate(inventory, plane, condition, events, &operation)?;
        if outcome.changed && !entry.backends.contains(&name) {
            entry.backends.push(name);
        }
        warnings = outcome.warnings;
    }
    if !wanted.force && entry.backends.is_empty() && !effects.alone.is_empty() {
        warnings.push(effects.no_other_pool());
    }
    match earlier {
        Some(at) => evacuations[at] = entry,
        None => evacuations.push(entry),
    }
    let message = effects.evacuated(wanted);
    events.report_for(EventKind::PoolEvacuated, pool, effects.in_short(wanted), &effects.all());
    Ok(Outcome { changed: true, message, warnings })
}

/// Ends the evacuation of `pool`; `why` is an operator's reason, or that its time is over.
pub(crate) fn bring_back(
    inventory: &Inventory,
    plane: &mut impl DataPlane,
    condition: &dyn Fn(BackendNumber) -> Condition,
    events: &Events,
    evacuations: &mut Vec<Evacuation>,
    pool: &str,
    why: &str,
) -> Result<Outcome, OperationError> {
    let Some(at) = evacuations.iter().position(|evacuation| evacuation.pool == pool) else {
        inventory.pool(pool)?;
        let message = format!("pool {pool} is not evacuated");
        return Ok(Outcome { changed: false, message, warnings: Vec::new() });
    };
    let mut after = evacuations.clone();
    let ended = after.remove(at);
    // The remaining evacuations still need these failovers.
    if let Some(next) = after.first_mut() {
        next.before.extend(ended.before.iter().cloned());
    }
    let mut decided_since = Vec::new();
    for backend in &ended.backends {
        let reason = Some(format!("the evacuation of pool {pool} is over"));
        if is_as_taken(inventory, plane, &ended, backend) {
            let operation = Operation::Enable { backend: backend.clone(), reason };
            operations::operate(inventory, plane, condition, events, &operation)?;
        } else if !is_enabled(inventory, plane, backend) {
            decided_since.push(backend.as_str());
        }
    }
    let (mut effects, mut changed_since) = (Effects::new(inventory, pool, None), Vec::new());
    let counts = Counts::take(inventory, plane);
    for (service, number) in concerned(inventory, pool) {
        let base = base_of(evacuations, service).unwrap_or_default();
        let expected = settled(inventory, service, evacuations, base);
        let to = settled(inventory, service, &after, base);
        if plane.failover(number) != expected {
            changed_since.push(service.name.as_str());
        } else if to == expected {
            effects.elsewhere.push(&service.name);
        } else {
            effects.add_move(&counts, service, to);
            plane.set_failover(number, to)?;
        }
    }
    *evacuations = after;
    let mut warnings = Vec::new();
    if !changed_since.is_empty() {
        let names = few(&joined_names(changed_since), NAMED);
        warnings.push(format!("failed over otherwise since, and left as they are: {names}"));
    }
    if !decided_since.is_empty() {
        let names = joined_backends(decided_since);
        warnings.push(format!(
            "drained or disabled otherwise since, and left as they are: {} (`edge-ctl enable` brings them back)",
            few(&names, NAMED)
        ));
    }
    let message = format!("the evacuation of pool {pool} is over ({why})\n{}", effects.lines());
    events.report_for(EventKind::EvacuationOver, pool, format!("its evacuation is over: {why}"), &effects.all());
    Ok(Outcome { changed: true, message: message.trim_end().to_owned(), warnings })
}

/// Services that have the pool.
fn concerned<'a>(inventory: &'a Inventory, pool: &'a str) -> impl Iterator<Item = (&'a Service, u32)> {
    let has = move |service: &Service| service.pools.iter().any(|at| is_meant(pool, &inventory.config.pools[*at].name));
    inventory.services().filter(move |(service, _)| has(service))
}

/// Whether a backend that the evacuation has taken out is as the evacuation left it: an operator may have made another
/// decision about the backend meanwhile, or the configuration may have changed.
fn is_as_taken(inventory: &Inventory, plane: &impl DataPlane, evacuation: &Evacuation, backend: &str) -> bool {
    let taken = if evacuation.drain { Admin::Drained } else { Admin::Disabled };
    inventory.backend(backend).is_ok_and(|named| has_admin(plane, &named.numbers, taken))
}

/// Whether the backend is enabled, or no longer configured.
fn is_enabled(inventory: &Inventory, plane: &impl DataPlane, backend: &str) -> bool {
    inventory.backend(backend).map_or(true, |named| has_admin(plane, &named.numbers, Admin::Enabled))
}

fn has_admin(plane: &impl DataPlane, numbers: &[BackendNumber], admin: Admin) -> bool {
    numbers.iter().all(|number| plan::admin(plane.state(*number)) == admin)
}

/// Names (`POOL/BACKEND`) of the pool's backends that no operator has taken out.
fn serving(inventory: &Inventory, plane: &impl DataPlane, pool: &str) -> Vec<String> {
    let is_in = |member: &Member<'_>| {
        is_meant(pool, &member.pool.name) && plan::admin(plane.state(member.number)) == Admin::Enabled
    };
    inventory.members().filter(is_in).map(|member| member.name()).collect()
}

/// The services by the effect of an evacuation or its end.
struct Effects<'a> {
    inventory: &'a Inventory,
    pool: &'a str,
    peaks: Option<&'a PeakRates>,
    /// Services that move, and where they go.
    moves: Vec<(Fate<'a>, &'a str)>,
    /// Services that were and are on another pool.
    elsewhere: Vec<&'a str>,
    /// Services that have no other pool.
    alone: Vec<&'a str>,
}

/// Where a service goes.
#[derive(PartialEq)]
struct Fate<'a> {
    /// In words.
    goes: String,
    /// Its new pool and the number of the pool's available backends; `None` if no pool serves it.
    pool: Option<(&'a str, usize)>,
}

impl<'a> Effects<'a> {
    fn new(inventory: &'a Inventory, pool: &'a str, peaks: Option<&'a PeakRates>) -> Self {
        Self { inventory, pool, peaks, moves: Vec::new(), elsewhere: Vec::new(), alone: Vec::new() }
    }

    fn add_move(&mut self, counts: &Counts, service: &'a Service, to: Failover) {
        let serving = selection::serving(counts, to, service);
        let mut fate = Fate { goes: selection::described(self.inventory, service, serving), pool: None };
        if let Some(position) = serving.position().and_then(|position| service.pools.get(position)) {
            let (pool, available) = (&self.inventory.config.pools[*position], counts.available(*position));
            let all = pool.backends.len();
            fate.goes = format!("{} ({available} of {all} backends take new flows)", fate.goes);
            fate.pool = Some((&pool.name, available));
        }
        self.moves.push((fate, &service.name));
    }

    fn all(&self) -> Vec<&'a str> {
        self.moves.iter().map(|(_, name)| *name).collect()
    }

    /// One line per effect.
    fn lines(&self) -> String {
        let mut fates: Vec<(&Fate<'_>, Vec<&str>)> = Vec::new();
        for (fate, name) in &self.moves {
            match fates.iter_mut().find(|(known, _)| *known == fate) {
                Some((_, names)) => names.push(name),
                None => fates.push((fate, vec![name])),
            }
        }
        let line = |(Fate { goes, pool }, names): (&Fate<'_>, Vec<&str>)| {
            let forecast = pool.and_then(|(pool, available)| self.peaks?.line(&names, pool, available));
            let forecast = forecast.map_or(String::new(), |line| format!("    {line}\n"));
            let names = joined_names(names);
            let services = if names.len() == 1 { "service" } else { "services" };
            format!("  {services} {}: {goes}\n{forecast}", few(&names, NAMED))
        };
        let mut lines: String = fates.into_iter().map(line).collect();
        if !self.elsewhere.is_empty() {
            let names = few(&joined_names(self.elsewhere.iter().copied()), NAMED);
            lines.extend(["  not touched, since another pool serves: ", &names, "\n"]);
        }
        lines
    }

    fn no_other_pool(&self) -> String {
        let names = few(&joined_names(self.alone.iter().copied()), NAMED);
        format!(
            "left alone, since they have no other pool: {names} (`--force` takes the pool's backends away from them, too)"
        )
    }

    fn in_short(&self, wanted: &Wanted) -> String {
        let count = joined_names(self.all()).len();
        let services = if count == 1 { "1 service leaves".to_owned() } else { format!("{count} services leave") };
        let flows = if wanted.drain { "; established flows stay" } else { ", with their established flows" };
        let back = match wanted.for_ms {
            Some(ms) => {
                format!("; they return in {}", humantime::format_duration(std::time::Duration::from_millis(ms)))
            }
            None => String::new(),
        };
        let reason = wanted.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
        format!("{services} it by an operator's command{flows}{back}{reason}")
    }

    fn evacuated(&self, wanted: &Wanted) -> String {
        let short = self.in_short(wanted);
        format!("pool {}: {short}\n{}undo: edge-ctl return {}", self.pool, self.lines(), self.pool)
    }
}
