//! XDP programs for the far ends of a load balancer's cables: one passes all packets; the other drops them, as a cable
//! that is cut while the link stays up.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};

use crate::lab::{bpf::Program, netns::Netns};

/// `r0 = XDP_PASS; exit` and `r0 = XDP_DROP; exit` in the kernel's instruction format.
static PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
static DROP: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];

/// `BPF_PROG_TYPE_XDP`, `BPF_XDP`.
const KIND: u32 = 6;
const ATTACH_TYPE: u32 = 37;

/// A program on an interface; detached on drop.
#[derive(Debug)]
pub struct XdpPass {
    _link: OwnedFd,
}

impl XdpPass {
    /// Attaches the program that passes to `interface` in `netns`, in native mode.
    pub fn attach(netns: &Netns, interface: &str) -> Result<Self> {
        attach(&PASS, netns, interface)
    }

    /// Attaches the program that drops to `interface` in `netns`, in native mode.
    pub fn drop_all(netns: &Netns, interface: &str) -> Result<Self> {
        attach(&DROP, netns, interface)
    }
}

fn attach(code: &'static [u64; 2], netns: &Netns, interface: &str) -> Result<XdpPass> {
    let program = Program { kind: KIND, code, attach_type: ATTACH_TYPE };
    let attached = netns.within(|| program.attach(interface))?;
    Ok(XdpPass { _link: attached.with_context(|| format!("XDP on {interface} in {}", netns.name()))? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_are_what_they_are_meant_to_be() {
        // opcode, registers, offset (16 bits), immediate (32 bits)
        assert_eq!(PASS.map(u64::to_le_bytes), [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]]);
    }
}
