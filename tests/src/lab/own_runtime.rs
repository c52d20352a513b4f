//! An asynchronous server on a thread and a runtime of its own.

use std::thread::{self, JoinHandle};

use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
};

/// A running server; stopped and joined on drop.
#[derive(Debug)]
pub struct OwnRuntime {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A runtime for one thread.
///
/// # Panics
/// If there are no descriptors for it.
pub fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl OwnRuntime {
    /// Starts `serve`, which is called within the runtime.
    pub fn start<F: Future<Output = ()>>(serve: impl FnOnce() -> F + Send + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                tokio::select! {
                    () = serve() => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
