//! The system calls on XDP links that no library here has.

use std::{fs, io, os::fd::AsRawFd as _, path::Path};

use aya_obj::generated::bpf_cmd;

use crate::bpf::sys::{bpf, no_attr, open_pin};

/// Interface index of the XDP link pinned at `path`; 0 when its interface is gone.
pub(super) fn link_interface(path: &Path) -> io::Result<u32> {
    let link = open_pin(path)?;
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("ifindex:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an XDP link"))
}

/// Takes the program of the link pinned at `path` off its interface before this returns. Removing the pin alone does so
/// at some later moment, and an interface that is not free yet refuses the next link.
pub(super) fn detach_link(path: &Path) -> io::Result<()> {
    let link = open_pin(path)?;
    let mut attr = no_attr();
    attr.link_detach.link_fd = link.as_raw_fd().unsigned_abs();
    // SAFETY: BPF_LINK_DETACH reads a descriptor, no pointer; `link` keeps it open.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr)? };
    Ok(())
}
