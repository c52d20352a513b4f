//! Development traces: the lines that a program built with `cargo xtask build --trace` logs for each packet. The released
//! program logs nothing.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::{
    io::{Interest, unix::AsyncFd},
    task,
};

/// Logs the program's lines until the runtime ends; nothing if it was built without traces.
///
/// Inside a tokio runtime. The lines come as the target of the program's crate, at level `info`.
pub(super) fn follow(program: &mut Ebpf) {
    let logger = match EbpfLogger::init(program) {
        Ok(logger) => logger,
        Err(aya_log::Error::MapNotFound) => return,
        Err(error) => return tracing::warn!("the program's traces can't be read: {error}"),
    };
    // SAFETY: the logger owns its ring buffer's descriptor, and always gives out that one, until it is dropped.
    match unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) } {
        Ok(logger) => drop(task::spawn(read(logger))),
        Err(error) => tracing::warn!("the program's traces can't be read: {error}"),
    }
}

async fn read<L: log::Log + 'static>(mut logger: AsyncFd<EbpfLogger<L>>) {
    while let Ok(mut ready) = logger.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}
