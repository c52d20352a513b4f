//! What each kernel's verifier makes of the programs, and where they can be attached.

use aya::programs::XdpMode;
use edge_common::abi::program;
use edge_tests::{
    cases::Scene,
    namespace::{EDGE0, in_namespace},
    shared::Shared,
};

/// The most instructions that a verifier may look at in a program: the limit is a million, and each verifier comes to another
/// number.
const MOST: u32 = 750_000;

/// One test, since loading is what takes its time.
#[test]
fn programs_load_and_attach_native_and_generic() {
    in_namespace(|| {
        // With the maps of the table of cases: where one thread runs both, as in an emulated guest, the verifier works once.
        let mut kernel = Shared::load(&Scene::new().world.memory());
        for name in [program::EDGE, program::NAT, program::DECAP] {
            // Linux 5.16 is the first to say.
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
