//! The largest rates of the last hour, of each service and each backend.

use std::collections::{BTreeMap, VecDeque};

use edge_common::abi::{BackendNumber, Traffic};

use super::{Clock, Rates, Sample, Status, TrafficStatus, build};
use crate::{
    config::configured,
    control::{evacuation::PeakRates, inventory::Inventory},
};

/// The hour is divided into spans: the oldest one is forgotten when a new one begins.
const SPANS: usize = 12;
const SPAN_MS: u64 = 5 * 60 * 1000;

/// The largest rates in each span of the last hour.
#[derive(Debug, Default)]
pub(crate) struct Peaks(VecDeque<Span>);

/// The largest rates in one span.
#[derive(Debug)]
struct Span {
    /// Start, milliseconds since boot.
    since: u64,
    services: BTreeMap<u32, Rates>,
    backends: BTreeMap<BackendNumber, Rates>,
}

impl Peaks {
    /// Adds the rates between two samples.
    pub(crate) fn note(&mut self, earlier: &Sample, now: &Sample) {
        let at = now.at.boot_ms;
        self.0.retain(|span| span.since + SPAN_MS * SPANS as u64 > at);
        if self.0.back().is_none_or(|span| span.since + SPAN_MS <= at) {
            self.0.push_back(Span { since: at, services: BTreeMap::new(), backends: BTreeMap::new() });
        }
        let Some(span) = self.0.back_mut() else { return };
        let since = (earlier.at, now.at);
        raise(&mut span.services, &earlier.services, &now.services, since);
        raise(&mut span.backends, &earlier.backends, &now.backends, since);
    }

    /// Adds the peaks to a status.
    pub(crate) fn show(&self, inventory: &Inventory, status: &mut Status) {
        if self.0.is_empty() {
            return;
        }
        let services = status.services.iter_mut().map(|service| (service.name.clone(), service));
        let mut services: BTreeMap<_, _> = services.collect();
        for (service, number) in inventory.services() {
            let peak = self.peak(|span| span.services.get(&number));
            let Some(whole) = services.get_mut(configured(&service.name).0) else { continue };
            if let Some(part) = whole.parts.iter_mut().find(|part| part.name == service.name) {
                part.traffic.peak = Some(peak);
            }
            // Those of both parts at once, though they may have had them at different times.
            whole.traffic.peak = Some(whole.traffic.peak.map_or(peak, |other| other.and(peak)));
        }
        for (pool, numbers) in status.pools.iter_mut().zip(&inventory.backends) {
            for (backend, number) in pool.backends.iter_mut().zip(numbers) {
                backend.traffic.peak = Some(self.peak(|span| span.backends.get(number)));
            }
        }
    }

    /// The peaks for forecasts.
    pub(crate) fn rates(&self, inventory: &Inventory) -> PeakRates {
        if self.0.is_empty() {
            return PeakRates::default();
        }
        let service = |number| self.peak(|span| span.services.get(&number));
        let services = inventory.services().map(|(config, number)| (config.name.clone(), service(number)));
        let pools = inventory.config.pools.iter().zip(&inventory.backends).filter_map(|(pool, numbers)| {
            let peaks = numbers.iter().map(|number| self.peak(|span| span.backends.get(number)));
            Some((pool.name.clone(), peaks.reduce(Rates::max)?))
        });
        PeakRates { services: services.collect(), backends: pools.collect() }
    }

    fn peak<'a>(&'a self, of: impl Fn(&'a Span) -> Option<&'a Rates>) -> Rates {
        self.0.iter().filter_map(of).fold(Rates::default(), |peak, rates| peak.max(*rates))
    }
}

fn raise<K: Copy + Ord>(
    peaks: &mut BTreeMap<K, Rates>,
    earlier: &BTreeMap<K, Traffic>,
    now: &BTreeMap<K, Traffic>,
    (since, at): (Clock, Clock),
) {
    for (key, traffic) in now {
        let Some(before) = earlier.get(key).filter(|before| before.packets != traffic.packets) else { continue };
        let TrafficStatus { rates: Some(rates), .. } = build::traffic(Some((since, *before)), at, *traffic) else {
            continue;
        };
        let peak = peaks.entry(*key).or_default();
        *peak = peak.max(rates);
    }
}

/// As [`Peaks::rates`], from the status of a daemon; there are none in another one.
pub(crate) fn peak_rates(status: &Status) -> PeakRates {
    let services = status.services.iter().flat_map(|service| service.parts.iter().chain([service]));
    let services = services.filter_map(|service| Some((service.name.clone(), service.traffic.peak?)));
    let pools = status.pools.iter().filter_map(|pool| {
        let peaks = pool.backends.iter().filter_map(|backend| backend.traffic.peak);
        Some((pool.name.clone(), peaks.reduce(Rates::max)?))
    });
    PeakRates { services: services.collect(), backends: pools.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        fixture::{FakeDataPlane, inventory, two_addresses},
        status::build,
    };

    /// Peaks after a second with 50 packets, then one with 2,000, then one with 10, each `apart` milliseconds after the last.
    fn peaks(inventory: &Inventory, apart: u64) -> (Peaks, Status) {
        let (mut plane, mut peaks) = (FakeDataPlane::fresh(inventory), Peaks::default());
        let mut status = None;
        for (number, packets) in (1..).zip([50, 2000, 10]) {
            let at = |boot_ms| Clock { unix_ms: boot_ms, boot_ms };
            let earlier = Sample::take(inventory, &plane, at(number * apart));
            plane.packets += packets;
            let now = Sample::take(inventory, &plane, at(number * apart + 1000));
            peaks.note(&earlier, &now);
            status = Some(build(inventory, &plane, Some(&earlier), &now, None));
        }
        let mut status = status.expect("three of them");
        peaks.show(inventory, &mut status);
        (peaks, status)
    }

    fn packets(traffic: &TrafficStatus) -> Option<u64> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers")]
        traffic.peak.map(|peak| peak.packets as u64)
    }

    #[test]
    fn the_largest_rate_of_the_last_hour_is_shown() {
        let (kept, status) = peaks(&inventory(), 2000);
        let (forecast, shown) = (kept.rates(&inventory()), peak_rates(&status));
        assert_eq!((forecast.services, forecast.backends), (shown.services, shown.backends), "for forecasts, too");
        // In the fixture, a service has as many packets as its number says, and a backend a share of them.
        let services: Vec<_> = status.services.iter().map(|service| packets(&service.traffic)).collect();
        assert_eq!(services, [Some(2000), Some(4000)]);
        let backends: Vec<_> = status.pools[0].backends.iter().map(|backend| packets(&backend.traffic)).collect();
        assert_eq!(backends, [Some(2000), Some(1000), Some(667)]);
    }

    #[test]
    fn what_is_older_than_an_hour_is_forgotten() {
        let (kept, status) = peaks(&inventory(), 40 * 60 * 1000);
        assert_eq!(packets(&status.services[0].traffic), Some(2000), "40 minutes ago");
        assert_eq!(kept.0.len(), 2, "and not what was 80 minutes ago");
        let (kept, status) = peaks(&inventory(), 61 * 60 * 1000);
        assert_eq!((packets(&status.services[0].traffic), kept.0.len()), (Some(10), 1));
    }

    #[test]
    fn a_service_of_both_ip_versions_has_the_sum_of_its_parts() {
        let (_, status) = peaks(&two_addresses(), 2000);
        let service = &status.services[0];
        assert_eq!(
            service.parts.iter().map(|part| packets(&part.traffic)).collect::<Vec<_>>(),
            [Some(2000), Some(4000)]
        );
        assert_eq!(packets(&service.traffic), Some(6000));
    }
}
