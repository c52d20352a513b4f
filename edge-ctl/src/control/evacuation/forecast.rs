//! What an evacuation brings to the backends that take the services, by the peaks of the last hour.

use std::collections::BTreeMap;

use crate::control::{rates::Rates, short};

/// The largest rates of the last hour, as far as they are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeakRates {
    /// By the name of the service, or of its part.
    pub(crate) services: BTreeMap<String, Rates>,
    /// Those of the pool's busiest backend, by the pool's name.
    pub(crate) backends: BTreeMap<String, Rates>,
}

impl PeakRates {
    /// The forecast for services that move to a pool with this number of available backends; `None` if nothing is known of
    /// the services, or if they had no traffic.
    pub(super) fn line(&self, services: &[&str], pool: &str, available: usize) -> Option<String> {
        let peaks = services.iter().filter_map(|name| self.services.get(*name).copied());
        let all = peaks.reduce(Rates::and).filter(|peak| peak.packets > 0.0)?;
        let mut line = format!("in the last hour at most {}", rates(all));
        let backends = u32::try_from(available).ok().filter(|backends| *backends > 0);
        if let Some((backends, before)) = backends.zip(self.backends.get(pool)) {
            let share = |rate: f64| rate / f64::from(backends);
            let each = Rates { packets: share(all.packets), bytes: share(all.bytes), flows: share(all.flows) };
            let (each, before) = (rates(each), rates(*before));
            line = format!("{line}; that is {each} more for each backend there, which had at most {before}");
        }
        Some(line)
    }
}

fn rates(rates: Rates) -> String {
    let Rates { packets, bytes, flows } = rates;
    format!("{} flows/s, {} pkt/s, {} bit/s", short(flows), short(packets), short(bytes * 8.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(packets: f64) -> Rates {
        Rates { packets, bytes: packets * 1000.0, flows: packets / 10.0 }
    }

    #[test]
    fn the_peaks_are_divided_among_the_backends_that_take_them() {
        let services = [("web".to_owned(), of(3000.0)), ("shop".to_owned(), of(600.0)), ("idle".to_owned(), of(0.0))];
        let peaks = PeakRates { services: services.into(), backends: [("provider-b".to_owned(), of(100.0))].into() };
        assert_eq!(
            peaks.line(&["web", "shop", "new"], "provider-b", 3).as_deref(),
            Some(
                "in the last hour at most 360 flows/s, 3.6k pkt/s, 29M bit/s; that is 120 flows/s, 1.2k pkt/s, 9.6M bit/s \
                 more for each backend there, which had at most 10 flows/s, 100 pkt/s, 800k bit/s"
            )
        );
        let alone = Some("in the last hour at most 60 flows/s, 600 pkt/s, 4.8M bit/s");
        assert_eq!(peaks.line(&["shop"], "provider-b", 0).as_deref(), alone, "nobody takes it");
        assert_eq!(peaks.line(&["shop"], "provider-c", 2).as_deref(), alone, "nothing is known of the pool");
        assert_eq!(peaks.line(&["new", "idle"], "provider-b", 3), None);
    }
}
