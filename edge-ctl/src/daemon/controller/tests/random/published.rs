//! Publications into maps in plain memory, as `bpf` makes them: the controller finds the states that a plan contains.

use edge_common::abi::{Failover, State};

use crate::{
    config::Config,
    control::{fixture::FakeDataPlane, inventory::Inventory},
    plan::{self, Capacity, Edition, Image, Previous, Returned, Snapshot},
};

/// The generation in force.
pub(super) struct Published {
    pub(super) snapshot: Snapshot,
    capacity: Capacity,
}

impl Published {
    /// Publishes the first generation.
    pub(super) fn first(config: &Config) -> (Self, Inventory, FakeDataPlane) {
        let capacity = Capacity::of(config);
        let image = plan::plan(config, &capacity, None).expect("it fits");
        let mut plane = FakeDataPlane { clock: std::time::Duration::from_secs(1000), ..FakeDataPlane::default() };
        let mut published = Self { snapshot: image.snapshot.clone(), capacity };
        let inventory = published.store(config, image, &mut plane);
        (published, inventory, plane)
    }

    /// Publishes the next generation. `held` is whether removed backends still have flows.
    pub(super) fn next(&mut self, config: &Config, plane: &mut FakeDataPlane, held: bool) -> Inventory {
        let state = |number| plane.states.get(&number).copied().unwrap_or_default();
        let failover = |number| plane.failovers.get(&number).copied().unwrap_or_default();
        let in_use = |_| held;
        let previous = Previous {
            snapshot: &self.snapshot,
            edition: Edition::default(),
            state: &state,
            failover: &failover,
            in_use: &in_use,
        };
        let image = plan::plan(config, &self.capacity, Some(previous)).expect("it fits");
        self.store(config, image, plane)
    }

    fn store(&mut self, config: &Config, image: Image, plane: &mut FakeDataPlane) -> Inventory {
        for (number, backend) in &image.backends {
            plane.states.insert(*number, State(backend.state));
            plane.whys.remove(number);
        }
        for Returned { number, state, .. } in &image.returned {
            plane.states.insert(*number, *state);
        }
        plane.failovers =
            image.services.iter().map(|new| (new.number, Failover::from_raw(new.service.failover))).collect();
        for known in &image.snapshot.retired {
            let state = plane.states.entry(known.number).or_default();
            *state = plan::removed(*state);
        }
        let known = |number| {
            image.snapshot.backends().any(|(_, backend)| backend.number == number)
                || image.snapshot.retired.iter().any(|retired| retired.number == number)
        };
        plane.states.retain(|number, _| known(*number));
        self.snapshot = image.snapshot;
        Inventory::new(config.clone(), &self.snapshot).expect("it was planned for it")
    }
}
