//! Packets that need a longer look: fragments, ICMP errors, and what follows from them, through host and kernel.

use edge_common::exit::Exit;
use edge_tests::{
    both::{Both, Way},
    cases::{
        Scene,
        scene::{from_client, port, udp, with_ip},
    },
    namespace::in_namespace,
    world::Side,
};

/// Runs `test` on a scene that was changed.
fn with_scene(change: impl FnOnce(&mut Scene), test: impl FnOnce(&Scene, &mut Both) + Send) {
    let mut scene = Scene::new();
    change(&mut scene);
    in_namespace(|| {
        let mut both = Both::new(scene.world.clone());
        test(&scene, &mut both);
        both.settle().unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn no_more_errors_are_sent_than_a_second_allows() {
    with_scene(
        |scene| scene.world.errors_per_second = 0,
        |_, both| {
            for side in Side::BOTH {
                let unreachable = from_client(side, udp(port::REJECT));
                let expired = with_ip(from_client(side, udp(port::DSR)), |ip| ip.ttl = 1);
                for frame in [unreachable, expired] {
                    assert_eq!(both.run(&frame.bytes()).way, Way::Edge(Exit::ErrorLimited));
                }
            }
        },
    );
}
