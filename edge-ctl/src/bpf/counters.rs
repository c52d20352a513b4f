//! The packet path's counters.

use edge_common::abi::{BackendNumber, Exit, FlowCount, FlowCounts, Traffic};

use super::{PinnedMaps, maps::TrafficCounters};

impl PinnedMaps {
    /// Packets by exit, since the maps were made.
    pub(crate) fn exits(&self) -> Vec<(Exit, u64)> {
        Exit::ALL
            .iter()
            .map(|&exit| {
                let count =
                    self.maps.exits.get(&(exit as u32), 0).map_or(0, |values| values.iter().map(|[count]| count).sum());
                (exit, count)
            })
            .collect()
    }

    /// Traffic of a service.
    pub(crate) fn service_traffic(&self, number: u32) -> Traffic {
        sum(&self.maps.service_stats, number)
    }

    /// Flow-record counters of a service.
    pub(crate) fn flow_counts(&self, number: u32) -> FlowCounts {
        let mut sum = FlowCounts([0; FlowCount::COUNT]);
        // Fails only past the array's end, as in `sum` below.
        let Ok(values) = self.maps.flow_stats.get(&number, 0) else { return sum };
        for value in values.iter() {
            sum.0.iter_mut().zip(value).for_each(|(sum, count)| *sum += count);
        }
        sum
    }

    /// Traffic of a backend.
    pub(crate) fn backend_traffic(&self, number: BackendNumber) -> Traffic {
        sum(&self.maps.backend_stats, number.into())
    }
}

/// The sum over CPUs. The lookup of an array entry fails only past the array's end, where no packet is counted.
fn sum(counters: &TrafficCounters, index: u32) -> Traffic {
    let Ok(values) = counters.get(&index, 0) else { return Traffic::default() };
    values.iter().fold(Traffic::default(), |sum, &[packets, bytes, flows]| Traffic {
        packets: sum.packets + packets,
        bytes: sum.bytes + bytes,
        flows: sum.flows + flows,
    })
}
