//! What changes within a generation: states, next hops, failovers, each with one store that the next packet sees.

use std::{borrow::Cow, mem::offset_of, sync::atomic::Ordering, time::Duration};

use nix::time::{ClockId, clock_gettime};

use edge_common::abi::{Backend, BackendNumber, Failover, Mac, Note, Service, State};

use super::{Kernel, KernelError, maps::position};
use crate::net::NextHopEntry;

impl Kernel {
    /// State of a backend; empty for a number that is nobody's.
    pub(crate) fn state(&self, number: BackendNumber) -> State {
        State(
            self.maps
                .backends
                .word(number.into(), offset_of!(Backend, state))
                .map_or(0, |state| state.load(Ordering::Acquire)),
        )
    }

    /// Changes a backend's state, then its pool's member list and counts, then the notes that say why.
    ///
    /// In this order, since the state is what packets wait for. Two things come before it: services whose flows it may send
    /// elsewhere are not settled any more, and counts that get smaller.
    pub(crate) fn set_state(&mut self, number: BackendNumber, state: State, reason: &str) -> Result<(), KernelError> {
        let index = u32::from(number);
        let missing = KernelError::NoSuchBackend(number);
        let backend = self.maps.backends.read(index).filter(|_| number != 0).ok_or(missing)?;
        let unsettled = if decides(State(backend.state)) == decides(state) {
            Vec::new()
        } else {
            self.unsettle(&self.services_of(backend.pool))
        };
        // A pool must not count on a backend that is gone: whoever dies in between leaves a pool that says it has one, and
        // new flows that find nobody.
        let lost = backend.state & !state.0 & (State::NEW | State::ENABLED);
        if lost != 0 {
            // What keeps it from that is told by the count after the store, which it must not hold up.
            let _told_below = self.count_ahead(backend.pool, number, state);
        }
        self.store_state(number, state);
        self.recount(backend.pool)?;
        self.write_note(number, reason);
        if !unsettled.is_empty() {
            let why = self.known()?.name_of(number).map_or(reason.to_owned(), |name| format!("{name}: {reason}"));
            self.note_transitions(&unsettled, &why);
        }
        Ok(())
    }

    pub(super) fn store_state(&self, number: BackendNumber, state: State) {
        if let Some(word) = self.maps.backends.word(number.into(), offset_of!(Backend, state)) {
            word.store(state.0, Ordering::Release);
        }
    }

    /// Why a backend's state is what it is, and since when.
    pub(crate) fn note(&self, number: BackendNumber) -> Note {
        self.maps.notes.read(number.into()).unwrap_or(note(0, ""))
    }

    pub(super) fn write_note(&self, number: BackendNumber, text: &str) {
        let now = u64::try_from(boot_time().as_millis()).unwrap_or(u64::MAX);
        // A note is for people: where there is no room for one there is nothing to be said.
        let _past_the_end = self.maps.notes.write(number.into(), note(now, text));
    }

    /// Failover of a service; none for a number that is nobody's.
    pub(crate) fn failover(&self, service: u32) -> Failover {
        self.failover_word(service).map_or(Failover::default(), |word| Failover::from_raw(word.load(Ordering::Acquire)))
    }

    /// Changes a service's failover.
    pub(crate) fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), KernelError> {
        self.failover_word(service).ok_or(KernelError::NoSuchService(service))?;
        let unsettled = self.unsettle(&[service]);
        if let Some(word) = self.failover_word(service) {
            word.store(failover.to_raw(), Ordering::Release);
        }
        if !unsettled.is_empty() {
            let pool = self.known()?.pool_of(service, failover.first.into()).map(|pool| pool.name.clone());
            let why = match (failover.first, pool) {
                (0, _) | (_, None) => "failback".to_owned(),
                (_, Some(pool)) => format!("failover to {pool}"),
            };
            self.note_transitions(&unsettled, &why);
        }
        Ok(())
    }

    fn failover_word(&self, service: u32) -> Option<&std::sync::atomic::AtomicU32> {
        self.maps.services.word(position(self.maps.half(), service)?, offset_of!(Service, failover))
    }

    /// MAC address that a backend's frames go to, where the packet path was told it.
    pub(crate) fn next_hop(&self, number: BackendNumber) -> Option<[u8; 6]> {
        let word = self.maps.backends.double(number.into(), offset_of!(Backend, next_hop))?;
        Some(Mac(word.load(Ordering::Acquire))).filter(|mac| mac.is_known()).map(Mac::octets)
    }

    /// Tells the packet path how to reach a backend; with `None` it asks the kernel's tables itself.
    ///
    /// Where more than the neighbour's address changes, the next hop is unknown for the moment in which the rest is
    /// written.
    pub(crate) fn set_next_hop(
        &mut self,
        number: BackendNumber,
        entry: Option<NextHopEntry>,
    ) -> Result<(), KernelError> {
        let index = u32::from(number);
        let missing = KernelError::NoSuchBackend(number);
        let (Some(next_hop), Some(old)) = (
            self.maps.backends.double(index, offset_of!(Backend, next_hop)).filter(|_| number != 0),
            self.maps.backends.read(index),
        ) else {
            return Err(missing);
        };
        let Some(entry) = entry else {
            next_hop.store(0, Ordering::Release);
            return Ok(());
        };
        let new = Backend {
            egress: entry.egress,
            source_mac: Mac::new(entry.source_mac),
            mtu: entry.mtu,
            vlan: entry.vlan,
            ..old
        };
        if new != old {
            next_hop.store(0, Ordering::Release);
            self.write_egress(index, &new);
        }
        next_hop.store(Mac::new(entry.mac).0, Ordering::Release);
        Ok(())
    }

    /// Forgets what packets have learnt of the MTU of each backend's path: it may be larger by now, which nothing tells.
    pub(crate) fn forget_path_mtus(&self) {
        for index in 0..self.maps.backends.len() {
            if let Some(learnt) = self.maps.backends.half(index, offset_of!(Backend, path_mtu)) {
                learnt.store(0, Ordering::Release);
            }
        }
    }

    /// Writes the fields around `next_hop`, each for itself: a write of the whole value could undo a state's change.
    fn write_egress(&self, index: u32, new: &Backend) {
        let halves = [(offset_of!(Backend, mtu), new.mtu), (offset_of!(Backend, vlan), new.vlan)];
        if let Some(source) = self.maps.backends.double(index, offset_of!(Backend, source_mac)) {
            source.store(new.source_mac.0, Ordering::Release);
        }
        if let Some(egress) = self.maps.backends.word(index, offset_of!(Backend, egress)) {
            egress.store(new.egress, Ordering::Release);
        }
        for (offset, value) in halves {
            if let Some(half) = self.maps.backends.half(index, offset) {
                half.store(value, Ordering::Release);
            }
        }
    }
}

/// What of a state says where packets go.
const fn decides(state: State) -> u32 {
    state.0 & (State::NEW | State::ALIVE | State::ENABLED)
}

/// A note of `text`, cut off where there is no more room.
pub(super) fn note(changed_ms: u64, text: &str) -> Note {
    let mut note = Note { changed_ms, reason: [0; 120] };
    let length = text.floor_char_boundary(note.reason.len());
    note.reason[..length].copy_from_slice(&text.as_bytes()[..length]);
    note
}

/// The text of a note.
pub(crate) fn text_of(note: &Note) -> Cow<'_, str> {
    let end = note.reason.iter().position(|byte| *byte == 0).unwrap_or(note.reason.len());
    String::from_utf8_lossy(&note.reason[..end])
}

/// `CLOCK_MONOTONIC`, the clock of flow records.
pub(crate) fn monotonic_time() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// Time since the host started, its sleep included: the clock of [`Note::changed_ms`].
pub(crate) fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
