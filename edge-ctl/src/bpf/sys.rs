//! System calls without a wrapper in the libraries used here.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    ptr, thread,
    time::Duration,
};

use aya_obj::generated::{bpf_attr, bpf_cmd};

/// Zeros, which the kernel requires in every field that a command does not use.
pub(crate) fn no_attr() -> bpf_attr {
    // SAFETY: `bpf_attr` is a union of structs of integers; zero is a value of each.
    unsafe { std::mem::zeroed() }
}

/// Opens the object pinned at `path`.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = no_attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: BPF_OBJ_GET reads a zero-terminated string at `pathname`, which `path` keeps alive until after the call.
    let fd = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &mut attr)? };
    // SAFETY: the call returned a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Runs an XDP program once on a frame, as if it had arrived on the loopback interface. Returns the program's verdict;
/// `out` receives the resulting frame.
pub(crate) fn test_run(program: BorrowedFd<'_>, frame: &[u8], out: &mut Vec<u8>) -> io::Result<u32> {
    loop {
        out.clear();
        // Room for the headers that a program may prepend.
        out.resize(frame.len() + 256, 0);
        let mut attr = no_attr();
        attr.test.prog_fd = program.as_raw_fd().unsigned_abs();
        attr.test.repeat = 1;
        attr.test.data_in = frame.as_ptr() as u64;
        attr.test.data_size_in = u32::try_from(frame.len()).map_err(io::Error::other)?;
        attr.test.data_out = out.as_mut_ptr() as u64;
        attr.test.data_size_out = u32::try_from(out.len()).map_err(io::Error::other)?;
        // SAFETY: BPF_PROG_TEST_RUN reads `data_size_in` bytes at `data_in` and writes up to `data_size_out` at `data_out`; both
        // buffers are as long, and outlive the call.
        match unsafe { bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr) } {
            Ok(_) => {
                // SAFETY: the command writes both; they are integers either way.
                let (verdict, length) = unsafe { (attr.test.retval, attr.test.data_size_out) };
                out.truncate(length as usize);
                return Ok(verdict);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Runs a bpf command.
///
/// # Safety
/// The memory that the command accesses through pointers in `attr` must be valid until it returns.
pub(crate) unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the kernel uses no more of `attr` than the size given; what it points to is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, ptr::from_mut(attr), size_of::<bpf_attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// Waits until every packet has left the packet path that was in it at the time of the call.
pub(super) fn wait_for_packets() {
    const GLOBAL: libc::c_int = 1;
    // SAFETY: membarrier takes three integers and touches no memory of ours. Its "global" command waits for an RCU grace
    // period, and every XDP program runs under RCU.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
    if result != 0 {
        // Unavailable on kernels with tick-less CPUs: sleep for far longer than any packet takes.
        thread::sleep(Duration::from_millis(50));
    }
}
