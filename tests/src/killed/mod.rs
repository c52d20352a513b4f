//! Kills an operation at each of its steps, one run per step: the state that is left must be valid at every step.
//!
//! A step is what other processes can observe: a store into a map's memory ([`Step::Store`]), or a system call
//! ([`Step::Call`]).

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

/// The step before which a run is killed. The first step is number 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A store into the memory of a map that is open when the run begins, by the thread that began the run.
    Store(u32),
    /// A system call of any thread. Calls that change nothing outside the process are not counted: a kill before such a
    /// call leaves the same state as a kill before the next call.
    Call(u32),
}

/// Runs `operation` in a forked process, which is killed at `step`. Returns whether the process was killed: it may end
/// earlier. The operation can only change what is outside of its process.
///
/// # Panics
/// If the process ends in any other way.
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

/// Runs `operation` in a forked process, and calls `look` before each of its stores: the state is then the one that a
/// kill at this store would leave. Returns the number of stores.
///
/// # Panics
/// If the process fails, or `look` does.
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

/// A process that is killed when dropped, so that it does not outlive a failed test.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ended = kill(self.0, Signal::SIGKILL).and_then(|()| waitpid(self.0, None));
    }
}

fn run(operation: impl FnOnce()) -> Pid {
    // SAFETY: the child has only this thread. The locks that it takes are the allocator's, which are released at a
    // fork, and those of the test's own thread.
    match unsafe { fork() }.expect("a process") {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            let ended = catch_unwind(AssertUnwindSafe(operation));
            // SAFETY: `_exit` touches no memory. Exit handlers are left to the parent process.
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
