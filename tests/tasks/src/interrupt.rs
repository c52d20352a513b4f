//! Lets Ctrl-C and SIGTERM end a lab through its owner, who cleans up.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::{
    errno::Errno,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM make [`pause`] fail instead of ending the process.
pub(crate) fn install() -> Result<()> {
    // Without SA_RESTART, so that blocking system calls are interrupted.
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.map_err(|error: Errno| anyhow::anyhow!("{signal}: {error}"))?;
    }
    Ok(())
}

/// Sleeps for `time`.
///
/// # Errors
/// If the user interrupted, before the call or during it.
pub(crate) fn pause(time: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        check()?;
        let left = time.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        thread::sleep(left.min(Duration::from_millis(20)));
    }
}

/// # Errors
/// If the user interrupted.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted; everything is cleaned up");
    }
    Ok(())
}

extern "C" fn note(_signal: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}
