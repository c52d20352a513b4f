//! Judges the verdicts of all probes together, writes the resulting states and reports them.

use edge_common::abi::{BackendNumber, State};

use super::Controller;
use crate::{
    bpf::BpfError,
    control::{
        data_plane::DataPlane,
        events::EventKind,
        status::{self, FrozenStatus, Status},
    },
    daemon::{judgement::Ruling, panic_mode::Panic},
    health::{Health, HealthChange, Verdict},
    plan::{self, Admin},
    probe::{Report, Subject},
};

impl<P: DataPlane> Controller<P> {
    /// Processes verdicts of probes, in their order; together, since each change is judged by all verdicts.
    pub(crate) fn report(&mut self, reports: &[Report]) -> Result<(), BpfError> {
        let (now, deaf) = (self.now, self.judgement.is_frozen());
        let (mut changes, mut held) = (Vec::new(), false);
        for report in reports {
            let backend = match report.subject {
                Subject::Backend(backend) => backend,
                Subject::Reference(position) => {
                    self.judgement.note_reference(position, &report.verdict, now);
                    continue;
                }
            };
            if let Some(took) = report.took {
                self.note_latency(backend, took);
            }
            let Some(probed) = self.judgement.probed.get_mut(&backend) else { continue };
            probed.note_address(report.answers_at_address);
            if let Some(change) = probed.observe(&report.verdict, now, deaf) {
                changes.push((backend, change));
            }
            if let Some(end) = report.certificate_end {
                self.certificates.note(backend, end);
            }
            // A held backend may be its service's last one by now, which ends the hold.
            held |= probed.machine().held(now).is_some();
            if report.verdict != Verdict::Pass {
                self.judgement.disturb();
            }
        }
        if changes.is_empty() && !held { Ok(()) } else { self.judge(changes) }
    }

    /// Forgets verdicts that are too old; called each second.
    pub(crate) fn age(&mut self) -> Result<(), BpfError> {
        let now = self.now;
        let aged = self.judgement.probed.iter_mut();
        let aged: Vec<_> = aged.filter_map(|(backend, probed)| Some((*backend, probed.age(now)?))).collect();
        if aged.is_empty() { Ok(()) } else { self.judge(aged) }
    }

    /// Judges again after some time, since a doubt may be resolved by then.
    pub(crate) fn reconsider(&mut self) -> Result<(), BpfError> {
        if self.judgement.is_restless() { self.judge(Vec::new()) } else { Ok(()) }
    }

    /// The freeze, for `status`.
    pub(crate) fn frozen(&self) -> Option<FrozenStatus> {
        let frozen = self.judgement.frozen()?;
        Some(FrozenStatus { for_seconds: self.now.saturating_sub(frozen.since).as_secs(), why: frozen.why.reason() })
    }

    /// The most severe fault, or the generation, in one line.
    pub(crate) fn summary(&self) -> String {
        let pools = self.inventory.config.pools.iter().enumerate();
        let panicking = pools.filter(|(position, _)| self.judgement.panics(*position));
        let panicking: Vec<_> = panicking.map(|(_, pool)| pool.name.as_str()).collect();
        match self.judgement.frozen() {
            Some(frozen) => format!("FROZEN: {}; health stays as it was", frozen.why.reason()),
            None if !panicking.is_empty() => format!("PANIC: all serve, up or not, in {}", panicking.join(", ")),
            None => format!("generation {}", self.inventory.generation),
        }
    }

    /// Adds to a status the facts that the maps do not contain.
    pub(crate) fn explain(&self, status: &mut Status) {
        for (pool, numbers) in status.pools.iter_mut().zip(&self.inventory.backends) {
            for (backend, number) in pool.backends.iter_mut().zip(numbers) {
                let Some(probed) = self.judgement.probed.get(number) else { continue };
                if let Some((time, deaths)) = probed.machine().held(self.now) {
                    let more = time.as_secs() + 1;
                    backend.reason = format!(
                        "{}; its probes pass again: held back for {more} s more, since it went down {deaths} times",
                        backend.reason
                    );
                }
            }
        }
        let cut_off = |number: BackendNumber| self.reach.why(number).filter(|_| !self.reach.is_out(number));
        let members = self.inventory.members().map(|member| (member.name(), cut_off(member.number)));
        let cut_off = members.filter_map(|(name, why)| Some((name, why?.to_owned()))).collect();
        status::show_cut_off(status, &cut_off);
    }

    /// Judges the verdicts about all backends, writes the resulting states, and reports them.
    pub(super) fn judge(&mut self, mut changes: Vec<(BackendNumber, HealthChange)>) -> Result<(), BpfError> {
        let Self { judgement, inventory, reach, plane, now, .. } = self;
        changes.extend(judgement.release(inventory, reach, plane, *now));
        let ruling = judgement.judge(inventory, reach, plane, changes, *now);
        self.announce(&ruling);
        let Ruling { changes, mut others, .. } = ruling;
        // A backend that changes has a reason of its own.
        others.retain(|backend, why| !why.is_empty() || !changes.iter().any(|(changed, _)| changed == backend));
        // Restores before it removes: a flow that keeps its backend in the end must not lose it in between.
        let (gives, takes): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(_, change)| change.to != Health::Down);
        let mut moved = false;
        for (backend, change) in gives {
            moved |= self.apply(backend, &change)?;
        }
        for (backend, why) in others {
            moved |= self.adjust(backend, &why)?;
        }
        for (backend, change) in takes {
            moved |= self.apply(backend, &change)?;
        }
        moved |= self.bring_back()?;
        if moved {
            self.report_moves();
        }
        Ok(())
    }

    /// Lets pools that were left and backends that were down take more of their new flows, as time passes. Returns whether
    /// new flows may go to another pool.
    fn bring_back(&mut self) -> Result<bool, BpfError> {
        let Self { judgement, inventory, reach, plane, now, .. } = self;
        let shares = judgement.returns.shares(*now);
        let returns = std::mem::take(&mut judgement.returns);
        let is_up = |backend| judgement.is_up(reach, backend);
        let enough = |pool| Panic::is_enough_up(inventory, plane, pool, is_up);
        let mut stepped = returns;
        let (withheld, returning) = stepped.step(inventory, enough, *now);
        judgement.returns = stepped;
        for (backend, share) in shares {
            if self.plane.state(backend).has_all(State::NEW) {
                self.plane.set_share(backend, share)?;
            }
        }
        for position in returning {
            let pool = &self.inventory.config.pools[position];
            let over = humantime::format_duration(pool.judging.failback_over);
            let message =
                format!("enough of its backends have been up for long enough: new flows return to it over {over}");
            self.events.report(EventKind::PoolReturning, &pool.name, message);
        }
        let mut moved = false;
        for (position, withheld) in withheld {
            let Some(number) = self.inventory.pools.get(position).copied() else { continue };
            if self.plane.withheld(number) != withheld {
                let name = &self.inventory.config.pools[position].name;
                let reason = format!("pool {name} takes another share of its new flows");
                self.plane.set_withheld(number, withheld, &reason);
                moved = true;
            }
        }
        Ok(moved)
    }

    /// Reports freezes and panics, which concern more than one backend.
    fn announce(&self, ruling: &Ruling) {
        if let Some(frozen) = &ruling.frozen {
            let message = format!(
                "{}: the cause may be this host, so health stays as it was until half of the pools answer again",
                frozen.why.reason()
            );
            self.events.report(EventKind::Frozen, "health", message);
        }
        if let Some(time) = ruling.thawed {
            let message = format!("enough pools answer again, after {} s: results of probes apply", time.as_secs());
            self.events.report(EventKind::Thawed, "health", message);
        }
        for (pool, panics) in &ruling.panic {
            let Some(pool) = self.inventory.config.pools.get(*pool) else { continue };
            if *panics {
                let message =
                    "too many of its backends are down, and there is no other pool: all of them serve, up or not";
                self.events.report(EventKind::Panic, &pool.name, message);
            } else {
                let message = "only backends that are up serve again: enough are, or there is another pool";
                self.events.report(EventKind::PanicOver, &pool.name, message);
            }
        }
    }

    /// Applies a probe result, unless the backend is unreachable.
    fn apply(&mut self, backend: BackendNumber, change: &HealthChange) -> Result<bool, BpfError> {
        if self.reach.is_out(backend) { Ok(false) } else { self.enact(backend, change) }
    }

    /// Writes a backend's present state, and reports it. Returns whether the state changed.
    pub(super) fn enact(&mut self, backend: BackendNumber, change: &HealthChange) -> Result<bool, BpfError> {
        let (before, after) = self.write(backend, &change.reason)?;
        if change.from == Health::Unknown && change.to == Health::Unknown {
            let operators = self.operators_reason(backend);
            self.plane.change_state(backend, |state| state, operators.as_deref().unwrap_or(&change.reason))?;
        }
        let Some(name) = self.inventory.name(backend) else { return Ok(false) };
        let kind = match change.to {
            Health::Up => EventKind::BackendUp,
            Health::Down => EventKind::BackendDown,
            Health::Unknown => EventKind::BackendUnknown,
        };
        let but = match plan::admin(after) {
            Admin::Enabled if plan::forced(after) == Some(Health::Up) && !self.reach.is_out(backend) => {
                "; it stays up, forced by an operator"
            }
            Admin::Enabled if plan::forced(after) == Some(Health::Down) => "; it stays down, forced by an operator",
            Admin::Enabled if after.has_all(State::RETIRED) => "; it stays retired",
            Admin::Enabled if after.has_all(State::DOWN | State::NEW) => "; it serves on, since too few are up",
            Admin::Enabled if after.has_all(State::DOWN | State::ALIVE) => {
                "; it keeps its flows until the cause is clear"
            }
            Admin::Enabled => "",
            Admin::Drained => "; it stays drained",
            Admin::Disabled => "; it stays disabled",
        };
        self.events.report(kind, &name, format!("{}{but}", change.reason));
        Ok(after != before)
    }

    /// Writes a backend's state if the states of others change it.
    fn adjust(&mut self, backend: BackendNumber, why: &str) -> Result<bool, BpfError> {
        let note = self.plane.why(backend).reason;
        let reason = if why.is_empty() { note } else { format!("{note}; {why}") };
        let (before, after) = self.write(backend, &reason)?;
        if after != before
            && !why.is_empty()
            && let Some(name) = self.inventory.name(backend)
        {
            self.events.report(EventKind::BackendDown, &name, why);
        }
        Ok(after != before)
    }

    /// Writes the state that follows from all that is known of a backend. Returns the one before, and this one.
    fn write(&mut self, backend: BackendNumber, reason: &str) -> Result<(State, State), BpfError> {
        let condition = self.judgement.condition(&self.reach, backend);
        let changed = |before| plan::changed(before, plan::admin(before), condition);
        let mut before = self.plane.state(backend);
        if changed(before) != before {
            let operators = self.operators_reason(backend);
            before = self.plane.change_state(backend, changed, operators.as_deref().unwrap_or(reason))?;
        }
        Ok((before, changed(before)))
    }

    /// Why an operator has taken a backend out, or forced its health. The result of probes does not replace it.
    pub(super) fn operators_reason(&self, backend: BackendNumber) -> Option<String> {
        let state = self.plane.state(backend);
        let is_decided = match plan::admin(state) {
            Admin::Enabled => plan::forced(state).is_some(),
            Admin::Drained | Admin::Disabled => true,
        };
        Some(self.plane.why(backend).reason).filter(|reason| is_decided && !reason.is_empty())
    }
}
