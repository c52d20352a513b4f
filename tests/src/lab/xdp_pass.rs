//! An XDP program that passes everything, for the far ends of a load balancer's cables.
//!
//! Loaded by bare system calls: two instructions are no reason to bring a compiler or a loader into the lab.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result};
use bytemuck::{Pod, Zeroable};
use nix::net::if_::if_nametoindex;

use crate::lab::netns::Netns;

const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;

/// `r0 = XDP_PASS; exit`, as the kernel's instruction format has it.
static PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
static LICENSE: [u8; 4] = *b"MIT\0";

/// The program on an interface, until this is dropped.
#[derive(Debug)]
pub struct XdpPass {
    /// Closing the link takes the program off.
    _link: OwnedFd,
}

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`; what follows in the kernel's is zero.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ProgLoad {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
}

/// The start of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

impl XdpPass {
    /// Attaches the program to `interface` in `netns`, in the driver.
    pub fn attach(netns: &Netns, interface: &str) -> Result<Self> {
        netns
            .within(|| -> Result<Self> {
                let load = ProgLoad {
                    kind: PROG_TYPE_XDP,
                    instructions: u32::try_from(PROGRAM.len())?,
                    code: PROGRAM.as_ptr().expose_provenance() as u64,
                    license: LICENSE.as_ptr().expose_provenance() as u64,
                };
                let program = bpf(PROG_LOAD, &load).context("could not load a program")?;
                let create = LinkCreate {
                    program: u32::try_from(program.as_raw_fd())?,
                    interface: if_nametoindex(interface)?,
                    attach_type: ATTACH_TYPE_XDP,
                    flags: 0,
                };
                Ok(Self { _link: bpf(LINK_CREATE, &create).context("could not attach it")? })
            })?
            .with_context(|| format!("XDP on {interface} in {}", netns.name()))
    }
}

/// `bpf(2)` for the commands that return a file descriptor.
fn bpf<T: Pod>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `attributes`, which are all initialised (`Pod`), and what their
    // pointers point to, which is static; it writes nothing for these commands.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: both commands return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_instructions_are_what_they_are_meant_to_be() {
        // opcode, registers, offset (16 bits), immediate (32 bits)
        assert_eq!(PROGRAM.map(u64::to_le_bytes), [[0xb7, 0, 0, 0, 2, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]]);
    }
}
