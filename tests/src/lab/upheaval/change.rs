//! A single change: which kinds are possible, and how each is made.

use std::time::Duration;

use anyhow::Result;

use super::{MOST_DEAD, Member, Off, Reach, Upheaval};
use crate::lab::topology::Backend;

/// Weights that changed members get; 100 is the default.
const WEIGHTS: [u32; 5] = [25, 50, 100, 200, 400];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// A backend joins a pool, by a reload of the configuration.
    Add,
    /// A backend leaves a pool, by a reload.
    Remove,
    /// Some members get new weights, by a reload.
    Weigh,
    Drain,
    Disable,
    /// Reverts a drain or a disable.
    Enable,
    /// A machine dies.
    Kill,
    /// The machine is back.
    Recover,
    Failover,
    Failback,
    /// The controller is killed and started again.
    Restart,
}

impl ChangeKind {
    pub const ALL: [Self; 11] = [
        Self::Add,
        Self::Remove,
        Self::Weigh,
        Self::Drain,
        Self::Disable,
        Self::Enable,
        Self::Kill,
        Self::Recover,
        Self::Failover,
        Self::Failback,
        Self::Restart,
    ];
}

impl Upheaval<'_> {
    /// Makes a change of this kind, if possible now; returns its description.
    pub(super) fn make(&mut self, kind: ChangeKind) -> Result<Option<String>> {
        // A daemon that just started, or reloaded its file, counts failed probes from zero. A backend that dies
        // meanwhile would stay in service longer than the clients' patience.
        let counts_anew =
            matches!(kind, ChangeKind::Add | ChangeKind::Remove | ChangeKind::Weigh | ChangeKind::Restart);
        if counts_anew && !self.all_dead_are_seen()? {
            return Ok(None);
        }
        match kind {
            ChangeKind::Add => self.add(),
            ChangeKind::Remove => self.remove(),
            ChangeKind::Weigh => self.weigh(),
            ChangeKind::Drain => self.switch_off(Off::Drained),
            ChangeKind::Disable => self.switch_off(Off::Disabled),
            ChangeKind::Enable => self.switch_on(),
            ChangeKind::Kill => self.kill(),
            ChangeKind::Recover => self.recover(),
            ChangeKind::Failover => self.failover(),
            ChangeKind::Failback => self.failback(),
            ChangeKind::Restart => self.restart().map(Some),
        }
    }

    fn add(&mut self) -> Result<Option<String>> {
        let Some(member) = self.one(|upheaval, member| !upheaval.is_configured(member)) else { return Ok(None) };
        self.set_weight(member);
        self.reload()?;
        Ok(Some(Self::name(member)))
    }

    fn remove(&mut self) -> Result<Option<String>> {
        let spared = |upheaval: &Self, member| upheaval.serves(member) && upheaval.spares(&[member]);
        let Some(member) = self.one(spared) else { return Ok(None) };
        self.configuration.weights.insert((Self::pool(member), member.2), None);
        self.reload()?;
        Ok(Some(Self::name(member)))
    }

    fn weigh(&mut self) -> Result<Option<String>> {
        let mut what = Vec::new();
        for _ in 0..=self.random.below(4) {
            let Some(member) = self.one(Self::is_configured) else { return Ok(None) };
            let weight = self.set_weight(member);
            what.push(format!("{} {weight}", Self::name(member)));
        }
        self.reload()?;
        Ok(Some(what.join(", ")))
    }

    /// Takes a whole machine, or one of its addresses, out of service.
    fn switch_off(&mut self, off: Off) -> Result<Option<String>> {
        let Some(first) = self.one(Self::serves) else { return Ok(None) };
        let whole = self.random.below(2) == 0;
        let group: Vec<_> = Self::members()
            .filter(|member| *member == first || whole && member.2 == first.2)
            .filter(|member| self.serves(*member))
            .collect();
        if !self.spares(&group) {
            return Ok(None);
        }
        for member in &group {
            let verb = match off {
                Off::Drained => "drain",
                Off::Disabled => "disable",
            };
            if off == Off::Disabled {
                self.begin(member.2, Reach::Pool(member.0, member.1));
            }
            self.off.insert(*member, off);
            self.lab.ctl(&[verb, &Self::name(*member)])?;
        }
        Ok(Some(Self::names(&group)))
    }

    fn switch_on(&mut self) -> Result<Option<String>> {
        let Some(first) = self.one(|upheaval, member| upheaval.off.contains_key(&member)) else { return Ok(None) };
        let whole = self.random.below(2) == 0;
        let group: Vec<_> =
            self.off.keys().copied().filter(|member| *member == first || whole && member.2 == first.2).collect();
        for member in &group {
            self.lab.ctl(&["enable", &Self::name(*member)])?;
            self.off.remove(member);
            self.end(member.2, Reach::Pool(member.0, member.1));
        }
        Ok(Some(Self::names(&group)))
    }

    fn kill(&mut self) -> Result<Option<String>> {
        // One at a time: retransmissions of a SYN survive one dying machine, but not three in a row.
        if self.dead.len() >= MOST_DEAD || !self.all_dead_are_seen()? {
            return Ok(None);
        }
        let machines: Vec<_> = Backend::all().filter(|backend| !self.dead.contains(backend)).collect();
        let Some(backend) = self.random.choose(&machines).copied() else { return Ok(None) };
        let group: Vec<_> = Self::members().filter(|member| member.2 == backend && self.serves(*member)).collect();
        if !self.spares(&group) {
            return Ok(None);
        }
        self.begin(backend, Reach::Machine);
        self.dead.insert(backend);
        self.lab.kill_backend(backend)?;
        Ok(Some(backend.to_string()))
    }

    fn recover(&mut self) -> Result<Option<String>> {
        let dead: Vec<_> = self.dead.iter().copied().collect();
        let Some(backend) = self.random.choose(&dead).copied() else { return Ok(None) };
        // A machine that returns before its death was detected resets unknown connections, which would not be the
        // edge's fault.
        if !self.is_seen_down(backend)? {
            return Ok(None);
        }
        self.lab.heal_backend(backend)?;
        self.dead.remove(&backend);
        self.end(backend, Reach::Machine);
        Ok(Some(backend.to_string()))
    }

    fn failover(&mut self) -> Result<Option<String>> {
        let services: Vec<_> =
            Self::services().into_iter().filter(|service| !self.failed_over.contains(service.name)).collect();
        let Some(service) = self.random.choose(&services).copied() else { return Ok(None) };
        let [_, second] = service.pools();
        self.lab.ctl(&["failover", service.name, "--to", &second])?;
        self.failed_over.insert(service.name);
        Ok(Some(service.name.to_owned()))
    }

    fn failback(&mut self) -> Result<Option<String>> {
        let services: Vec<_> = self.failed_over.iter().copied().collect();
        let Some(service) = self.random.choose(&services).copied() else { return Ok(None) };
        self.lab.ctl(&["failback", service])?;
        self.failed_over.remove(service);
        Ok(Some(service.to_owned()))
    }

    fn restart(&mut self) -> Result<String> {
        self.lab.kill_daemon()?;
        let pause = Duration::from_millis(self.random.below(1000).into());
        std::thread::sleep(pause);
        self.lab.start_daemon()?;
        Ok(format!("after {} ms", pause.as_millis()))
    }

    fn all_dead_are_seen(&self) -> Result<bool> {
        for backend in &self.dead {
            if !self.is_seen_down(*backend)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A random member of a pool for which `fits` holds.
    fn one(&mut self, fits: impl Fn(&Self, Member) -> bool) -> Option<Member> {
        let members: Vec<_> = Self::members().filter(|member| fits(self, *member)).collect();
        self.random.choose(&members).copied()
    }

    fn set_weight(&mut self, member: Member) -> u32 {
        let weight = *self.random.choose(&WEIGHTS).unwrap_or(&100);
        self.configuration.weights.insert((Self::pool(member), member.2), Some(weight));
        weight
    }

    fn reload(&self) -> Result<()> {
        std::fs::write(self.lab.edge().configuration(), self.configuration.text())?;
        // Every removal here is intended.
        self.lab.ctl(&["reload", "--allow-removal", "1000"])?;
        Ok(())
    }
}
