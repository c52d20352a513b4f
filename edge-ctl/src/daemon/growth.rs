//! A file that is too large for the pinned maps: larger ones are made beside them. The program that is attached goes on with the
//! smaller ones, without their pins, until its successor takes its place.

use crate::{
    bpf::PinnedMaps,
    control::{
        change::{Candidate, ChangeError, History, Planned, Rehearser},
        events::Events,
        inventory::Inventory,
        status::Clock,
    },
    plan::Capacity,
    xdp,
};

/// Makes maps for `wanted` in the place of `small`, and publishes it there.
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
    let (pins, known) = (small.pins(), history.clone());
    xdp::make_room(pins)?;
    let made = || -> Result<_, ChangeError> {
        let mut large = PinnedMaps::create(pins, &Capacity::of(&wanted.config))?;
        let planned = Planned::new(&large, None, wanted)?.beside().after(history)?;
        let vetted = planned.vet(&mut large, rehearser, events)?;
        let (inventory, _) = vetted.publish(&mut large, history, None, Clock::now(), events)?;
        Ok((large, inventory))
    };
    let made = made();
    if made.is_err() {
        *history = known;
        xdp::make_room(pins)?;
        small.pin_again()?;
    }
    made
}
