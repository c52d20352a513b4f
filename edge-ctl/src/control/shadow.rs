//! A data plane for `--dry-run`: writes go to memory, and reads see them over the maps.

use std::{collections::BTreeMap, time::Duration};

use edge_common::abi::{BackendNumber, Exit, Failover, FlowCounts, State, Traffic};

use super::data_plane::{DataPlane, Why};
use crate::bpf::{BpfError, Held, NatUse, Progress, Transition, Waits};

/// Maps that stay unchanged, and the values that were written over them.
#[derive(Debug)]
pub(crate) struct Shadow<'a, P> {
    maps: &'a P,
    states: BTreeMap<BackendNumber, State>,
    failovers: BTreeMap<u32, Failover>,
    withheld: BTreeMap<u16, u32>,
}

impl<'a, P: DataPlane> Shadow<'a, P> {
    pub(crate) fn of(maps: &'a P) -> Self {
        Self { maps, states: BTreeMap::new(), failovers: BTreeMap::new(), withheld: BTreeMap::new() }
    }
}

impl<P: DataPlane> DataPlane for Shadow<'_, P> {
    fn state(&self, backend: BackendNumber) -> State {
        self.states.get(&backend).copied().unwrap_or_else(|| self.maps.state(backend))
    }

    fn change_state(
        &mut self,
        backend: BackendNumber,
        change: impl Fn(State) -> State,
        _reason: &str,
    ) -> Result<State, BpfError> {
        let before = self.state(backend);
        self.states.insert(backend, change(before));
        Ok(before)
    }

    fn failover(&self, service: u32) -> Failover {
        self.failovers.get(&service).copied().unwrap_or_else(|| self.maps.failover(service))
    }

    fn set_failover(&mut self, service: u32, failover: Failover) -> Result<(), BpfError> {
        self.failovers.insert(service, failover);
        Ok(())
    }

    fn withheld(&self, pool: u16) -> u32 {
        self.withheld.get(&pool).copied().unwrap_or_else(|| self.maps.withheld(pool))
    }

    fn set_withheld(&mut self, pool: u16, withheld: u32, _reason: &str) {
        self.withheld.insert(pool, withheld);
    }

    fn set_share(&mut self, backend: BackendNumber, withheld: u8) -> Result<(), BpfError> {
        let State(bits) = self.state(backend);
        let below = (1 << State::WITHHELD_SHIFT) - 1;
        self.states.insert(backend, State(bits & below | u32::from(withheld) << State::WITHHELD_SHIFT));
        Ok(())
    }

    // Passes do nothing, since nothing was written into the maps.
    fn begin_pass(&mut self, _waits: &[(u32, Waits)]) -> Result<(), BpfError> {
        Ok(())
    }

    fn go_on(&mut self, _now: Duration) -> Result<Progress, BpfError> {
        Ok(Progress::default())
    }

    fn transition(&self, service: u32) -> Option<Transition> {
        self.maps.transition(service)
    }

    fn held(&self, backend: BackendNumber) -> Option<Held> {
        self.maps.held(backend)
    }

    fn flow_counts(&self, service: u32) -> FlowCounts {
        self.maps.flow_counts(service)
    }

    fn nat_use(&self) -> Option<NatUse> {
        self.maps.nat_use()
    }

    fn why(&self, backend: BackendNumber) -> Why {
        self.maps.why(backend)
    }

    fn next_hop(&self, backend: BackendNumber) -> Option<[u8; 6]> {
        self.maps.next_hop(backend)
    }

    fn egress_mtu(&self, backend: BackendNumber) -> Option<u16> {
        self.maps.egress_mtu(backend)
    }

    fn path_mtu(&self, backend: BackendNumber) -> Option<u16> {
        self.maps.path_mtu(backend)
    }

    fn service_traffic(&self, service: u32) -> Traffic {
        self.maps.service_traffic(service)
    }

    fn backend_traffic(&self, backend: BackendNumber) -> Traffic {
        self.maps.backend_traffic(backend)
    }

    fn exits(&self) -> Vec<(Exit, u64)> {
        self.maps.exits()
    }

    fn repair_counts(&mut self) -> Result<Vec<String>, BpfError> {
        Ok(Vec::new())
    }

    fn attached(&self) -> Result<Vec<String>, BpfError> {
        self.maps.attached()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{
            events::Events,
            fixture::{FakeDataPlane, inventory},
            operations::{Operation, Terms, operate},
        },
        plan,
    };

    #[test]
    fn what_is_written_is_seen_and_the_maps_are_as_before() {
        let inventory = inventory();
        let maps = FakeDataPlane::fresh(&inventory);
        let mut shadow = Shadow::of(&maps);
        let drain = Operation::Drain { backend: "a1".to_owned(), reason: None };
        let states: Vec<_> = (1..=6).map(|number| maps.state(number)).collect();
        let condition = |number: BackendNumber| plan::condition(states[number as usize - 1]);
        let outcome = operate(&inventory, &mut shadow, condition, &Events::new(), &drain).unwrap();
        assert!(outcome.changed);
        assert!(!operate(&inventory, &mut shadow, condition, &Events::new(), &drain).unwrap().changed);
        assert!(!shadow.state(1).has_all(State::NEW) && maps.state(1).has_all(State::NEW));
        let failover = Operation::Failover {
            service: "web".to_owned(),
            to: "provider-b".to_owned(),
            evacuate: true,
            terms: Terms::default(),
        };
        operate(&inventory, &mut shadow, condition, &Events::new(), &failover).unwrap();
        assert_eq!((shadow.failover(1).first, maps.failover(1).first), (1, 0));
    }
}
