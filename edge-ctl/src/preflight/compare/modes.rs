//! Finds pools that serve in two modes whose packets the host would route differently.

use super::{Findings, Host};
use crate::{
    config::Pool,
    net::{Destinations, SurveyedRoute},
};

/// Warns if translated packets to a pool's backends take another way than the host has for them: a backend has one next
/// hop, and where a pool serves by a tunnel as well it is that of the tunnel's packets.
pub(super) fn ways(findings: &mut Findings, pool: &Pool, destinations: &Destinations<'_>, host: &Host) {
    let differing = pool.backends.iter().find_map(|backend| {
        let taken = destinations.to(Some(&pool.name), backend.address);
        let other = destinations.not_taken(&pool.name, backend.address)?;
        let [Some(way), Some(instead)] = [taken, other].map(|destination| host.network.routes.get(&destination)) else {
            return None;
        };
        (way != instead).then_some([(taken, way), (other, instead)])
    });
    let Some([(taken, way), (other, instead)]) = differing else { return };
    let from = |source: Option<std::net::IpAddr>| source.map_or(String::new(), |source| format!(" from {source}"));
    findings.warn(
        &format!("pool {}", pool.name),
        format!(
            "its services are in `nat` and by a tunnel, and this host has two ways to {}: {}{}, in `nat`{} {}; packets in `nat` \
             take the former",
            taken.address,
            shown(way),
            from(taken.source),
            from(other.source),
            shown(instead),
        ),
        "another pool with these backends for the services in `nat`",
    );
}

fn shown(route: &SurveyedRoute) -> String {
    match route {
        SurveyedRoute::Via { egress, next_hop } => format!("by {egress} to {next_hop}"),
        SurveyedRoute::None(why) => format!("none ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{config, net::Survey};

    fn text(second: &str) -> String {
        format!(
            r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
[tunnel]
source_v4 = "10.0.0.1"
[nat]
source_v4 = ["10.9.9.9"]
[[interface]]
name = "eth0"
[[pool]]
name = "a"
backend = [{{ name = "a1", address = "10.1.0.11" }}]
[[service]]
name = "tunnelled"
vips = ["192.0.2.10"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["a"]
[[service]]
name = "second"
vips = ["192.0.2.11"]
ports = ["80/tcp"]
mode = "{second}"
pools = ["a"]
"#
        )
    }

    /// The findings where packets from the tunnel's source go to one router, and packets from other sources to `router`.
    fn findings(second: &str, router: &str) -> Vec<String> {
        let config = config::parse(&text(second), "test").unwrap_or_else(|error| panic!("{error}"));
        let (destinations, address) = (Destinations::of(&config), IpAddr::from([10, 1, 0, 11]));
        let via = |next_hop: &str| SurveyedRoute::Via {
            egress: "eth0".to_owned(),
            next_hop: next_hop.parse().expect("an address"),
        };
        let taken = (destinations.to(Some("a"), address), via("10.0.0.254"));
        let other = destinations.not_taken("a", address).map(|other| (other, via(router)));
        let routes = std::iter::once(taken).chain(other).collect();
        let host = Host { network: Survey { routes, ..Survey::default() }, ..Host::default() };
        let mut findings = Findings::default();
        ways(&mut findings, &config.pools[0], &destinations, &host);
        findings.sorted().into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn packets_of_one_pool_that_two_ways_are_there_for() {
        assert_eq!(findings("nat", "10.0.0.254"), [""; 0]);
        assert_eq!(findings("ipip", "10.0.0.253"), [""; 0], "one mode has one way");
        assert_eq!(
            findings("nat", "10.0.0.253"),
            [
                "its services are in `nat` and by a tunnel, and this host has two ways to 10.1.0.11: by eth0 to 10.0.0.254 from \
              10.0.0.1, in `nat` from 10.9.9.9 by eth0 to 10.0.0.253; packets in `nat` take the former"
            ]
        );
    }
}
