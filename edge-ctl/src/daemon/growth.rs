//! Growth: if a file is too large for the pinned maps, larger maps are made beside them. The attached program uses the
//! smaller maps, without their pins, until its successor replaces it.

use crate::{
    bpf::{BpfError, PinDir, PinnedMaps},
    config::Config,
    control::{
        change::{Candidate, ChangeError, History, Planned, Rehearser, Vetted},
        events::Events,
        inventory::Inventory,
        status::Clock,
    },
    plan::{self, Capacity, Leaving},
    xdp,
};

/// Makes maps for `wanted` in place of `small`, and publishes it there. The caller marks the maps as filled: until then
/// a start continues with the small ones, which stay pinned beside them.
///
/// # Errors
/// When there is no room for them, or the rehearsal fails; everything is as before then.
pub(super) fn grow(
    small: &PinnedMaps,
    wanted: Candidate,
    history: &mut History,
    rehearser: &mut Rehearser,
    events: &Events,
) -> Result<(PinnedMaps, Inventory), ChangeError> {
    grown(small, wanted, history, events, |planned, large| planned.vet(large, rehearser, events))
}

/// Grows the maps like [`grow`], with a rehearsal by `vet`.
fn grown(
    small: &PinnedMaps,
    mut wanted: Candidate,
    history: &mut History,
    events: &Events,
    vet: impl FnOnce(Planned, &mut PinnedMaps) -> Result<Vetted, ChangeError>,
) -> Result<(PinnedMaps, Inventory), ChangeError> {
    let (pins, known) = (small.pins(), history.clone());
    let before = small.snapshot()?.ok_or(BpfError::Unpublished)?;
    let in_force = Inventory::from_snapshot(&before)?;
    wanted = wanted.weighted(&before.weights);
    let same = (before.config == wanted.config.text).then_some(before.generation);
    let Leaving { kept, .. } =
        small.with_previous(|previous| plan::leaving(previous, &wanted.config, &Capacity::of(&wanted.config)))?;
    let made = || -> Result<_, ChangeError> {
        pins.set_aside()?;
        let mut large = new_maps(pins, &wanted.config)?;
        let planned = Planned::new(&large, None, wanted)?.beside(&large, small, &in_force, &kept)?;
        let planned = planned.after(&large, history)?;
        let vetted = vet(planned, &mut large)?;
        let inventory = match same {
            // Only the maps are others: a trial goes on, and a good generation stays good.
            Some(before) => vetted.republish(&mut large, history, before, events)?,
            None => vetted.publish(&mut large, history, Clock::now(), events)?.0,
        };
        Ok((large, inventory))
    };
    let made = made();
    if made.is_err() {
        *history = known;
        pins.take_back()?;
        small.pin_again()?;
    }
    made
}

/// Makes maps in place of the pinned ones. An attached program keeps its own.
///
/// Until [`PinDir::end_filling`] the next start begins anew: the staged configuration looks as if it was published,
/// since there is no earlier one, and operators' decisions are missing.
pub(super) fn new_maps(pins: &PinDir, config: &Config) -> Result<PinnedMaps, ChangeError> {
    xdp::make_room(pins)?;
    pins.begin_filling()?;
    Ok(PinnedMaps::create(pins, &Capacity::of(config))?)
}

#[cfg(test)]
mod tests;
