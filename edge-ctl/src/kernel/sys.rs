//! The few system calls that no library here has.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    thread,
    time::Duration,
};

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// Interface index of the XDP link pinned at `path`; 0 when its interface is gone.
pub(super) fn link_interface(path: &Path) -> io::Result<u32> {
    let link = open_pin(path)?;
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd()))?;
    text.lines()
        .find_map(|line| line.strip_prefix("ifindex:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an XDP link"))
}

fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `bpf_attr` is a union of integers and arrays of them; zero is a value of each, and what the kernel wants in
    // all that a command does not use.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: BPF_OBJ_GET reads a zero-terminated string at `pathname`, which `path` keeps alive until after the call, and
    // no more of `attr` than the size given.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_OBJ_GET, &raw const attr, size_of::<bpf_attr>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Waits until no packet is in the packet path that was in it when this was called.
pub(super) fn wait_for_packets() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes three integers and touches no memory of ours. Its "global" command waits for a grace
    // period of RCU, under which every XDP program runs.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result != 0 {
        // Not there on kernels with tick-less CPUs: far longer than any packet takes.
        thread::sleep(Duration::from_millis(50));
    }
}
