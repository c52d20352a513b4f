//! A candidate that was compared with the configuration in force and accepted. It can be rehearsed once.

use serde::Serialize;

use super::{
    Candidate, ChangeError, Diff, Findings, History, Look, Moves, RehearsalError, Rehearser, Vetted, cut, diff::limits,
    fitness::loses, history::Left, moves::moves, watch::takes,
};
use crate::{
    bpf::{PinnedMaps, Staged},
    config::Config,
    control::{
        chain,
        events::{EventKind, Events},
        inventory::{Inventory, Member},
    },
    net,
    plan::{self, Capacity, Image, RetiredRecord, Word},
    preflight::Finding,
};

/// Remains valid until something that it depends on changes.
pub(crate) struct Planned {
    candidate: Candidate,
    image: Image,
    diff: Diff,
    left: Left,
    /// Set if no configuration is in force.
    cold: bool,
}

/// The effects of a change, for `plan`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Plan {
    /// The generation in force; absent if there is none.
    pub(crate) generation: Option<u64>,
    #[serde(flatten)]
    pub(crate) diff: Diff,
    #[serde(flatten)]
    pub(crate) findings: Findings,
    /// Options that `apply` needs; absent if it needs none.
    pub(crate) needs: Option<String>,
    pub(crate) flows: Vec<Moves>,
    /// Bytes of the maps: of the pinned ones, and of those that a cold start would make.
    pub(crate) memory: Memory,
    /// Keys of `[limits]` that take effect only when the daemon restarts.
    pub(crate) limits_later: Vec<String>,
    /// Why the change needs new maps; absent if the pinned ones suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) new_maps: Option<String>,
    /// Parts of `config` that do not go with this host, and that the configuration in force does not have.
    pub(crate) host: Vec<Finding>,
    /// Why this host could not be examined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) host_unknown: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) pinned: Option<u64>,
    pub(crate) anew: u64,
}

/// The configuration in force and its maps, for comparison.
#[derive(Clone, Copy)]
pub(super) struct InForce<'a> {
    pub(super) maps: &'a PinnedMaps,
    pub(super) inventory: &'a Inventory,
}

impl InForce<'_> {
    /// What the configuration leaves to its successor.
    fn left(&self) -> Left {
        let out = self.inventory.members().filter(|member| !takes(self.maps.state(member.number)));
        let unavailable = out.map(|member| member.name()).collect();
        Left { unavailable, weights: self.inventory.config.weights.clone() }
    }

    /// Everything that a change to `config` removes or moves.
    fn findings(&self, config: &Config) -> Findings {
        let taken_out = |member: &Member<'_>| plan::word(self.maps.state(member.number)) != Word::default();
        let members = self.inventory.members().filter(taken_out);
        let decided: Vec<_> = members.map(|member| (member.configured_name(), member.backend.address)).collect();
        Findings::of(&self.inventory.config, config, &decided)
    }
}

impl Planned {
    /// Compares `candidate` with this host and with the configuration in force, and accepts it or not.
    ///
    /// # Errors
    /// When it certainly loses traffic on this host, or removes more than was allowed: both together, so that an operator
    /// sees all of it at once; and when it does not fit into the maps.
    pub(crate) fn new(
        maps: &PinnedMaps,
        in_force: Option<&Inventory>,
        candidate: Candidate,
    ) -> Result<Self, ChangeError> {
        let mut left = Left::default();
        if let Some(inventory) = in_force {
            let findings = InForce { maps, inventory }.findings(&candidate.config);
            match (candidate.fits(), findings.judge(candidate.how, &candidate.words)) {
                (Ok(()), Ok(())) => {}
                (Err(unfit), Ok(())) => return Err(unfit.into()),
                (Ok(()), Err(guard)) => return Err(guard.into()),
                (Err(unfit), Err(guard)) => return Err(ChangeError::UnfitAndGuard { unfit, guard }),
            }
            left = InForce { maps, inventory }.left();
        }
        let image = maps.with_previous(|previous| plan::plan(&candidate.config, maps.capacity(), previous))??;
        let diff = Diff::of(in_force.map(|inventory| &inventory.config), &candidate.config);
        Ok(Self { candidate, image, diff, left, cold: in_force.is_none() })
    }

    /// Makes the candidate, planned for the new maps `large`, the successor of the configuration in force in the maps
    /// `small`. The backends `leaving` are retired in the new maps.
    ///
    /// # Errors
    /// When the new maps have no room for the backends that leave.
    pub(crate) fn beside(
        mut self,
        large: &PinnedMaps,
        small: &PinnedMaps,
        in_force: &Inventory,
        leaving: &[RetiredRecord],
    ) -> Result<Self, ChangeError> {
        self.image.retire(leaving, large.capacity())?;
        let diff = Diff::of(Some(&in_force.config), &self.candidate.config);
        let left = InForce { maps: small, inventory: in_force }.left();
        Ok(Self { diff, left, cold: false, ..self })
    }

    /// Numbers the candidate after all generations of `history`, for maps in which nothing is published.
    ///
    /// # Errors
    /// When the image cannot be written with that number.
    pub(crate) fn after(mut self, maps: &PinnedMaps, history: &History) -> Result<Self, ChangeError> {
        let last = history.entries.iter().map(|entry| entry.generation).max();
        self.image.renumber(last.unwrap_or(0) + 1, maps.capacity())?;
        Ok(self)
    }

    /// Stages the candidate and has it rehearsed. A new configuration fails closed, and service fails open: a way back
    /// is accepted whatever the rehearsal's result, and a cold start if a rehearsal is impossible.
    ///
    /// # Errors
    /// When anything has changed since the candidate was planned, or the rehearsal failed. No packet is affected then.
    pub(crate) fn vet(
        self,
        maps: &mut PinnedMaps,
        rehearser: &mut Rehearser,
        events: &Events,
    ) -> Result<Vetted, ChangeError> {
        let rehearse =
            |maps: &PinnedMaps, config: &_, image: &_, staged| rehearser.rehearse(maps, config, image, staged);
        self.vet_by(maps, events, rehearse)
    }

    /// Vets the candidate like [`vet`](Self::vet), with `rehearse` as the rehearsal.
    pub(super) fn vet_by(
        self,
        maps: &mut PinnedMaps,
        events: &Events,
        rehearse: impl FnOnce(&PinnedMaps, &Config, &Image, Staged) -> Result<(), RehearsalError>,
    ) -> Result<Vetted, ChangeError> {
        let Self { candidate, image, diff, left, cold } = self;
        let vips = candidate.config.vips().collect();
        match net::own(&vips) {
            Ok(own) => maps.set_host_vips(&own),
            // The known addresses stay in force, and the watch repeats the query.
            Err(error) => events.report(EventKind::LocalFault, "addresses", chain(&error)),
        }
        let staged = maps.stage(&image)?;
        let doubt = match rehearse(maps, &candidate.config, &image, staged) {
            Ok(()) => None,
            Err(error) if candidate.words.allow_unrehearsed => Some(error),
            // It served before, and may be the only way out of an outage.
            Err(error) if candidate.how.is_back() => Some(error),
            Err(error @ RehearsalError::Impossible(_)) if cold => Some(error),
            Err(error) => {
                // Undoes the writes of the staging outside the bank.
                maps.repair()?;
                return Err(error.into());
            }
        };
        Ok(Vetted { candidate, image, staged, diff, left, doubt })
    }

    /// Accepts the candidate without a rehearsal.
    #[cfg(test)]
    pub(crate) fn unrehearsed(self, maps: &mut PinnedMaps) -> Vetted {
        let Self { candidate, image, diff, left, cold: _ } = self;
        let staged = maps.stage(&image).expect("there is no other writer");
        Vetted { candidate, image, staged, diff, left, doubt: None }
    }
}

impl Plan {
    /// The effects of `config` in these maps.
    ///
    /// # Errors
    /// When `config` does not fit.
    pub(crate) fn of(maps: &PinnedMaps, inventory: &Inventory, config: &Config) -> Result<Self, ChangeError> {
        Self::exactly(maps, inventory, &config.clone().weighted(&inventory.config.weights))
    }

    /// As [`of`](Self::of), for a configuration that already has the weights set by operators.
    pub(super) fn exactly(maps: &PinnedMaps, inventory: &Inventory, config: &Config) -> Result<Self, ChangeError> {
        let old = &inventory.config;
        let findings = InForce { maps, inventory }.findings(config);
        let needs = findings.needs();
        let (fits, leaving) = maps.with_previous(|previous| {
            let leaving = plan::leaving(previous, config, &Capacity::of(config));
            (plan::plan(config, maps.capacity(), previous), leaving)
        })?;
        let image = match fits {
            Ok(image) => image,
            // A daemon makes new maps for it, in which flows stay where they are.
            Err(why) if leaving.cut.is_empty() => {
                let memory = Memory { pinned: Some(maps.capacity().memory()), anew: Capacity::of(config).memory() };
                let (generation, diff) = (Some(inventory.generation), Diff::of(Some(old), config));
                let new_maps = Some(why.to_string());
                return Ok(Self { generation, diff, findings, needs, memory, new_maps, ..Self::cold(config)? });
            }
            Err(why) => return Err(cut::refusal(&leaving.cut, old, &why)),
        };
        let snapshot = maps.snapshot()?.unwrap_or_else(|| image.snapshot.clone());
        let flows = maps.preview(&image).map(|mut preview| moves(old, config, &snapshot, &image, &mut preview));
        let anew = Capacity::of(config);
        let pinned = maps.capacity().sizes();
        let wanted = limits(config);
        let later = wanted.iter().filter_map(|(key, wanted)| {
            let (_, size) = pinned.iter().find(|(known, _)| known == key)?;
            (size != wanted && limits(old).iter().any(|(known, was)| known == key && was != wanted))
                .then(|| format!("limits.{key}: {wanted}, and the maps have {size}"))
        });
        Ok(Self {
            generation: Some(inventory.generation),
            diff: Diff::of(Some(old), config),
            findings,
            needs,
            flows: flows.unwrap_or_default(),
            memory: Memory { pinned: Some(maps.capacity().memory()), anew: anew.memory() },
            limits_later: later.collect(),
            new_maps: None,
            host: Vec::new(),
            host_unknown: None,
        })
    }

    /// Adds what was found out about this host. A cold start is not refused for it.
    pub(crate) fn on_host(mut self, brought: Look) -> Self {
        match brought {
            Ok(host) => self.host = host,
            Err(why) => self.host_unknown = Some(format!("this host cannot be examined: {why}")),
        }
        let is_refused = self.host_unknown.is_some() || loses(&self.host);
        if is_refused && self.generation.is_some() {
            let needs = self.needs.into_iter().chain(["--allow-unfit".to_owned()]);
            self.needs = Some(needs.collect::<Vec<_>>().join(" "));
        }
        self
    }

    /// The effects of `config` on a host where nothing is pinned.
    ///
    /// # Errors
    /// When `config` does not fit.
    pub(crate) fn cold(config: &Config) -> Result<Self, ChangeError> {
        let anew = Capacity::of(config);
        plan::plan(config, &anew, None)?;
        Ok(Self {
            generation: None,
            diff: Diff::of(None, config),
            findings: Findings::default(),
            needs: None,
            flows: Vec::new(),
            memory: Memory { pinned: None, anew: anew.memory() },
            limits_later: Vec::new(),
            new_maps: None,
            host: Vec::new(),
            host_unknown: None,
        })
    }
}
