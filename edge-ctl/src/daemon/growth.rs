//! A file that is too large for the pinned maps: larger ones are made beside them. The program that is attached goes on with the
//! smaller ones, without their pins, until its successor takes its place.

use crate::{
    bpf::{PinDir, PinnedMaps},
    config::Config,
    control::{
        change::{Candidate, ChangeError, History, Planned, Rehearser, Vetted},
        events::Events,
        inventory::Inventory,
        status::Clock,
    },
    plan::Capacity,
    xdp,
};

/// Makes maps for `wanted` in the place of `small`, and publishes it there. They are filled when the caller says so: until then
/// whoever starts goes on with the small ones, which stay pinned beside them.
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

/// The same, vetted by `vet`.
fn grown(
    small: &PinnedMaps,
    mut wanted: Candidate,
    history: &mut History,
    events: &Events,
    vet: impl FnOnce(Planned, &mut PinnedMaps) -> Result<Vetted, ChangeError>,
) -> Result<(PinnedMaps, Inventory), ChangeError> {
    let (pins, known) = (small.pins(), history.clone());
    if let Some(before) = small.snapshot()? {
        wanted.config = wanted.config.weighted(&before.weights);
    }
    let made = || -> Result<_, ChangeError> {
        pins.set_aside()?;
        let mut large = new_maps(pins, &wanted.config)?;
        let planned = Planned::new(&large, None, wanted)?.beside().after(history)?;
        let vetted = vet(planned, &mut large)?;
        let (inventory, _) = vetted.publish(&mut large, history, None, Clock::now(), events)?;
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

/// Makes maps in the place of those that are pinned. A program that is attached keeps its own.
///
/// Until [`PinDir::end_filling`] the next start begins anew: what is staged there looks as if it was published, since there was
/// nothing before it, and what operators have said is not there yet.
pub(super) fn new_maps(pins: &PinDir, config: &Config) -> Result<PinnedMaps, ChangeError> {
    xdp::make_room(pins)?;
    pins.begin_filling()?;
    Ok(PinnedMaps::create(pins, &Capacity::of(config))?)
}

#[cfg(test)]
mod tests;
