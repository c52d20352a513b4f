//! Attributes a socket error to the backend, against which it counts, or to this host.

use std::io;

use crate::health::Verdict;

/// Progress of the connection at the time of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In `socket()` or `connect()` itself, before a packet could have been answered.
    Local,
    /// After the first packet was handed to the network.
    Network,
}

/// The verdict about a backend for the error of a socket.
///
/// | error | at `Local` | at `Network` | why |
/// |---|---|---|---|
/// | `ECONNREFUSED`, `ECONNRESET`, `ECONNABORTED`, `EPIPE` | fail | fail | its host, or a firewall before it, refused |
/// | `ETIMEDOUT` | silent | silent | there was no answer |
/// | `EHOSTUNREACH`, `EHOSTDOWN`, `ENONET` | unreachable | unreachable | its address did not resolve to a MAC (a host that died looks like this), a router reports it as gone, or a route to it is `unreachable` |
/// | `ENOPROTOOPT`, `EPROTO` | fail | fail | ICMP errors from its host, as Linux maps them |
/// | `ENETUNREACH` | inconclusive | unreachable | no route in our own table; later it can only come from a router on the path |
/// | `EACCES` | inconclusive | unreachable | a `prohibit` route of ours; later it is an ICMPv6 refusal from the path |
/// | `EPERM` | inconclusive | inconclusive | our own packet filter or missing rights |
/// | `EMFILE`, `ENFILE` | inconclusive | inconclusive | our own file descriptors ran out |
/// | `ENOMEM`, `ENOBUFS` | inconclusive | inconclusive | our own memory ran out |
/// | `EADDRNOTAVAIL`, `EADDRINUSE`, `EAGAIN` | inconclusive | inconclusive | our own ports or addresses ran out |
/// | `ENETDOWN`, `ENODEV` | inconclusive | inconclusive | our own interface is down |
/// | `EAFNOSUPPORT`, `EINVAL` | inconclusive | inconclusive | this host has that IP version switched off |
/// | any other | inconclusive | inconclusive | doubt keeps traffic flowing |
pub(super) fn classify(error: &io::Error, stage: Stage) -> Verdict {
    let Some(code) = error.raw_os_error() else { return classify_kind(error) };
    let text = describe(code).map_or_else(|| plain(error), str::to_owned);
    match (code, stage) {
        (
            libc::ECONNREFUSED | libc::ECONNRESET | libc::ECONNABORTED | libc::EPIPE | libc::ENOPROTOOPT | libc::EPROTO,
            _,
        ) => Verdict::Fail(text),
        (libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENONET, _)
        | (libc::ENETUNREACH | libc::EACCES, Stage::Network) => Verdict::Unreachable(text),
        (libc::ETIMEDOUT, _) => Verdict::Silent(text),
        _ => Verdict::Inconclusive(text),
    }
}

/// Errors that the library reports and not the kernel: the stream ended or had invalid content.
#[expect(clippy::wildcard_enum_match_arm, reason = "doubt keeps traffic flowing, about a new kind of error as well")]
fn classify_kind(error: &io::Error) -> Verdict {
    match error.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::WriteZero
        | io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput => Verdict::Fail(error.to_string()),
        _ => Verdict::Inconclusive(error.to_string()),
    }
}

/// A shorter text than the C library's: operators read it in a column.
fn describe(code: i32) -> Option<&'static str> {
    Some(match code {
        libc::ECONNREFUSED => "connection refused",
        libc::ECONNRESET => "connection reset",
        libc::EHOSTUNREACH => "host unreachable",
        libc::ENETUNREACH => "no route",
        libc::EMFILE => "too many open files in this process",
        libc::ENFILE => "too many open files on this host",
        libc::EADDRNOTAVAIL => "no free local port or address",
        libc::EPERM => "forbidden by this host's packet filter",
        _ => return None,
    })
}

/// The C library's text without Rust's `(os error N)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(text, _)| text).to_lowercase()
}
