//! Development traces: the lines that a program built with `cargo xtask build --trace` logs for each packet. Release
//! builds log nothing.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::{
    io::{Interest, unix::AsyncFd},
    task,
};

/// Logs the program's lines until the runtime ends; does nothing if the program was built without traces.
///
/// Must be called in a tokio runtime. The lines have the program's crate as target, and level `info`.
pub(super) fn follow(program: &mut Ebpf) {
    let logger = match EbpfLogger::init(program) {
        Ok(logger) => logger,
        Err(aya_log::Error::MapNotFound) => return,
        Err(error) => return tracing::warn!("the program's traces can't be read: {error}"),
    };
    // SAFETY: the logger owns its ring buffer's descriptor, and always returns the same one until it is dropped.
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
