//! Start of the daemon: from the configuration file to published maps.

use std::{
    panic::resume_unwind,
    path::{Path, PathBuf},
};

use edge_common::abi::{Failover, MAX_STATIONS, State};

use super::{
    descriptors,
    growth::{grow, new_maps},
    keeper, program, reading,
};
use crate::{
    bpf::{Before, BpfError, Carried, PinDir, PinnedMaps, boot_ms},
    config::{Config, ConfigError},
    control::{
        chain,
        change::{self, Candidate, ChangeError, Changed, History, Planned, Rehearser},
        data_plane::DataPlane as _,
        events::{EventKind, Events},
        inventory::Inventory,
        kept::{BackendWord, Choice, Decision, FailoverWord, ForcedWord, Kept, choose},
        status::Clock,
    },
    health::Health,
    net::{self, Devices, Receiver},
    plan::{self, Snapshot, Word},
    xdp::{self, EdgeProgram, XdpError},
};

/// State of the pinned maps after a start, and the configuration that came into force.
pub(crate) struct Start {
    pub(crate) maps: PinnedMaps,
    pub(crate) inventory: Inventory,
    pub(crate) history: History,
    /// Nothing was pinned before.
    pub(crate) fresh: bool,
    /// The program, if it was loaded during the start.
    pub(crate) loaded: Option<Result<EdgeProgram, XdpError>>,
    pub(crate) rehearser: Rehearser,
    /// Earlier maps that the attached program uses until its successor is attached.
    pub(crate) before: Option<Before>,
    /// Why the file is not in force.
    pub(crate) refused: Option<String>,
    /// The state directory has a state that could not be read.
    pub(crate) is_unread: bool,
}

/// Directories of the state that is kept.
#[derive(Clone, Debug)]
pub(crate) struct States {
    /// Survives a reboot.
    pub(crate) disk: PathBuf,
    /// A copy below the run directory, in memory.
    pub(crate) copy: PathBuf,
}

/// Brings the file into force, in the pinned maps or else in new ones.
///
/// With a bad file the last published configuration stays in force. `states` holds the operators' decisions from before
/// a reboot; it is read if nothing is pinned.
pub(crate) fn start(pins: &PinDir, path: &Path, states: &States, events: &Events) -> Result<Start, ChangeError> {
    let file = reading::read_at_start(path);
    match usable(pins) {
        Ok(Some((maps, snapshot))) => warm(maps, &snapshot, file, path, events),
        Ok(None) => cold(pins, file, path, states, events),
        // The attached program continues with these maps until its successor is attached.
        Err(error) if error.is_damage() => {
            let message =
                format!("the pinned maps cannot be used any longer, and new ones are made: {}", chain(&error));
            events.report(EventKind::LocalFault, "maps", message);
            cold(pins, file, path, states, events)
        }
        Err(error) => Err(error),
    }
}

/// The usable pinned maps, and the configuration published in them: the pinned ones, or, if their replacements were
/// never filled completely, the outgrown ones.
pub(super) fn usable(pins: &PinDir) -> Result<Option<(PinnedMaps, Snapshot)>, ChangeError> {
    pins.take_back()?;
    if pins.are_filling()? {
        return Ok(None);
    }
    let Some(maps) = PinnedMaps::open(pins)? else { return Ok(None) };
    let Some(snapshot) = maps.snapshot()? else { return Ok(None) };
    Inventory::from_snapshot(&snapshot)?;
    Ok(Some((maps, snapshot)))
}

/// Start with new maps: uses the file, or the configuration kept from before the reboot, and operators' decisions.
fn cold(
    pins: &PinDir,
    file: Result<Candidate, ConfigError>,
    path: &Path,
    states: &States,
    events: &Events,
) -> Result<Start, ChangeError> {
    pins.forget_outgrown()?;
    let copy = keeper::read_copy(&states.copy);
    let read = keeper::read_at_start(&states.disk);
    if let Err(error) = &read {
        let rest = match copy {
            Some(_) => "the copy in the run directory is in force",
            None => "operators' decisions in it are not in force: repeat them",
        };
        let message = format!("the kept state cannot be read, and is set aside in `unread`: {}; {rest}", chain(error));
        events.report(EventKind::LocalFault, &states.disk.display().to_string(), message);
    }
    let is_unread = read.is_err();
    let mut kept = keeper::newer(copy, read.unwrap_or_default());
    if let Some(kept) = &mut kept {
        kept.restart(boot_ms());
    }
    let mut rehearser = Rehearser::default();
    let mut file = file.map_err(ChangeError::from);
    let (mut maps, loaded, vetted, mut history, text_of, refused) = loop {
        let Choice { mut candidate, history, refused } = choose(file, kept.as_ref())?;
        let text_of = candidate.text_of;
        if let Some(kept) = &kept {
            candidate.config = candidate.config.weighted(&kept.weights);
        }
        // Replaces the maps of a start that was killed, or maps that are unusable.
        let mut maps = new_maps(pins, &candidate.config)?;
        // Two processors verify two programs in the time of one.
        let loading = descriptors::are_plenty().then(|| program::begin(pins));
        let planned = Planned::new(&maps, None, candidate)?.after(&maps, &history)?;
        let vetted = planned.vet(&mut maps, &mut rehearser, events);
        // The thread is joined since it pins the program that it loads.
        let loaded = loading.map(|loading| loading.join().unwrap_or_else(|panic| resume_unwind(panic)));
        match vetted {
            Ok(vetted) => break (maps, loaded, vetted, history, text_of, refused),
            // The file failed its rehearsal: the kept configuration may pass.
            Err(error @ ChangeError::Rehearsal(_)) if text_of.is_none() => file = Err(error),
            Err(error) => return Err(error),
        }
    };
    let (inventory, _) = vetted.publish(&mut maps, &mut history, Clock::now(), events)?;
    finish(&mut maps, &inventory, kept.as_ref(), events)?;
    let refused = refused.map(|error| {
        let from = text_of.unwrap_or_default();
        format!("generation {from} from before the reboot is in force in place of the file: {}", chain(&error))
    });
    if let Some(why) = &refused {
        events.report(EventKind::ConfigRefused, &path.display().to_string(), why.clone());
    }
    Ok(Start { maps, inventory, history, fresh: true, loaded, rehearser, before: None, refused, is_unread })
}

/// Applies operators' decisions to the published configuration. The maps are usable from here on.
fn finish(maps: &mut PinnedMaps, inventory: &Inventory, kept: Option<&Kept>, events: &Events) -> Result<(), BpfError> {
    if let Some(kept) = kept {
        restore_decisions(kept, inventory, maps, events)?;
    }
    maps.pins().end_filling()
}

/// Applies operators' decisions from before the reboot, as far as they still refer to something configured.
fn restore_decisions(
    kept: &Kept,
    inventory: &Inventory,
    maps: &mut PinnedMaps,
    events: &Events,
) -> Result<(), BpfError> {
    for BackendWord { name, decision, reason } in &kept.backends {
        let Ok(named) = inventory.backend(name) else {
            let message = format!("{reason} before the reboot; the configuration no longer has it");
            events.report(EventKind::LocalFault, name, message);
            continue;
        };
        let admin = decision.admin();
        for number in named.numbers {
            maps.change_state(number, |before| plan::changed(before, admin, plan::health(before)), reason)?;
        }
        let kind = match decision {
            Decision::Drained => EventKind::BackendDrained,
            Decision::Disabled => EventKind::BackendDisabled,
        };
        events.report(kind, name, format!("{reason}; as before the reboot"));
    }
    for word @ ForcedWord { name, reason, .. } in &kept.forced {
        let Ok(named) = inventory.backend(name) else {
            let message = format!("{reason} before the reboot; the configuration no longer has it");
            events.report(EventKind::LocalFault, name, message);
            continue;
        };
        for number in named.numbers {
            let forced = |before| Word { forced: Some(word.health()), ..plan::word(before) };
            // A drain keeps its own reason.
            let reason = Some(maps.why(number).reason).filter(|reason| !reason.is_empty()).unwrap_or(reason.clone());
            maps.change_state(number, |before| plan::with_word(before, forced(before), Health::Unknown), &reason)?;
        }
        events.report(EventKind::HealthForced, name, format!("{reason}; as before the reboot"));
    }
    for FailoverWord { service, to, evacuate } in &kept.failovers {
        let services = inventory.service(service).unwrap_or_default();
        let position = services.first().map(|(service, _)| inventory.position(service, to));
        let Some(Ok(position)) = position else {
            let message =
                format!("it was failed over to {to} before the reboot; the configuration no longer has that pool");
            events.report(EventKind::LocalFault, service, message);
            continue;
        };
        let first = u8::try_from(position).unwrap_or(u8::MAX);
        for (_, number) in services {
            maps.set_failover(number, Failover { first, evacuate: *evacuate })?;
        }
        events.report(EventKind::Failover, service, format!("failed over to {to}, as before the reboot"));
    }
    Ok(())
}

/// Start with the pinned maps.
fn warm(
    mut maps: PinnedMaps,
    snapshot: &Snapshot,
    file: Result<Candidate, ConfigError>,
    path: &Path,
    events: &Events,
) -> Result<Start, ChangeError> {
    maps.repair()?;
    report_adoption(&maps, snapshot, events);
    let mut inventory = Inventory::from_snapshot(snapshot)?;
    let mut history = change::recall(&maps, &inventory, Clock::now());
    let mut rehearser = Rehearser::default();
    let wanted = file.as_ref().ok().cloned();
    let changed = match file {
        Ok(candidate) => match history.replaced(&candidate.config.text, inventory.generation) {
            Some(why) => Err(ChangeError::Replaced { why }),
            None => change::change(&mut maps, &inventory, &mut history, candidate, &mut rehearser, events),
        },
        Err(error) => Err(error.into()),
    };
    let changed = match changed {
        Ok(Changed { inventory: now, .. }) => {
            inventory = now.unwrap_or(inventory);
            Ok(())
        }
        Err(error) => Err(error),
    };
    let why = match &changed {
        Err(ChangeError::Plan(why)) => Some(why.to_string()),
        Ok(()) if maps.capacity().is_other_than_named(&inventory.config) => Some("[limits] has other sizes".to_owned()),
        _ => None,
    };
    let mut before = left_behind(&maps, events);
    let changed = match (why, wanted) {
        (Some(why), Some(wanted)) => {
            events.report(EventKind::Adopted, "maps", format!("others are made beside them: {why}"));
            if let Some(before) = before.take() {
                before.carry_newer_flows(&maps)?;
            }
            grow(&maps, wanted, &mut history, &mut rehearser, events).map(|(other, grown)| {
                inventory = grown;
                before = carry(std::mem::replace(&mut maps, other), &mut maps, events);
            })
        }
        _ => changed,
    };
    let refused = match changed {
        Ok(()) => None,
        Err(error) => {
            events.report(EventKind::ConfigRefused, &path.display().to_string(), chain(&error));
            Some(chain(&error))
        }
    };
    Ok(Start { maps, inventory, history, fresh: false, loaded: None, rehearser, before, refused, is_unread: false })
}

/// Earlier maps that a program still records flows in: the process that replaced them was killed before it had attached
/// its own program.
fn left_behind(maps: &PinnedMaps, events: &Events) -> Option<Before> {
    let outgrown = PinnedMaps::open(&maps.pins().outgrown());
    let before = outgrown.and_then(|outgrown| outgrown.map(|outgrown| Before::new(outgrown, maps)).transpose());
    before.unwrap_or_else(|error| {
        not_carried(maps, &error, events);
        None
    })
}

/// Carries over the flows of the earlier maps. Failures are reported, and the new maps are used all the same.
pub(super) fn carry(from: PinnedMaps, to: &mut PinnedMaps, events: &Events) -> Option<Before> {
    let carried = Before::new(from, to).and_then(|before| Ok((before.carry(to)?, before)));
    let carried = to.pins().end_filling().and(carried);
    match carried {
        Ok((Carried { flows, lost }, before)) => {
            let ends = if lost == 0 { String::new() } else { format!(", {lost} translated ones end") };
            let message = format!("{flows} recorded flows were carried over{ends}; counters begin anew");
            events.report(EventKind::Adopted, "new maps", message);
            Some(before)
        }
        Err(error) => {
            not_carried(to, &error, events);
            None
        }
    }
}

fn not_carried(to: &PinnedMaps, error: &BpfError, events: &Events) {
    events.report(EventKind::LocalFault, "new maps", format!("not all was carried over: {}", chain(error)));
    if to.pins().are_filling().is_ok_and(|filling| !filling) {
        // Otherwise the next start continues with the outgrown maps.
        let _stays_for_the_next = to.pins().forget_outgrown();
    }
}

/// Publishes the configuration in force once more, into the undamaged bank.
pub(crate) fn publish_anew(
    maps: &mut PinnedMaps,
    in_force: &Inventory,
    history: &mut History,
    events: &Events,
) -> Result<Inventory, ChangeError> {
    let image = maps.with_previous(|previous| plan::plan(&in_force.config, maps.capacity(), previous))??;
    let inventory = Inventory::new(in_force.config.clone(), &image.snapshot)?;
    let staged = maps.stage(&image)?;
    let before = history.clone();
    history.renumber(in_force.generation, inventory.generation);
    change::activate(maps, history, before, &image, staged, events)?;
    Ok(inventory)
}

/// Stores what packets need of the host's devices: the MAC addresses at which the host takes frames, of configured
/// interfaces and of interfaces that the program is still attached to, and the MTUs of the links by which translated
/// answers leave.
pub(crate) fn set_devices(maps: &mut PinnedMaps, devices: &Devices, config: &Config, events: &Events) {
    let left = xdp::attached_besides(maps.pins(), |name| config.names_interface(name)).unwrap_or_else(|error| {
        events.report(EventKind::LocalFault, "network devices", chain(&error));
        Vec::new()
    });
    let configured = config.interfaces.iter().map(Receiver::of);
    let receivers = configured.chain(left.iter().map(|name| Receiver { name, virtual_macs: &[] }));
    maps.set_hop_mtus(|index| Some(devices.get(&index)?.mtu));
    let left_out = maps.set_stations(&net::stations(devices, receivers));
    if left_out > 0 {
        let message = format!(
            "{left_out} MAC addresses of devices on the interfaces, or of bonds at their ports, are left out: there is room \
             for {MAX_STATIONS}, and frames to those are not taken"
        );
        events.report(EventKind::LocalFault, "network devices", message);
    }
}

fn report_adoption(maps: &PinnedMaps, snapshot: &Snapshot, events: &Events) {
    let states: Vec<_> = snapshot.backends().map(|(_, backend)| maps.state(backend.number)).collect();
    let with = |bits| states.iter().filter(|state| state.has_all(bits)).count();
    let failovers = snapshot.services.iter().filter(|service| maps.failover(service.number).first > 0).count();
    let attached = xdp::attached(maps.pins());
    events.report(
        EventKind::Adopted,
        &format!("generation {}", snapshot.generation),
        format!(
            "found {} backends: {} down, {} drained, {} disabled; {failovers} services failed over; attached to {}",
            states.len(),
            with(State::DOWN),
            with(State::DRAINED),
            with(State::DISABLED),
            match attached {
                Ok(interfaces) if interfaces.is_empty() => "nothing".to_owned(),
                Ok(interfaces) => interfaces.join(", "),
                Err(error) => format!("interfaces that could not be looked up ({})", chain(&error)),
            }
        ),
    );
}

#[cfg(test)]
mod tests;
