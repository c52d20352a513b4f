//! Fills an interface with as many tc programs as the kernel allows, so that another one is refused.

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result};

use crate::lab::{bpf::Program, netns::Netns};

/// `r0 = TCX_NEXT; exit`: the next program decides.
static NEXT: [u64; 2] = [0xffff_ffff_0000_00b7, 0x0000_0000_0000_0095];

/// `BPF_PROG_TYPE_SCHED_CLS`, `BPF_TCX_INGRESS`.
static PROGRAM: Program = Program { kind: 3, code: &NEXT, attach_type: 46 };

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
            let first = PROGRAM.attach(interface)?;
            let others = std::iter::repeat_with(|| PROGRAM.attach(interface));
            Ok(std::iter::once(first).chain(others.take(MOST).map_while(Result::ok)).collect())
        };
        let links = netns.within(fill)?;
        Ok(Self { _links: links.with_context(|| format!("tc programs on {interface} in {}", netns.name()))? })
    }
}
