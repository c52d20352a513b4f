//! What each kernel's verifier makes of the programs.

use edge_common::{abi::program, host::Memory};
use edge_tests::kernel::{self, FRAGMENTS, Kernel};

/// The most instructions that a verifier may look at in a program: the limit is a million, and each verifier comes to another
/// number.
const MOST: u32 = 700_000;

#[test]
fn the_verifier_takes_the_programs_with_room_to_spare() {
    let kernel = Kernel::load(&kernel::sizes(&Memory::default(), FRAGMENTS));
    for name in [program::EDGE, program::DECAP] {
        // Linux 5.16 is the first to say.
        if let Some(verified) = kernel.verified(name) {
            println!("{name}: {verified} instructions verified");
            edge_tests::figure(&format!("verified_{name}"), verified.into());
            assert!(verified <= MOST, "`{name}` has {verified} instructions verified; split it, the limit is {MOST}");
        }
    }
}
