//! Fields that change within a generation: states, next hops and failovers, each changed by one store that the next
//! packet sees.

use std::{
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

use edge_common::abi::{Backend, BackendNumber, Failover, Generation, MAX_STATIONS, Mac, Service, State, Station};

use super::{
    BpfError, PinnedMaps,
    audit::SetHop,
    maps::{Maps, position},
    publish::next_edition,
    sys,
};
use crate::net::NextHopEntry;

impl PinnedMaps {
    /// State of a backend; empty for an unused number.
    pub(crate) fn state(&self, number: BackendNumber) -> State {
        State(
            self.maps
                .backends
                .atomic_u32(number.into(), offset_of!(Backend, state))
                .map_or(0, |state| state.load(Ordering::Acquire)),
        )
    }

    /// Changes a backend's state, then its pool's member list and counts, then the notes with the reason. Returns the
    /// previous state; `change` is called again if another writer changed the state meanwhile.
    ///
    /// The state comes before the rest because packets read it. Two things precede it: the flag of services whose flows
    /// the change may move, and counts that get smaller.
    pub(crate) fn change_state(
        &mut self,
        number: BackendNumber,
        change: impl Fn(State) -> State,
        reason: &str,
    ) -> Result<State, BpfError> {
        let index = u32::from(number);
        let missing = BpfError::NoSuchBackend(number);
        let pool = self.maps.backends.read(index).filter(|_| number != 0).ok_or(missing)?.pool;
        let (before, changing, concerned, dies) = loop {
            let before = self.state(number);
            let state = change(before);
            let concerned = if decides(before) == decides(state) { Vec::new() } else { self.services_of(pool) };
            // A death takes effect at once, before the slots' `look`.
            let dies = before.has_all(State::ALIVE) && !state.has_all(State::ALIVE);
            let changing = if dies {
                self.announce_change(&concerned)
            } else {
                if redirects(before, state) {
                    self.note_redirection(self.maps.bank(), &concerned);
                }
                self.begin_change(&concerned, |maps| maps.foresee_state((pool, number), state, &concerned))
            };
            // A pool must not count a lost backend: a daemon that dies in between would leave a pool whose count is too
            // high, and new flows without a backend.
            let lost = before.0 & !state.0 & (State::NEW | State::ENABLED);
            // Flows that were recorded while a backend was dead must not find it in a shared table.
            if !before.has_all(State::ALIVE) && state.has_all(State::ALIVE) && !concerned.is_empty() {
                self.settle();
            }
            if lost != 0 {
                // The count after the store returns any error; this one must not delay the store.
                let _reported_below = self.count_ahead(pool, number, state);
            }
            if self.swap_state(number, before, state) {
                break (before, changing, concerned, dies);
            }
        };
        self.separate(&concerned);
        // A daemon without knowledge of this change may have ended the transition just before it.
        self.raise_flags(&concerned);
        if dies && !self.serves_without(pool) {
            self.look_at_foreseen(&concerned, |maps| {
                let state = maps.state(number);
                maps.foresee_state((pool, number), state, &concerned)
            });
        }
        self.recount(pool)?;
        self.write_note(number, reason);
        if !changing.is_empty() {
            let why = self.known()?.name_of(number).map_or(reason.to_owned(), |name| format!("{name}: {reason}"));
            self.note_transitions(&changing, &why);
        }
        Ok(before)
    }

    /// Whether a pool has enough backends for its share of flows. If so, a death in it, or one announced before, moves
    /// only flows of slots that packets look at anyway.
    fn serves_without(&self, pool: u16) -> bool {
        let pool = position(self.maps.bank(), pool.into()).and_then(|at| self.maps.pools.read(at));
        pool.is_some_and(|pool| pool.available >= pool.min_healthy.max(1).into())
    }

    /// Sets a backend's state, whatever it was before; otherwise as [`change_state`](Self::change_state).
    pub(crate) fn set_state(&mut self, number: BackendNumber, state: State, reason: &str) -> Result<(), BpfError> {
        self.change_state(number, |_| state, reason).map(drop)
    }

    /// Changes the state from `from` to `to`. Returns false if the state is not `from`.
    pub(super) fn swap_state(&self, number: BackendNumber, from: State, to: State) -> bool {
        let word = self.maps.backends.atomic_u32(number.into(), offset_of!(Backend, state));
        word.is_some_and(|word| word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed).is_ok())
    }

    pub(super) fn store_state(&self, number: BackendNumber, state: State) {
        if let Some(word) = self.maps.backends.atomic_u32(number.into(), offset_of!(Backend, state)) {
            word.store(state.0, Ordering::Release);
        }
    }

    /// Failover of a service; none for an unused number.
    pub(crate) fn failover(&self, service: u32) -> Failover {
        self.failover_word(service).map_or(Failover::default(), |word| Failover::from_raw(word.load(Ordering::Acquire)))
    }

    /// Changes a service's failover.
    pub(crate) fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), BpfError> {
        self.failover_word(service).ok_or(BpfError::NoSuchService(service))?;
        let changing = self.begin_change(&[service], |maps| maps.foresee_failover(service, failover));
        // A generation that another writer publishes meanwhile has the old failover: then it is stored once more.
        while let (bank, Some(word)) = (self.maps.bank(), self.failover_word(service)) {
            self.note_redirection(bank, &[service]);
            word.store(failover.to_raw(), Ordering::Release);
            self.count_edition();
            if self.maps.bank() == bank {
                break;
            }
        }
        self.raise_flags(&[service]);
        if !changing.is_empty() {
            let pool = self.known()?.pool_of(service, failover.first.into()).map(|pool| pool.name.clone());
            let why = match (failover.first, pool) {
                (0, _) | (_, None) => "failback".to_owned(),
                (_, Some(pool)) => format!("failover to {pool}"),
            };
            self.note_transitions(&changing, &why);
        }
        Ok(())
    }

    /// Makes plans stale that were made before the change.
    fn count_edition(&self) {
        if let Some(word) = self.maps.edition() {
            let next = |edition| Some(next_edition(edition));
            // Never fails: the closure always returns a value.
            let _before = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        }
    }

    fn failover_word(&self, service: u32) -> Option<&std::sync::atomic::AtomicU32> {
        self.maps.services.atomic_u32(position(self.maps.bank(), service)?, offset_of!(Service, failover))
    }

    /// MAC address that a backend's frames are sent to, if known.
    pub(crate) fn next_hop(&self, number: BackendNumber) -> Option<[u8; 6]> {
        let word = self.maps.backends.atomic_u64(number.into(), offset_of!(Backend, next_hop))?;
        Some(Mac(word.load(Ordering::Acquire))).filter(|mac| mac.is_known()).map(Mac::octets)
    }

    /// Writes the next hop of a backend; with `None` the packet path looks the route up in the kernel.
    ///
    /// If more than the neighbour's address changes, the next hop is unknown while the rest is written, and the version
    /// changes before and after the write: a packet that reads meanwhile detects it, whether it began before the write
    /// or during it.
    pub(crate) fn set_next_hop(&mut self, number: BackendNumber, entry: Option<NextHopEntry>) -> Result<(), BpfError> {
        let index = u32::from(number);
        let missing = BpfError::NoSuchBackend(number);
        let (Some(next_hop), Some(old)) = (
            self.maps.backends.atomic_u64(index, offset_of!(Backend, next_hop)).filter(|_| number != 0),
            self.maps.backends.read(index),
        ) else {
            return Err(missing);
        };
        self.audited.hops.insert(number, SetHop { address: old.address, entry });
        let Some(entry) = entry else {
            next_hop.store(0, Ordering::Release);
            return Ok(());
        };
        let new = Backend {
            egress: entry.egress,
            source_mac: Mac::new(entry.source_mac),
            mtu: entry.mtu,
            own_mtu: entry.own_mtu.into(),
            vlan: entry.vlan,
            ..old
        };
        if new != old {
            next_hop.store(0, Ordering::Release);
            self.change_hop_version(index);
            self.write_egress(index, &new);
            self.change_hop_version(index);
        }
        next_hop.store(Mac::new(entry.mac).0, Ordering::Release);
        Ok(())
    }

    /// Stores the stations in both banks, in this order: the first is found soonest. Returns how many do not fit.
    ///
    /// Each place changes by one store, and a station that stays is never missing: before its place is overwritten, the
    /// station is copied to the last place that is not needed. The copy is removed once no packet can be looking for it
    /// there.
    pub(crate) fn set_stations(&mut self, stations: &[Station]) -> usize {
        let kept = &stations[..stations.len().min(MAX_STATIONS)];
        self.audited.stations = Some(kept.to_vec());
        for places in [0, 1].map(|bank| self.station_places(bank)) {
            let load = |number: usize| Station(places[number].load(Ordering::Acquire));
            for (number, new) in kept.iter().enumerate().take(places.len()) {
                let old = load(number);
                let is_elsewhere = || (0..places.len()).any(|other| other != number && load(other) == old);
                if old != *new && kept.contains(&old) && !is_elsewhere() {
                    let spare = (number + 1..places.len()).rfind(|other| !kept.contains(&load(*other)));
                    if let Some(spare) = spare {
                        places[spare].store(old.0, Ordering::Release);
                    }
                }
                places[number].store(new.0, Ordering::Release);
            }
        }
        let rest = || [0, 1].into_iter().flat_map(|bank| self.station_places(bank).into_iter().skip(kept.len()));
        if rest().any(|place| place.load(Ordering::Acquire) != 0) {
            sys::wait_for_packets();
            rest().for_each(|place| place.store(0, Ordering::Release));
        }
        stations.len() - kept.len()
    }

    fn station_places(&self, bank: u32) -> Vec<&AtomicU64> {
        let first = Maps::generation(bank) + offset_of!(Generation, stations);
        let place = |number| self.maps.published.atomic_u64(0, first + number * size_of::<Station>());
        (0..MAX_STATIONS).filter_map(place).collect()
    }

    /// The stations of the published bank.
    pub(super) fn stations(&self) -> [Station; MAX_STATIONS] {
        let published = self.maps.published.read(0).unwrap_or_default();
        published.generations[self.maps.bank() as usize].stations
    }

    /// The MTU of the interface by which a backend is reached, in bytes of IP packet.
    pub(crate) fn egress_mtu(&self, number: BackendNumber) -> Option<u16> {
        let mtu = self.maps.backends.atomic_u16(number.into(), offset_of!(Backend, mtu))?;
        Some(mtu.load(Ordering::Acquire)).filter(|mtu| *mtu != 0)
    }

    /// The MTU that the packet path has learnt for a backend's path, in bytes of IP packet.
    pub(crate) fn path_mtu(&self, number: BackendNumber) -> Option<u16> {
        let learnt = self.maps.backends.atomic_u16(number.into(), offset_of!(Backend, path_mtu))?;
        Some(learnt.load(Ordering::Acquire)).filter(|mtu| *mtu != 0)
    }

    /// Resets the learnt MTU of each backend's path: a path's MTU may have grown, which no message reports.
    pub(crate) fn forget_path_mtus(&self) {
        for index in 0..self.maps.backends.len() {
            if let Some(learnt) = self.maps.backends.atomic_u16(index, offset_of!(Backend, path_mtu)) {
                learnt.store(0, Ordering::Release);
            }
        }
    }

    /// Changes the version between two values of a next hop, while the next hop is unknown.
    fn change_hop_version(&self, index: u32) {
        if let Some(version) = self.maps.backends.atomic_u8(index, offset_of!(Backend, hop_version)) {
            version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Writes the fields around `next_hop` one by one: writing the whole value could undo a concurrent change of state.
    fn write_egress(&self, index: u32, new: &Backend) {
        let fields = [
            (offset_of!(Backend, mtu), new.mtu),
            (offset_of!(Backend, own_mtu), new.own_mtu),
            (offset_of!(Backend, vlan), new.vlan),
        ];
        if let Some(source) = self.maps.backends.atomic_u64(index, offset_of!(Backend, source_mac)) {
            source.store(new.source_mac.0, Ordering::Release);
        }
        if let Some(egress) = self.maps.backends.atomic_u32(index, offset_of!(Backend, egress)) {
            egress.store(new.egress, Ordering::Release);
        }
        for (offset, value) in fields {
            if let Some(field) = self.maps.backends.atomic_u16(index, offset) {
                field.store(value, Ordering::Release);
            }
        }
    }
}

/// Whether an operator's change, after which the backend lives, sends new flows elsewhere at once: a drain, a disable that
/// is taken back, or an enable. A backend that only recovers does not count: one that flaps would keep new flows with the
/// owners of their slots.
const fn redirects(before: State, after: State) -> bool {
    let takes = State::NEW | State::ENABLED;
    let (lost, gained) = (before.0 & !after.0 & takes, after.0 & !before.0 & takes);
    lost != 0 || gained & State::ENABLED != 0 || gained != 0 && before.has_all(State::ALIVE)
}

/// The bits of a state that decide where packets go.
const fn decides(state: State) -> u32 {
    state.0 & (State::NEW | State::ALIVE | State::ENABLED | u32::MAX << State::WITHHELD_SHIFT)
}
