//! A port that another service takes over, with flows that are recorded. Needs root.

use edge_tests::packet::{ACK, SYN};

use super::{
    super::Rehearser,
    killed::{Scene, next, without_rehearsal},
};
use crate::{
    bpf::PinnedMaps,
    control::fixture::finish_transitions,
    health::Health,
    plan::{Admin, state},
};

const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
slots = 1024
[limits]
services = 3
pools = 2
backends = 8
[tunnel]
source_v4 = "10.0.0.1"
[[interface]]
name = "lo"
[[pool]]
name = "one"
backend = [{ name = "a", address = "10.1.0.1" }, { name = "b", address = "10.1.0.2" }]
[[pool]]
name = "two"
backend = [{ name = "x", address = "10.1.0.8" }]
[[service]]
name = "web"
vips = ["192.0.2.1"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["one"]
[[service]]
name = "other"
vips = ["192.0.2.1"]
ports = ["81/tcp"]
mode = "ipip"
pools = ["two"]
"#;
/// Address of the first client, and number of clients.
const CLIENTS: (u32, u32) = (0xcb00_7100, 64);

fn drain(maps: &mut PinnedMaps, name: &str) {
    let number = maps.snapshot().unwrap().unwrap().backend(name).unwrap().number;
    maps.set_state(number, state(Admin::Drained, Health::Up), "a test").unwrap();
}

/// The publication changes no pick of the service that takes the port, whose slots nobody looked at.
#[test]
fn recorded_flows_stay_when_another_service_takes_their_port() {
    let scene = Scene::new(TEXT);
    let (mut maps, inventory, history) = scene.reopen();
    finish_transitions(&mut maps, &inventory);
    let (first, count) = CLIENTS;
    let homes = |scene: &Scene| (0..count).map(|client| scene.served(first + client, ACK)).collect::<Vec<_>>();
    let before = homes(&scene);
    drain(&mut maps, "one/a");
    let recorded: Vec<_> = before.iter().map(|home| *home == 1).collect();
    assert_eq!(homes(&scene), before);
    assert!(recorded.contains(&true), "flows at the drained backend are recorded");
    let moved = TEXT.replace("80/tcp", "82/tcp").replace("81/tcp", "80/tcp");
    without_rehearsal(&mut maps, &inventory, history, next(&moved), &mut Rehearser::default());
    let after = homes(&scene);
    for (client, recorded) in recorded.into_iter().enumerate() {
        // A flow without a record is the service's that has its port.
        assert_eq!(after[client], if recorded { 1 } else { 8 }, "client {client}");
    }
    assert_eq!(scene.served(first + count, SYN), 8);
}
