//! A thread that works until it is stopped, and is always joined.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use anyhow::{Context as _, Result};

/// A running thread; stopped on drop.
#[derive(Debug)]
pub struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Worker {
    /// A worker for `thread`, which works until `stop` is true.
    pub fn new(stop: Arc<AtomicBool>, thread: JoinHandle<Result<()>>) -> Self {
        Self { stop, thread: Some(thread) }
    }

    /// Stops the thread.
    ///
    /// # Errors
    /// If the thread fails.
    ///
    /// # Panics
    /// If the thread panicked.
    pub fn stop(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("a thread is stopped once")?;
        thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A drop has no use for the thread's result.
            let _ = thread.join();
        }
    }
}
