//! A thread that works until it is told to stop, and that nobody leaves behind.

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
    /// `thread` works until `stop` is true.
    pub fn new(stop: Arc<AtomicBool>, thread: JoinHandle<Result<()>>) -> Self {
        Self { stop, thread: Some(thread) }
    }

    /// Ends it.
    ///
    /// # Errors
    /// Its own.
    ///
    /// # Panics
    /// It has panicked.
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
            // Whoever drops it does not want to know.
            let _ = thread.join();
        }
    }
}
