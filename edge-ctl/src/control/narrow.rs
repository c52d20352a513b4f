//! Backends whose path is too narrow for IPv6 in a tunnel.
//!
//! No sender of IPv6 receives an MTU below 1,280 bytes, so each path to a backend must carry packets of that length in the
//! tunnel. Otherwise the packets are dropped in an outer IPv6 header, and fragmented on the way in an outer IPv4 header.

use std::{collections::BTreeMap, net::IpAddr};

use edge_common::{
    abi::{BackendNumber, Mode},
    forward::tunnel_overhead,
};

use super::{data_plane::DataPlane, inventory::Inventory};

/// Minimum MTU of IPv6, bytes (RFC 8200, section 5).
const LEAST: u16 = 1280;

/// A backend's MTU and the smallest one with which its path carries IPv6, bytes of IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Narrow {
    /// The smaller one of the egress MTU and the learnt path MTU.
    pub(crate) mtu: u16,
    pub(crate) needed: u16,
}

/// All backends whose path is too narrow for an IPv6 service that reaches them by a tunnel.
pub(crate) fn narrow(inventory: &Inventory, plane: &impl DataPlane) -> BTreeMap<BackendNumber, Narrow> {
    let mut found = BTreeMap::new();
    for (pool, gue_variant) in pools(inventory) {
        for member in inventory.members_of(pool) {
            let needed = LEAST + tunnel_overhead(member.backend.address.is_ipv4(), gue_variant);
            let mtus = [plane.egress_mtu(member.number), plane.path_mtu(member.number)];
            if let Some(mtu) = mtus.into_iter().flatten().min()
                && mtu < needed
            {
                found.insert(member.number, Narrow { mtu, needed });
            }
        }
    }
    found
}

/// Positions of the pools that IPv6 services reach by a tunnel, with the variant of GUE if one of them does so in GUE.
fn pools(inventory: &Inventory) -> BTreeMap<usize, Option<u16>> {
    let mut pools = BTreeMap::new();
    for service in inventory.config.services.iter().filter(|service| service.vips.iter().any(IpAddr::is_ipv6)) {
        let gue_variant = match service.mode {
            Mode::Ipip | Mode::IpipRange => None,
            Mode::Gue => Some(inventory.config.tunnel.gue_variant),
            Mode::Dsr | Mode::Nat => continue,
        };
        for pool in &service.pools {
            let most: &mut Option<u16> = pools.entry(*pool).or_default();
            *most = most.or(gue_variant);
        }
    }
    pools
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config,
        control::fixture::{FakeDataPlane, inventory},
    };

    const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024
interface = [{ name = "eth0" }]
[tunnel]
source_v4 = "10.0.0.1"
source_v6 = "fd00::1"
[[pool]]
name = "a"
backend = [{ name = "a1", address = "10.1.0.11" }, { name = "a2", address = "10.1.0.12" }]
[[pool]]
name = "b"
backend = [{ name = "b1", address = "fd00:b::11" }]
[[service]]
name = "web"
vips = ["192.0.2.10", "2001:db8::10"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["a", "b"]
"#;

    fn plane() -> FakeDataPlane {
        FakeDataPlane { path_mtus: BTreeMap::new(), ..FakeDataPlane::fresh(&inventory()) }
    }

    /// The narrow backends where all have this egress MTU: number, MTU, and the MTU that is needed.
    fn narrow_paths(text: &str, egress: u16) -> Vec<(BackendNumber, u16, u16)> {
        found_by(text, &FakeDataPlane { egress_mtu: Some(egress), ..plane() })
    }

    /// The narrow backends of a configuration whose backends have the numbers 1 to 3.
    fn found_by(text: &str, plane: &FakeDataPlane) -> Vec<(BackendNumber, u16, u16)> {
        let config = config::parse(text, "edge.toml").unwrap_or_else(|error| panic!("{error}"));
        let inventory = Inventory { config, services: vec![1], backends: vec![vec![1, 2], vec![3]], ..inventory() };
        let found = narrow(&inventory, plane);
        found.into_iter().map(|(number, Narrow { mtu, needed })| (number, mtu, needed)).collect()
    }

    #[test]
    fn ipv6_needs_1280_bytes_behind_the_outer_headers() {
        assert_eq!(narrow_paths(TEXT, 1320), []);
        assert_eq!(narrow_paths(TEXT, 1319), [(3, 1319, 1320)]);
        assert_eq!(narrow_paths(TEXT, 1299), [(1, 1299, 1300), (2, 1299, 1300), (3, 1299, 1320)]);
        let gue = TEXT.replace("\"ipip\"", "\"gue\"");
        assert_eq!(narrow_paths(&gue, 1327), [(3, 1327, 1328)]);
        assert_eq!(narrow_paths(&gue, 1307)[0], (1, 1307, 1308));
        let headed = gue.replace("[tunnel]", "[tunnel]\ngue_variant = 0");
        assert_eq!(narrow_paths(&headed, 1311), [(1, 1311, 1312), (2, 1311, 1312), (3, 1311, 1332)]);
    }

    #[test]
    fn ipv4_and_other_modes_need_nothing() {
        assert_eq!(narrow_paths(&TEXT.replace(", \"2001:db8::10\"", ""), 576), []);
        let nat = TEXT
            .replace("\"ipip\"", "\"nat\"")
            .replace("[tunnel]", "[nat]\nsource_v4 = [\"10.0.0.2\"]\nsource_v6 = [\"fd00::2\"]\n[tunnel]");
        assert_eq!(narrow_paths(&nat, 1290), []);
    }

    #[test]
    fn a_learnt_path_mtu_counts_where_it_is_smaller() {
        let plane = |learnt| FakeDataPlane { egress_mtu: Some(1500), path_mtus: [(1, learnt)].into(), ..plane() };
        assert_eq!(found_by(TEXT, &plane(1299)), [(1, 1299, 1300)]);
        assert_eq!(found_by(TEXT, &plane(1300)), []);
    }
}
