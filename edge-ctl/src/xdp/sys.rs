//! System calls for XDP programs and links, without a wrapper in the libraries used here.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::Path,
    ptr,
};

use aya_obj::generated::{bpf_cmd, bpf_insn, bpf_link_info, bpf_link_type, bpf_prog_type};

use crate::bpf::{
    if_present,
    sys::{bpf, no_attr, open_pin},
};

/// The two ends of an XDP link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkEnds {
    /// Index of the link's interface; 0 if that is gone.
    pub(super) interface: u32,
    /// Kernel ID of the link's program.
    pub(super) program: u32,
}

/// The ends of the XDP link pinned at `path`; `None` if there is no pin. Uses one descriptor during the call.
pub(super) fn link_ends(path: &Path) -> io::Result<Option<LinkEnds>> {
    let Some(link) = if_present(open_pin(path))? else { return Ok(None) };
    // SAFETY: a struct of integers and a union of such; zero is a valid value.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attr = no_attr();
    attr.info.bpf_fd = link.as_raw_fd().unsigned_abs();
    attr.info.info_len = u32::try_from(size_of_val(&info)).map_err(io::Error::other)?;
    attr.info.info = ptr::from_mut(&mut info) as u64;
    // SAFETY: the command writes at most `info_len` bytes at `info`, which lives until after the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)? };
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an XDP link"));
    }
    // SAFETY: for an XDP link the kernel writes the index; it is an integer either way.
    let interface = unsafe { info.__bindgen_anon_1.xdp.ifindex };
    Ok(Some(LinkEnds { interface, program: info.prog_id }))
}

/// Detaches the link pinned at `path` from its interface before it returns. If only the pin were removed, the kernel
/// would detach the link at some later time, and an interface that is not free yet refuses the next link.
///
/// If the pin is not of a link, nothing is done: removing the pin is enough.
pub(super) fn detach_link(path: &Path) -> io::Result<()> {
    let Some(link) = if_present(open_pin(path))? else { return Ok(()) };
    let mut attr = no_attr();
    attr.link_detach.link_fd = link.as_raw_fd().unsigned_abs();
    // SAFETY: BPF_LINK_DETACH reads a descriptor, no pointer; `link` keeps it open.
    match unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr) } {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Err(error),
        _ => Ok(()),
    }
}

/// Replaces the program `old` by `new` in the link pinned at `path`, between two packets, if it has `old`.
/// Returns whether it had.
pub(super) fn replace_in_link(path: &Path, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> io::Result<bool> {
    const BPF_F_REPLACE: u32 = 4;
    let Some(link) = if_present(open_pin(path))? else { return Ok(false) };
    let mut attr = no_attr();
    attr.link_update.link_fd = link.as_raw_fd().unsigned_abs();
    attr.link_update.__bindgen_anon_1.new_prog_fd = new.as_raw_fd().unsigned_abs();
    attr.link_update.flags = BPF_F_REPLACE;
    attr.link_update.__bindgen_anon_2.old_prog_fd = old.as_raw_fd().unsigned_abs();
    // SAFETY: BPF_LINK_UPDATE reads descriptors, no pointer; all stay open during the call.
    match unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr) } {
        Ok(_) => Ok(true),
        // EPERM: another program is in the link (`bpf_xdp_link_update`); ENOLINK: its interface is gone.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOLINK)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// An instruction without a source register (or with `r0` as the source).
pub(super) fn instruction(code: u8, destination: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn { code, _bitfield_align_1: [], _bitfield_1: bpf_insn::new_bitfield_1(destination, 0), off, imm }
}

/// Loads an XDP program with these instructions.
pub(super) fn load_xdp(instructions: &[bpf_insn]) -> io::Result<OwnedFd> {
    let mut attr = no_attr();
    attr.__bindgen_anon_3.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
    attr.__bindgen_anon_3.insns = instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    attr.__bindgen_anon_3.license = c"GPL".as_ptr() as u64;
    // SAFETY: BPF_PROG_LOAD reads `insn_cnt` instructions at `insns` and a zero-terminated string at `license`; both outlive
    // the call.
    let fd = unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr)? };
    // SAFETY: the call returned a new descriptor without another owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
