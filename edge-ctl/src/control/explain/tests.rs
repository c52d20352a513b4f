//! Explanations of real maps, compared with the real program. Needs root.

use std::time::Duration;

use edge_common::abi::FlowEnds;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::{
    bpf::{PinnedMaps, bpffs::Bpffs},
    config,
    health::Health,
    net::NextHopEntry,
    plan::{Capacity, state},
};

mod random;

const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024
[tunnel]
source_v4 = "10.0.0.1"
source_v6 = "fd00::1"
[nat]
source_v4 = "10.0.0.1"
source_v6 = "fd00::1"
ports = "16384-32767"
[[interface]]
name = "lo"
[[pool]]
name = "provider-a"
min_healthy = 2
backend = [{ name = "a1", address = "10.1.0.11" }, { name = "a2", address = "10.1.0.12" }, { name = "a3", address = "10.1.0.13" }]
[[pool]]
name = "provider-b"
backend = [{ name = "b1", address = "fd01::11" }, { name = "b2", address = "fd01::12", weight = 300 }]
[[service]]
name = "web"
vips = ["192.0.2.10", "2001:db8::10"]
ports = ["443/tcp", "443/quic"]
mode = "ipip"
pools = ["provider-a", "provider-b"]
[[service]]
name = "dns"
vips = ["192.0.2.10"]
ports = ["53/udp"]
mode = "ipip"
pools = ["provider-b"]
when_exhausted = "reject"
[[service]]
name = "sticky"
vips = ["192.0.2.11"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["provider-b", "provider-a"]
affinity = "source"
when_exhausted = "drop"
[[service]]
name = "in-udp"
vips = ["192.0.2.12"]
ports = ["80/tcp"]
mode = "gue"
pools = ["provider-a", "provider-b"]
[[service]]
name = "beside"
vips = ["192.0.2.13"]
ports = ["80/tcp", "53/udp"]
mode = "dsr"
pools = ["provider-a"]
[[service]]
name = "beside-6"
vips = ["2001:db8::13"]
ports = ["80/tcp", "53/udp"]
mode = "dsr"
pools = ["provider-b"]
when_exhausted = "reject"
[[service]]
name = "anywhere"
vips = ["192.0.2.14", "2001:db8::14"]
ports = ["80/tcp", "53/udp"]
mode = "nat"
pools = ["provider-a", "provider-b"]
"#;

struct Rig {
    _bpffs: Bpffs,
    maps: PinnedMaps,
    inventory: Inventory,
}

impl Rig {
    fn new() -> Self {
        let bpffs = Bpffs::mount();
        let config = config::parse(TEXT, "edge.toml").unwrap_or_else(|error| panic!("{error}"));
        let mut maps = PinnedMaps::create(&bpffs.pins(), &Capacity::of(&config)).unwrap();
        let image = maps.with_previous(|previous| plan::plan(&config, maps.capacity(), previous)).unwrap().unwrap();
        maps.publish(&image).unwrap();
        let inventory = Inventory::from_snapshot(&maps.snapshot().unwrap().unwrap()).unwrap();
        for member in inventory.members() {
            let mac = [2, 0, 0, 0, 1, u8::try_from(member.number).unwrap()];
            let hop = NextHopEntry { egress: 7, mac, source_mac: [2; 6], mtu: 1500, own_mtu: true, vlan: 0 };
            maps.set_next_hop(member.number, Some(hop)).unwrap();
        }
        Self { _bpffs: bpffs, maps, inventory }
    }

    fn explain(&self, query: FlowQuery, assumptions: &[&str]) -> Explanation {
        let assumptions: Vec<_> = assumptions.iter().map(|text| text.parse().unwrap()).collect();
        explain(&self.maps, &self.inventory, query, &assumptions, NOW).unwrap()
    }

    fn set(&mut self, name: &str, to: State) {
        for number in self.inventory.backend(name).unwrap().numbers {
            self.maps.set_state(number, to, "").unwrap();
        }
    }
}

const NOW: Duration = Duration::from_secs(1_000);

fn query(protocol: Protocol, client: &str, vip: &str) -> FlowQuery {
    FlowQuery { protocol, client: client.parse().unwrap(), vip: vip.parse().unwrap() }
}

fn goes_to(fate: &Fate) -> &str {
    fate.backend.as_ref().map_or(fate.exit.as_str(), |backend| &backend.name)
}

#[test]
fn pools_and_what_if() {
    let rig = Rig::new();
    let web = query(Protocol::Tcp, "203.0.113.7:51515", "192.0.2.10:443");
    let now = rig.explain(web, &[]);
    let service = now.service.clone().unwrap();
    assert_eq!((service.name.as_str(), service.slots), ("web", 1024), "{service:?}");
    assert_eq!(now.pick.as_deref(), Some(goes_to(&now.starts)));
    assert!(goes_to(&now.starts).starts_with("provider-a/") && now.pools[0].serves, "{now:?}");

    let down = rig.explain(web, &["provider-a=down"]);
    assert!(goes_to(&down.starts).starts_with("provider-b/"), "{down:?}");
    assert_eq!(down.pools[0].why, "too few of its backends take new flows");
    let one_left = rig.explain(web, &["a1=drained", "a2=down"]);
    assert!(one_left.pools[1].serves && !one_left.pools[0].serves, "{one_left:?}");
    // Nothing was written.
    assert_eq!(rig.explain(web, &[]), now);

    let nobody = rig.explain(query(Protocol::Udp, "203.0.113.7:51515", "192.0.2.10:53"), &["provider-b=disabled"]);
    assert_eq!(nobody.starts.exit, "reject_unreachable", "{nobody:?}");
    let nothing = rig.explain(query(Protocol::Tcp, "203.0.113.7:51515", "192.0.2.99:80"), &[]);
    assert_eq!((nothing.service, nothing.starts.exit.as_str()), (None, "not_ours"));
}

#[test]
fn a_record_and_an_unknown_name() {
    let rig = Rig::new();
    let web = query(Protocol::Tcp, "203.0.113.7:51515", "192.0.2.10:443");
    let pick = rig.explain(web, &[]).pick.unwrap();
    // The flow has a record at another backend, and packets look it up.
    let other = if pick == "provider-a/a1" { "provider-a/a2" } else { "provider-a/a1" };
    let number = rig.inventory.backend(other).unwrap().numbers[0];
    rig.maps.record_flow(web.ends(), number, NOW).unwrap();
    let explained = rig.explain(web, &[]);
    assert_eq!(explained.record.as_ref().and_then(|record| record.backend.as_deref()), Some(other), "{explained:?}");
    assert!(explained.service.as_ref().unwrap().looks, "a generation that is new");
    // A SYN of its client belongs to a known flow.
    assert_eq!((goes_to(&explained.goes_on), goes_to(&explained.starts)), (other, other));
    assert_eq!(explained.pick, Some(pick));

    let assumed = ["provider-x=down".parse().unwrap()];
    assert!(matches!(explain(&rig.maps, &rig.inventory, web, &assumed, NOW), Err(ExplainError::Name(_))));
    for wrong in ["provider-a", "provider-a=dead", "=", ""] {
        let parsed = wrong.parse::<Assumption>();
        assert!(parsed.is_err() || parsed.unwrap().name.is_empty(), "{wrong}");
    }
}

#[test]
fn what_is_assumed_is_what_would_be() {
    let mut rig = Rig::new();
    let mut random = StdRng::seed_from_u64(4);
    for (name, word, to) in [
        ("a1", "down", state(Admin::Enabled, Health::Down)),
        ("a2", "disabled", state(Admin::Disabled, Health::Unknown)),
        ("b1", "drained", state(Admin::Drained, Health::Unknown)),
        ("a3", "down", state(Admin::Enabled, Health::Down)),
    ] {
        let flows: Vec<_> = (0..300)
            .map(|_| FlowQuery {
                protocol: Protocol::Tcp,
                client: SocketAddr::from(([198, 51, 100, random.random()], random.random_range(1024..=u16::MAX))),
                vip: "192.0.2.10:443".parse().unwrap(),
            })
            .collect();
        let assumption = format!("{name}={word}");
        let assumed: Vec<_> = flows.iter().map(|flow| rig.explain(*flow, &[&assumption])).collect();
        rig.set(name, to);
        for (flow, assumed) in flows.iter().zip(assumed) {
            let now = rig.explain(*flow, &[]);
            assert_eq!(
                (assumed.pools, assumed.pick, assumed.starts),
                (now.pools, now.pick, now.starts),
                "{assumption} {flow:?}"
            );
        }
    }
}

#[test]
fn a_flow_has_two_ends() {
    let web = query(Protocol::Tcp, "[2001:db8::7]:1", "[2001:db8::10]:443");
    let expected = FlowEnds { client: web.client.ip(), client_port: 1, vip: web.vip.ip(), port: 443, protocol: 6 };
    assert_eq!(web.ends(), expected);
}
