//! Loads the programs with this kernel's verifier, and attaches them in each mode.

use aya::programs::XdpMode;
use edge_common::abi::program;
use edge_tests::{
    cases::Scene,
    namespace::{EDGE0, in_namespace},
    shared::Shared,
};

/// The most instructions that a verifier may process in a program. The kernel's limit is a million, and verifiers
/// differ in their counts.
const MOST: u32 = 700_000;

/// A single test, since loading takes most of the time.
#[test]
fn programs_load_and_attach_native_and_generic() {
    in_namespace(|| {
        // With the maps of the case table: where one thread runs both tests, as in an emulated guest, the verifier runs
        // once.
        let mut kernel = Shared::load(&Scene::new().world.memory());
        for name in [program::EDGE, program::NAT, program::DECAP] {
            // Available since Linux 5.16.
            if let Some(verified) = kernel.verified(name) {
                println!("{name}: {verified} instructions verified");
                edge_tests::figure(&format!("verified_{name}"), verified.into());
                assert!(
                    verified <= MOST,
                    "`{name}` has {verified} instructions verified; split it, the limit is {MOST}"
                );
            }
            for mode in [XdpMode::Driver, XdpMode::Skb] {
                let xdp = kernel.program_mut(name);
                let link = xdp.attach_to_if_index(EDGE0, mode);
                let link = link.unwrap_or_else(|error| panic!("{name}, {mode:?}: {error:#}"));
                xdp.detach(link).unwrap_or_else(|error| panic!("{name}, {mode:?}: {error:#}"));
            }
        }
    });
}
