//! tc programs of somebody else: as many as the kernel allows on an interface, so that another one is refused, or one that
//! ends the chain.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};

use crate::lab::{bpf::Program, netns::Netns};

/// `r0 = TCX_NEXT; exit`: the next program decides.
static NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];

/// `r0 = TCX_PASS; exit`: no other program decides.
static PASS: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// A program of `BPF_PROG_TYPE_SCHED_CLS`, for `BPF_TCX_INGRESS`.
const fn program(code: &'static [u64; 2]) -> Program {
    Program { kind: 3, code, attach_type: 46 }
}

/// `BPF_MPROG_MAX`.
const MOST: usize = 64;

/// The attached programs, at ingress; detached on drop.
#[derive(Debug)]
pub struct TcCrowd {
    _links: Vec<OwnedFd>,
}

impl TcCrowd {
    /// Attaches programs to `interface` in `netns` until none fits. Needs TCX links, hence Linux 6.6.
    pub fn on(netns: &Netns, interface: &str) -> Result<Self> {
        let fill = || -> Result<_> {
            let first = program(&NEXT).attach(interface)?;
            let others = std::iter::repeat_with(|| program(&NEXT).attach(interface));
            Ok(std::iter::once(first).chain(others.take(MOST).map_while(Result::ok)).collect())
        };
        let links = netns.within(fill)?;
        Ok(Self { _links: links.with_context(|| format!("tc programs on {interface} in {}", netns.name()))? })
    }

    /// Attaches one program, which accepts every packet and asks no program after it. Needs Linux 6.6, too.
    pub fn ending(netns: &Netns, interface: &str) -> Result<Self> {
        let link = netns.within(|| program(&PASS).attach(interface))?;
        Ok(Self { _links: vec![link.with_context(|| format!("a tc program on {interface} in {}", netns.name()))?] })
    }
}
