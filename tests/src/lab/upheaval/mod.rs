//! Random, continuous changes of membership: a year of operators' work, deaths and configurations within a minute.

mod change;
pub mod outage;
pub mod believed;
pub mod owners;
pub mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

pub use self::{
    change::ChangeKind,
    outage::{Outage, Reach},
};
use crate::lab::{
    Lab,
    configuration::Configuration,
    random::Random,
    status,
    topology::{Backend, Family, Part, Protocol, Service},
};

/// Maximum number of machines that are dead at the same time.
const MOST_DEAD: usize = 2;

/// A member of a pool, as in the configuration.
type Member = (Part, Family, Backend);

/// The lab, the changes that were made, and the outages that they may have caused.
pub struct Upheaval<'a> {
    pub lab: &'a mut Lab,
    random: Random,
    configuration: Configuration,
    /// Members of pools that are drained or disabled.
    off: BTreeMap<Member, Off>,
    dead: BTreeSet<Backend>,
    /// Services that are failed over by an operator.
    failed_over: BTreeSet<&'static str>,
    outages: Vec<Outage>,
    done: Vec<Done>,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Done {
    pub kind: ChangeKind,
    pub what: String,
    pub at: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Off {
    Drained,
    Disabled,
}

impl<'a> Upheaval<'a> {
    /// The upheaval of `lab`, which runs with `configuration`, before any change.
    pub fn new(lab: &'a mut Lab, configuration: Configuration, seed: u64) -> Self {
        Self {
            lab,
            random: Random::new(seed),
            configuration,
            off: BTreeMap::new(),
            dead: BTreeSet::new(),
            failed_over: BTreeSet::new(),
            outages: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Makes one random change.
    pub fn change(&mut self) -> Result<()> {
        // Most kinds are possible at any time; some require an earlier change.
        loop {
            let kind = self.rarer()?;
            let at = Instant::now();
            if let Some(what) = self.make(kind).with_context(|| format!("{kind:?}"))? {
                self.done.push(Done { kind, what, at });
                return Ok(());
            }
        }
    }

    /// Sleeps for a random time below `most`.
    pub fn pause(&mut self, most: Duration) {
        let most = u32::try_from(most.as_millis()).unwrap_or(u32::MAX);
        std::thread::sleep(Duration::from_millis(self.random.below(most).into()));
    }

    pub fn done(&self) -> &[Done] {
        &self.done
    }

    pub fn outages(&self) -> &[Outage] {
        &self.outages
    }

    /// A random kind: the rarer of two draws, so that every run has all kinds.
    fn rarer(&mut self) -> Result<ChangeKind> {
        let mut draw = || self.random.choose(&ChangeKind::ALL).copied().context("there are kinds of changes");
        let (one, other) = (draw()?, draw()?);
        let made = |kind| self.done.iter().filter(|done| done.kind == kind).count();
        Ok(if made(one) <= made(other) { one } else { other })
    }

    fn members() -> impl Iterator<Item = Member> {
        let variants =
            [Part::Lan, Part::Wan].into_iter().flat_map(|part| [Family::V4, Family::V6].map(|via| (part, via)));
        variants.flat_map(|(part, via)| Backend::all().map(move |backend| (part, via, backend)))
    }

    /// Whether the configuration contains the member.
    fn is_configured(&self, member: Member) -> bool {
        self.configuration.weights.get(&(Self::pool(member), member.2)) != Some(&None)
    }

    /// Whether the member takes new flows, according to the changes made.
    fn serves(&self, member: Member) -> bool {
        self.is_configured(member) && !self.off.contains_key(&member) && !self.dead.contains(&member.2)
    }

    /// Whether services work without `gone`: each pool keeps two members, and each pair of pools three that serve.
    fn spares(&self, gone: &[Member]) -> bool {
        let left = |member: &Member| !gone.contains(member);
        gone.iter().all(|&(part, via, backend)| {
            let of_variant = || Self::members().filter(move |member| (member.0, member.1) == (part, via)).filter(left);
            let configured =
                of_variant().filter(|member| member.2.provider == backend.provider && self.is_configured(*member));
            configured.count() >= 2 && of_variant().filter(|member| self.serves(*member)).count() >= 3
        })
    }

    fn is_seen_down(&self, backend: Backend) -> Result<bool> {
        let seen = status::backends(&self.lab.status()?)?;
        let mut own = seen.iter().filter(|seen| seen.name == backend.to_string() && seen.state != "disabled");
        Ok(own.all(|seen| seen.health == "down"))
    }

    fn begin(&mut self, backend: Backend, reach: Reach) {
        self.outages.push(Outage { backend, reach, from: Instant::now(), to: None, in_doubt: false });
    }

    fn end(&mut self, backend: Backend, reach: Reach) {
        let lasting = |outage: &&mut Outage| outage.to.is_none() && (outage.backend, outage.reach) == (backend, reach);
        if let Some(outage) = self.outages.iter_mut().find(lasting) {
            outage.to = Some(Instant::now());
        }
    }

    fn pool((part, via, backend): Member) -> String {
        backend.provider.pool(part, via)
    }

    /// The member's name on the command line.
    fn name(member: Member) -> String {
        format!("{}/{}", Self::pool(member), member.2)
    }

    fn names(members: &[Member]) -> String {
        members.iter().map(|member| Self::name(*member)).collect::<Vec<_>>().join(", ")
    }

    fn services() -> Vec<Service> {
        Service::of(Protocol::Tcp).collect()
    }
}
