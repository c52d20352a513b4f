//! Loads and attaches programs of two instructions by bare system calls, so that the lab needs neither a compiler nor a
//! loader for them.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use anyhow::{Context as _, Result};
use bytemuck::{Pod, Zeroable};
use nix::net::if_::if_nametoindex;

const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;

static LICENSE: [u8; 4] = *b"MIT\0";

/// A program in the form that the kernel takes.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) kind: u32,
    /// `r0 = NUMBER; exit`.
    pub(super) code: &'static [u64; 2],
    pub(super) attach_type: u32,
}

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel assumes zeros for the rest.
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

impl Program {
    /// Loads the program, and attaches it to an interface of the calling thread's namespace. Closing the link detaches
    /// it.
    pub(super) fn attach(&self, interface: &str) -> Result<OwnedFd> {
        let load = ProgLoad {
            kind: self.kind,
            instructions: u32::try_from(self.code.len())?,
            code: self.code.as_ptr().expose_provenance() as u64,
            license: LICENSE.as_ptr().expose_provenance() as u64,
        };
        let program = bpf(PROG_LOAD, &load).context("could not load a program")?;
        let create = LinkCreate {
            program: u32::try_from(program.as_raw_fd())?,
            interface: if_nametoindex(interface)?,
            attach_type: self.attach_type,
            flags: 0,
        };
        bpf(LINK_CREATE, &create).context("could not attach it")
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
