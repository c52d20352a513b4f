//! The few system calls that no library here has.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr, thread,
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

/// Takes the program of the link pinned at `path` off its interface before this returns. Removing the pin alone does so
/// at some later moment, and an interface that is not free yet refuses the next link.
pub(super) fn detach_link(path: &Path) -> io::Result<()> {
    let link = open_pin(path)?;
    let mut attr = no_attr();
    attr.link_detach.link_fd = link.as_raw_fd().unsigned_abs();
    // SAFETY: BPF_LINK_DETACH reads a descriptor, no pointer; `link` keeps it open.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &attr)? };
    Ok(())
}

/// What the kernel wants in all that a command does not use.
fn no_attr() -> bpf_attr {
    // SAFETY: `bpf_attr` is a union of structs of integers; zero is a value of each.
    unsafe { std::mem::zeroed() }
}

fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = no_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: BPF_OBJ_GET reads a zero-terminated string at `pathname`, which `path` keeps alive until after the call.
    let fd = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &attr)? };
    // SAFETY: the call returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs a bpf command.
///
/// # Safety
/// The pointers that the command reads from `attr` must be good until it returns.
unsafe fn bpf(command: bpf_cmd, attr: &bpf_attr) -> io::Result<i32> {
    // SAFETY: the kernel reads no more of `attr` than the size given; what it points to is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_ref(attr), size_of::<bpf_attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
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
