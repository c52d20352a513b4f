//! Sets logging up: into the journal, with priorities and fields, if standard error is connected to the journal; else
//! to standard error.

use std::{env, io, os::fd::AsFd};

use nix::sys::stat::fstat;
use tracing_journald::{Layer, Priority, PriorityMappings};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::coloured;

/// Prefix of the journal's fields: `journalctl EDGE_KIND=backend_down`.
const PREFIX: &str = "EDGE";

/// Starts logging. `EDGE_LOG` has the syntax of tracing's filters: `debug`, `info,edge_ctl::net=trace`. Without a valid
/// value, `default` is the filter.
pub(super) fn log(default: &str) {
    let filter = EnvFilter::try_from_env("EDGE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::registry().with(filter);
    if let Some(journal) = journal() {
        log.with(journal).init();
    } else {
        let text = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(coloured(&io::stderr()));
        // A line that can't be written would be reported on the same standard error, by a panic.
        let text = text.log_internal_errors(false);
        log.with(text).init();
    }
}

/// The journal's layer, if standard error is connected to the journal (systemd.exec(5), `JOURNAL_STREAM`) and the
/// journal can be reached.
fn journal() -> Option<Layer> {
    let stream = env::var("JOURNAL_STREAM").ok()?;
    if !is_stream(&stream, io::stderr()) {
        return None;
    }
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer().ok()?;
    Some(layer.with_field_prefix(Some(PREFIX.to_owned())).with_priority_mappings(priorities))
}

/// Whether `stream`, a device and an inode in decimal, identifies this descriptor's file.
fn is_stream(stream: &str, descriptor: impl AsFd) -> bool {
    let Some((device, inode)) = stream.split_once(':') else { return false };
    fstat(descriptor).is_ok_and(|stat| device == stat.st_dev.to_string() && inode == stat.st_ino.to_string())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::MetadataExt as _};

    use super::*;

    #[test]
    fn a_stream_is_known_by_device_and_inode() {
        let file = File::open("/dev/null").unwrap();
        let metadata = file.metadata().unwrap();
        let (device, inode) = (metadata.dev(), metadata.ino());
        assert!(is_stream(&format!("{device}:{inode}"), &file));
        assert!(!is_stream(&format!("{device}:{}", inode + 1), &file));
        for nothing in ["", ":", "a:b", &inode.to_string()] {
            assert!(!is_stream(nothing, &file), "{nothing}");
        }
    }
}
