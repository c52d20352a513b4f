//! Slots of all services as last polled, and the originator of each change between polls: packets or the controller.
//!
//! Packets count their takeovers by service, after each takeover, and slots are polled before the counts. If packets
//! counted at least as many takeovers as slots changed between two polls, they made all changes. If they counted fewer,
//! the controller made some: those in slots that had been at rest for a whole idle timeout, since it hands over no
//! others.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use edge_common::abi::{BackendNumber, HashKey, ServiceRef, Slot};

use super::{By, Change, maps::Maps};

/// Tolerance between the controller's and the poller's measurement of times.
const BLUR: Duration = Duration::from_millis(100);

pub(super) struct Watched {
    maps: Maps,
    idle_timeout: Duration,
    generation: u64,
    services: Vec<Service>,
}

struct Service {
    address: SocketAddr,
    reference: ServiceRef,
    slots: Vec<Slot>,
    /// By slot: the last event after which the controller must wait for an idle timeout.
    restless: Vec<Instant>,
    /// Takeovers that packets have counted.
    counted: u64,
    /// The part of `counted` that was added after the slots had been read.
    left: u64,
    looked: Instant,
}

/// A slot with its former and its new owner, and whether the controller may have handed it over.
type Differs = (u32, BackendNumber, BackendNumber, bool);

impl Watched {
    pub(super) fn new(maps: Maps, idle_timeout: Duration) -> Result<Self> {
        let generation = maps.generation().number;
        let services = maps.targets()?.into_iter().map(|(address, reference)| {
            let (slots, looked) = (maps.slots(reference), Instant::now());
            let restless = vec![looked; slots.len()];
            Ok(Service { address, reference, slots, restless, counted: maps.taken_over(reference)?, left: 0, looked })
        });
        let services = services.collect::<Result<_>>()?;
        Ok(Self { maps, idle_timeout, generation, services })
    }

    pub(super) fn hash_key(&self) -> HashKey {
        self.maps.generation().hash_key
    }

    pub(super) fn masks(&self) -> impl Iterator<Item = (SocketAddr, u32)> {
        self.services.iter().map(|service| (service.address, service.reference.slot_mask()))
    }

    /// Polls all services; returns the changes since the last poll.
    pub(super) fn look(&mut self) -> Result<Vec<Change>> {
        let generation = self.maps.generation().number;
        if generation != self.generation {
            for ((address, reference), known) in self.maps.targets()?.into_iter().zip(&self.services) {
                let same =
                    (reference.service(), reference.slots()) == (known.reference.service(), known.reference.slots());
                ensure!(same && address == known.address, "the slots of {address} are elsewhere now");
            }
            self.generation = generation;
        }
        let mut found = Vec::new();
        for service in &mut self.services {
            found.extend(service.look(&self.maps, self.idle_timeout)?);
        }
        Ok(found)
    }
}

impl Service {
    fn look(&mut self, maps: &Maps, idle_timeout: Duration) -> Result<Vec<Change>> {
        let (slots, after, before) = (maps.slots(self.reference), self.looked, Instant::now());
        self.looked = before;
        let differing = self.differing(&slots, before, idle_timeout);
        self.slots = slots;
        if differing.is_empty() {
            return Ok(Vec::new());
        }
        let counted = maps.taken_over(self.reference)?;
        let new = counted.saturating_sub(self.counted);
        let by = attributed(&differing, new + self.left);
        let packets = by.iter().filter(|by| **by == By::Packet).count() as u64;
        self.counted = counted;
        self.left = (new + self.left).saturating_sub(packets).min(new);
        let changes = differing.into_iter().zip(by).map(|((slot, from, to, _), by)| Change {
            service: self.address,
            slot,
            from: maps.machine(from),
            to: maps.machine(to),
            after,
            before,
            by,
        });
        Ok(changes.collect())
    }

    fn differing(&mut self, slots: &[Slot], now: Instant, idle_timeout: Duration) -> Vec<Differs> {
        let mut differing = Vec::new();
        for (number, (old, new)) in (0..).zip(self.slots.iter().zip(slots)) {
            let restless = &mut self.restless[number as usize];
            if old.owner != new.owner {
                differing.push((number, old.owner, new.owner, now.duration_since(*restless) + BLUR >= idle_timeout));
            }
            if old.owner != new.owner || new.look == 0 || new.unrecorded != 0 {
                *restless = now;
            }
        }
        differing
    }
}

/// The originator of each difference, if packets have counted `packets` takeovers.
fn attributed(differing: &[Differs], mut packets: u64) -> Vec<By> {
    let all = packets >= differing.len() as u64;
    let by = differing.iter().map(|(_, _, _, may_be_handed_over)| {
        if packets > 0 && (all || !may_be_handed_over) {
            packets -= 1;
            By::Packet
        } else {
            By::Controller
        }
    });
    by.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_did_what_they_have_counted_and_what_the_controller_does_not_do() {
        let (fresh, ripe) = ((3, 1, 2, false), (4, 1, 2, true));
        assert_eq!(attributed(&[fresh, ripe], 0), [By::Controller, By::Controller]);
        assert_eq!(attributed(&[fresh, ripe], 2), [By::Packet, By::Packet]);
        assert_eq!(attributed(&[ripe, fresh, ripe], 1), [By::Controller, By::Packet, By::Controller]);
        assert_eq!(attributed(&[fresh, fresh], 1), [By::Packet, By::Controller], "no more than they have counted");
    }
}
