//! Records which slots packets take over, and when: the only way in which a flow of a live backend moves.
//!
//! A full flow table undoes no drain. If a new flow finds no room, and its slot's owner takes no new flows, the flow's
//! backend becomes the owner at once, and the slot's flows without a record move (`docs/config.md`, "When the flow
//! table is full"). No status lists single slots, so a thread polls them continuously. A connection is excused if a
//! packet took its slot from its backend while the connection lasted. Slots that the controller hands over are no
//! excuse.

mod maps;
mod watched;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use edge_common::{
    abi::{ABI_VERSION, HashKey},
    hash::Hash,
};

use self::{maps::Maps, watched::Watched};
use crate::lab::{Lab, flows::Broken, topology::Backend, worker::Worker};

/// Pause between two polls.
const REST: Duration = Duration::from_millis(1);

/// A change of a slot's owner.
#[derive(Clone, Debug)]
pub struct Change {
    pub service: SocketAddr,
    pub slot: u32,
    pub from: Option<Backend>,
    pub to: Option<Backend>,
    /// The change happened between `after` and `before`.
    pub after: Instant,
    pub before: Instant,
    pub by: By,
}

/// The originator of a change of owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A packet that found no room in the flow table.
    Packet,
    /// The controller, once every active flow of the slot is recorded.
    Controller,
}

/// A thread that watches the slots of all TCP services.
#[derive(Debug)]
pub struct Owners {
    changes: Arc<Mutex<Vec<Change>>>,
    places: Places,
    worker: Worker,
}

/// All observed changes.
#[derive(Debug)]
pub struct Seen {
    changes: Vec<Change>,
    places: Places,
}

/// Maps flows to slots.
#[derive(Clone, Debug)]
struct Places {
    key: HashKey,
    /// Number of slots of each service, less one.
    masks: BTreeMap<SocketAddr, u32>,
}

impl Owners {
    /// Starts the thread. The controller hands a slot over once its flows have had `idle_timeout` to be recorded.
    ///
    /// # Errors
    /// If the maps are not pinned, or a service is not published.
    pub fn watch(lab: &Lab, idle_timeout: Duration) -> Result<Self> {
        let mut watched =
            Watched::new(Maps::open(&lab.edge().pins().join(format!("v{ABI_VERSION}/maps")))?, idle_timeout)?;
        let places = Places { key: watched.hash_key(), masks: watched.masks().collect() };
        let (changes, stop) = (Arc::<Mutex<Vec<Change>>>::default(), Arc::<AtomicBool>::default());
        let thread = {
            let (changes, stop) = (Arc::clone(&changes), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let found = watched.look()?;
                    changes.lock().unwrap_or_else(PoisonError::into_inner).extend(found);
                    thread::sleep(REST);
                }
                Ok(())
            })
        };
        Ok(Self { changes, places, worker: Worker::new(stop, thread) })
    }

    /// Stops the thread; returns the changes.
    ///
    /// # Errors
    /// If slots could not be read to the end.
    pub fn stop(mut self) -> Result<Seen> {
        self.worker.stop()?;
        let changes = std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Seen { changes, places: self.places })
    }
}

impl Seen {
    /// Number of changes by this originator.
    pub fn count(&self, by: By) -> usize {
        self.changes.iter().filter(|change| change.by == by).count()
    }

    /// The changes of a connection's slot while the connection lasted.
    pub fn meanwhile(&self, broken: &Broken) -> impl Iterator<Item = &Change> {
        let place = self.places.of(broken.client, broken.service).map(|slot| (broken.service, slot));
        let (began, ended) = (broken.began, broken.at);
        self.changes.iter().filter(move |change| {
            Some((change.service, change.slot)) == place && change.before >= began && change.after <= ended
        })
    }

    /// Whether the connection broke because of a full flow table.
    pub fn explains(&self, broken: &Broken) -> bool {
        self.meanwhile(broken)
            .any(|change| change.by == By::Packet && broken.backend.is_none_or(|backend| change.from == Some(backend)))
    }
}

impl Places {
    fn of(&self, client: SocketAddr, service: SocketAddr) -> Option<u32> {
        let ([a, b], [c, d]) = (client.port().to_be_bytes(), service.port().to_be_bytes());
        let ports = u32::from_le_bytes([a, b, c, d]);
        let hash: Hash = match client.ip() {
            IpAddr::V4(client) => self.key.hash_v4(client.octets(), ports),
            IpAddr::V6(client) => self.key.hash_v6(client.octets(), ports),
        };
        Some(hash.slot(*self.masks.get(&service)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::flows::How;

    #[test]
    fn only_a_packet_that_took_its_own_slot_from_its_own_backend_excuses_a_connection() {
        let zero = Instant::now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let [a1, a2, b1] = ["a1", "a2", "b1"].map(Backend::named);
        let [client, service, other] =
            ["10.0.0.1:1000", "192.0.2.10:80", "192.0.2.20:80"].map(|text| text.parse::<SocketAddr>().unwrap());
        let places = Places { key: HashKey([7; 12]), masks: BTreeMap::from([(service, 4095), (other, 4095)]) };
        let slot = places.of(client, service).unwrap();
        let taken = Change { service, slot, from: a1, to: b1, after: at(20), before: at(21), by: By::Packet };
        let broken = |backend, began, broke| Broken {
            client,
            service,
            backend,
            began: at(began),
            stood: None,
            answers: 0,
            requested: None,
            at: at(broke),
            how: How::Reset,
        };
        let excused = |change: &Change, broken: Broken| {
            Seen { changes: vec![change.clone()], places: places.clone() }.explains(&broken)
        };
        assert!(excused(&taken, broken(a1, 10, 22)));
        assert!(excused(&taken, broken(a1, 21, 22)), "it may have begun before");
        assert!(excused(&taken, broken(None, 10, 22)), "with nobody, so with its slot's owner");
        assert!(!excused(&taken, broken(a2, 10, 22)), "its backend was not the owner");
        assert!(!excused(&taken, broken(a1, 22, 23)), "it began after that");
        assert!(!excused(&taken, broken(a1, 10, 19)), "it broke before that");
        assert!(!excused(&Change { by: By::Controller, ..taken.clone() }, broken(a1, 10, 22)));
        assert!(!excused(&Change { slot: slot ^ 1, ..taken.clone() }, broken(a1, 10, 22)));
        assert!(!excused(&Change { service: other, ..taken }, broken(a1, 10, 22)));
    }
}
