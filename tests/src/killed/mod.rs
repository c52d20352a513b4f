//! Kills an operation at each of its steps, one run for each: what is left must be good at every one of them.
//!
//! A step is what others can see: a store into a map's memory ([`Step::Store`]), or a system call ([`Step::Call`]).

mod call;
#[cfg(target_arch = "x86_64")]
mod store;

use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

/// Where a run ends. The first is 1, and the run is killed before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into the memory of a map that is open when the run begins, by the thread that began it.
    Store(u32),
    /// Of any thread. Calls that change nothing outside the process are not counted: who is killed before one leaves what one
    /// leaves who is killed before the next.
    Call(u32),
}

/// Runs `operation` in a process of its own, which has all that this one has, and is killed at `step`. Returns whether it was: it
/// may end before. All it can change is outside of it.
///
/// # Panics
/// It fails otherwise.
pub fn killed_at(step: Step, operation: impl FnOnce()) -> bool {
    match step {
        #[cfg(target_arch = "x86_64")]
        Step::Store(number) => {
            let child = run(|| {
                store::kill_before(number);
                operation();
            });
            was_killed(waitpid(child, None).expect("it is a child"))
        }
        #[cfg(not(target_arch = "x86_64"))]
        Step::Store(_) => panic!("stores are counted on x86_64 only"),
        Step::Call(number) => {
            let child = run(|| {
                call::wait_for_tracer();
                operation();
            });
            was_killed(call::kill_before(number, child))
        }
    }
}

/// Runs `operation` in a process of its own, which has all that this one has, and looks at what is there before each of its stores:
/// it is what a process leaves that is killed there. Returns how many there were.
///
/// # Panics
/// It fails, or `look` does.
pub fn before_each_store(operation: impl FnOnce(), mut look: impl FnMut(u32)) -> u32 {
    let child = run(|| {
        #[cfg(target_arch = "x86_64")]
        store::stop_before_each();
        #[cfg(not(target_arch = "x86_64"))]
        panic!("stores are counted on x86_64 only");
        operation();
    });
    let killed_if_dropped = Killed(child);
    let mut stores = 0;
    loop {
        let state = waitpid(child, Some(WaitPidFlag::WUNTRACED)).expect("it is a child");
        if !matches!(state, WaitStatus::Stopped(_, Signal::SIGSTOP)) {
            std::mem::forget(killed_if_dropped);
            assert_eq!(state, WaitStatus::Exited(child, 0), "it ended otherwise");
            return stores;
        }
        stores += 1;
        look(stores);
        kill(child, Signal::SIGCONT).expect("it is there");
    }
}

/// A process that does not outlive a test that fails.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended = kill(self.0, Signal::SIGKILL).and_then(|()| waitpid(self.0, None));
    }
}

fn run(operation: impl FnOnce()) -> Pid {
    // SAFETY: the child has this thread alone. What it calls takes locks of the allocator, which are released at a fork, and
    // those that a test of its own thread uses.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let ended = catch_unwind(AssertUnwindSafe(operation));
            // SAFETY: it touches no memory. What is to be done at an exit is for the process that this one is a copy of.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
    }
}

fn was_killed(ended: WaitStatus) -> bool {
    match ended {
        WaitStatus::Signaled(_, Signal::SIGKILL, _) => true,
        WaitStatus::Exited(_, 0) => false,
        WaitStatus::Exited(..)
        | WaitStatus::Signaled(..)
        | WaitStatus::Stopped(..)
        | WaitStatus::PtraceEvent(..)
        | WaitStatus::PtraceSyscall(_)
        | WaitStatus::Continued(_)
        | WaitStatus::StillAlive => panic!("it ended otherwise: {ended:?}"),
    }
}
