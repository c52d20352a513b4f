//! Counts a process's system calls by tracing it.

use std::{mem::zeroed, ptr};

use libc::{c_int, c_long, c_void};
use nix::{
    sys::{
        signal::{Signal, kill, raise},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Called in the child process: makes the thread that forked the child its tracer, and stops.
pub(super) fn wait_for_tracer() {
    trace(libc::PTRACE_TRACEME, Pid::from_raw(0), 0, 0).expect("nobody else traces it");
    raise(Signal::SIGSTOP).expect("it stops");
}

/// Kills the process before its system call with this number, and waits for the process to end.
pub(super) fn kill_before(number: u32, process: Pid) -> WaitStatus {
    waitpid(process, None).expect("it stops");
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACECLONE;
    trace(libc::PTRACE_SETOPTIONS, process, 0, options.into()).expect("it is stopped");
    go_on(process, 0);
    let mut left = number;
    loop {
        // Only children of this thread: other tests have children as well.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = waitpid(Pid::from_raw(-1), Some(flags)).expect("there is the process");
        match status {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) if pid == process => return status,
            WaitStatus::PtraceSyscall(thread) => {
                if left > 0 && is_step(thread) {
                    left -= 1;
                    if left == 0 {
                        kill(process, Signal::SIGKILL).expect("it is there");
                    }
                }
                go_on(thread, 0);
            }
            // A new thread stops once, and so does the thread that created it.
            WaitStatus::Stopped(thread, Signal::SIGSTOP) | WaitStatus::PtraceEvent(thread, _, _) => go_on(thread, 0),
            WaitStatus::Stopped(thread, signal) => go_on(thread, signal as c_int),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) | WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
        }
    }
}

fn go_on(thread: Pid, signal: c_int) {
    // The thread may have been killed meanwhile; the error is ignored.
    let _gone = trace(libc::PTRACE_SYSCALL, thread, 0, signal.into());
}

/// Whether the thread is about to make a call that changes anything outside its process.
fn is_step(thread: Pid) -> bool {
    // SAFETY: the struct consists of integers, for which zero is a valid value.
    let mut info: libc::ptrace_syscall_info = unsafe { zeroed() };
    let size = size_of_val(&info).cast_signed() as c_long;
    if trace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, ptr::from_mut(&mut info) as c_long).is_err()
        || info.op != libc::PTRACE_SYSCALL_INFO_ENTRY
    {
        return false;
    }
    // SAFETY: `op` states that this field of the union is valid.
    let entry = unsafe { info.u.entry };
    changes(entry.nr.cast_signed(), &entry.args)
}

/// Whether a call changes anything outside the process; unknown calls count as changing.
fn changes(call: c_long, arguments: &[u64; 6]) -> bool {
    match call {
        libc::SYS_bpf => !READING.contains(&arguments[0]),
        libc::SYS_openat => arguments[2] & u64::from((libc::O_CREAT | libc::O_TRUNC).cast_unsigned()) != 0,
        _ => !SILENT.contains(&call),
    }
}

/// Commands of `bpf` that only read, or create an object that ends with its descriptor.
const READING: [u64; 14] = [
    0,  // BPF_MAP_CREATE
    1,  // BPF_MAP_LOOKUP_ELEM
    4,  // BPF_MAP_GET_NEXT_KEY
    5,  // BPF_PROG_LOAD
    7,  // BPF_OBJ_GET
    11, // BPF_PROG_GET_NEXT_ID
    12, // BPF_MAP_GET_NEXT_ID
    13, // BPF_PROG_GET_FD_BY_ID
    14, // BPF_MAP_GET_FD_BY_ID
    15, // BPF_OBJ_GET_INFO_BY_FD
    18, // BPF_BTF_LOAD
    19, // BPF_BTF_GET_FD_BY_ID
    30, // BPF_LINK_GET_FD_BY_ID
    31, // BPF_LINK_GET_NEXT_ID
];

/// Calls that change nothing outside the process, or only what ends with it.
const SILENT: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_prctl,
    libc::SYS_exit,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getrandom,
    libc::SYS_getrlimit,
    libc::SYS_prlimit64,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd2,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_membarrier,
];

fn trace(request: libc::c_uint, thread: Pid, at: c_long, data: c_long) -> nix::Result<()> {
    // SAFETY: the request reads and writes the other process's memory, or the caller's own `info`, whose size is `at`.
    let result = unsafe { libc::ptrace(request, thread.as_raw(), at as *mut c_void, data as *mut c_void) };
    nix::errno::Errno::result(result).map(drop)
}
