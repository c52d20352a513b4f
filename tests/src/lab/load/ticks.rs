//! A clock with an accuracy of some microseconds: the runtime's own timers only have milliseconds.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Evenly spaced moments, none of which is skipped.
pub struct Ticks {
    timer: AsyncFd<OwnedFd>,
    next: Instant,
    interval: Duration,
    /// Expired moments that were not yet returned.
    due: u64,
}

impl Ticks {
    /// Starts the clock: the first moment is `delay` from now. `interval` must not be zero.
    pub fn start(delay: Duration, interval: Duration) -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        // A delay of zero would disarm the timer.
        let delay = delay.max(Duration::from_nanos(1));
        let next = Instant::now() + delay;
        let expiration = Expiration::IntervalDelayed(TimeSpec::from(delay), TimeSpec::from(interval));
        timer.set(expiration, TimerSetTimeFlags::empty())?;
        // SAFETY: an `OwnedFd` is open and the same file for as long as the `AsyncFd` owns it.
        let timer = unsafe { AsyncFd::register_with_interest(OwnedFd::from(timer), Interest::READABLE) }?;
        Ok(Self { timer, next, interval, due: 0 })
    }

    /// Waits for the next moment, unless it has passed already; returns it.
    pub async fn next(&mut self) -> io::Result<Instant> {
        if self.due == 0 {
            self.due = self.timer.async_io(Interest::READABLE, expirations).await?;
        }
        self.due -= 1;
        let due = self.next;
        self.next += self.interval;
        Ok(due)
    }
}

/// Number of the timer's expirations since the last read, at least one.
fn expirations(timer: &OwnedFd) -> io::Result<u64> {
    let mut count = [0; 8];
    nix::unistd::read(timer, &mut count)?;
    Ok(u64::from_ne_bytes(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_moment_is_left_out_and_none_comes_early() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let interval = Duration::from_millis(1);
            let mut ticks = Ticks::start(Duration::ZERO, interval).unwrap();
            let first = ticks.next().await.unwrap();
            // Moments that pass between two calls are not lost.
            std::thread::sleep(10 * interval);
            for tick in 1..20 {
                let due = ticks.next().await.unwrap();
                assert_eq!(due, first + interval * tick);
                assert!(due <= Instant::now());
            }
        });
    }
}
