//! Counts a process's stores into the memory of maps. This memory is read-only, so that each store is a fault. The
//! handler makes its page writable for a single step of one instruction, and read-only again after it.

use std::{
    fs,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
};

use libc::{PROT_READ, PROT_WRITE, REG_EFL, c_int, c_void, siginfo_t, ucontext_t};

/// Bytes of a page of memory.
const PAGE: usize = 4096;
/// Flag that makes the processor trap after the next instruction.
const TRAP_FLAG: i64 = 0x100;

static MAPS: OnceLock<Vec<Memory>> = OnceLock::new();
/// Stores left before the process is killed.
static LEFT: AtomicU32 = AtomicU32::new(0);

/// Address that is stored to in the present step.
static WRITABLE: AtomicUsize = AtomicUsize::new(0);

/// Whether the process stops before each store.
static STOPS: AtomicBool = AtomicBool::new(false);

/// The memory of a map.
#[derive(Clone, Copy, Debug)]
struct Memory {
    start: usize,
    length: usize,
}

impl Memory {
    /// The page of a map with this address, and the one behind it, since a store may reach into that. The whole map would
    /// take longer, and thousands of stores are stepped over in each run.
    fn written_at(address: usize) -> Option<Self> {
        let end = |map: &Self| map.start + map.length;
        let map = MAPS.get()?.iter().find(|map| (map.start..end(map)).contains(&address))?;
        let start = address & !(PAGE - 1);
        Some(Self { start, length: (2 * PAGE).min(end(map) - start) })
    }

    fn allow(self, access: c_int) {
        // SAFETY: the range is that of a map according to the kernel, and it stays mapped for as long as the process
        // runs.
        let result = unsafe { libc::mprotect(self.start as *mut c_void, self.length, access) };
        assert_eq!(result, 0, "the memory of a map changes its protection");
    }
}

/// The maps that are mapped into this process and writable.
fn maps() -> Vec<Memory> {
    let text = fs::read_to_string("/proc/self/maps").expect("the mappings of this process");
    let writable = text.lines().filter(|line| line.ends_with("bpf-map") && line.contains(" rw-s "));
    let memory = writable.map(|line| {
        let (start, rest) = line.split_once('-').expect("a range");
        let (end, _) = rest.split_once(' ').expect("a range");
        let [start, end] = [start, end].map(|at| usize::from_str_radix(at, 16).expect("an address"));
        Memory { start, length: end - start }
    });
    memory.collect()
}

/// From now on the process is killed before its store with this number.
pub(super) fn kill_before(number: u32) {
    LEFT.store(number, Ordering::Relaxed);
    watch();
}

/// From now on the process stops before each of its stores.
pub(super) fn stop_before_each() {
    STOPS.store(true, Ordering::Relaxed);
    watch();
}

fn watch() {
    let maps = MAPS.get_or_init(maps);
    assert!(!maps.is_empty(), "no map is open");
    handle(libc::SIGSEGV, before);
    handle(libc::SIGTRAP, behind);
    for map in maps {
        map.allow(PROT_READ);
    }
}

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

fn handle(signal: c_int, handler: Handler) {
    // SAFETY: zero is valid for each field; the handlers touch atomics, the context that they receive, and the memory
    // of maps.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(signal, &raw const action, std::ptr::null_mut())
    };
    assert_eq!(result, 0, "a signal's handler");
}

extern "C" fn before(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid `siginfo_t` with the fault's address.
    let address = unsafe { (*info).si_addr() } as usize;
    let Some(memory) = Memory::written_at(address) else {
        // An ordinary fault: it repeats, and ends the process.
        // SAFETY: this restores the default handler.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    let stops = STOPS.load(Ordering::Relaxed);
    if stops || LEFT.fetch_sub(1, Ordering::Relaxed) == 1 {
        let signal = if stops { libc::SIGSTOP } else { libc::SIGKILL };
        // SAFETY: `kill` touches no memory.
        unsafe { libc::kill(libc::getpid(), signal) };
    }
    memory.allow(PROT_READ | PROT_WRITE);
    WRITABLE.store(address, Ordering::Relaxed);
    step(context, true);
}

extern "C" fn behind(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    if let Some(memory) = Memory::written_at(WRITABLE.load(Ordering::Relaxed)) {
        memory.allow(PROT_READ);
    }
    step(context, false);
}

fn step(context: *mut c_void, one: bool) {
    // SAFETY: the kernel passes a valid context, which the handler may change.
    let context = unsafe { &mut *context.cast::<ucontext_t>() };
    let flags = &mut context.uc_mcontext.gregs[REG_EFL as usize];
    *flags = if one { *flags | TRAP_FLAG } else { *flags & !TRAP_FLAG };
}
