//! What the service manager hears of the daemon, by its own socket (`sd_notify(3)`).

use std::{
    env,
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    process,
};

/// Says what is worth knowing, once for each change. What could not be sent costs nothing but the line.
#[derive(Debug, Default)]
pub(super) struct Notify {
    /// `NOTIFY_SOCKET`; `None` where nobody listens.
    socket: Option<OsString>,
    /// Whether somebody ends the process that is not heard of for too long.
    watched: bool,
    ready: bool,
    last: String,
}

impl Notify {
    pub(super) fn from_environment() -> Self {
        // An upgrade starts another executable in the same process: the variables go on to be meant for it.
        let mine = |pid: String| pid == process::id().to_string();
        let watched = env::var_os("WATCHDOG_USEC").is_some() && env::var("WATCHDOG_PID").map_or(true, mine);
        let notify = Self { socket: env::var_os("NOTIFY_SOCKET"), watched, ..Self::default() };
        notify.alive();
        notify
    }

    /// A line that people read.
    pub(super) fn status(&mut self, text: String) {
        if text != self.last {
            self.send(&format!("STATUS={text}"));
            self.last = text;
        }
    }

    /// The start is over.
    pub(super) fn ready(&mut self) {
        if !self.ready {
            self.send("READY=1");
            self.ready = true;
        }
    }

    /// It does not hang.
    pub(super) fn alive(&self) {
        if self.watched {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _lost = send(socket, message);
        }
    }
}

fn send(socket: &OsString, message: &str) -> io::Result<usize> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message.as_bytes(), &address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_said_once_and_a_sign_of_life_each_time() {
        let name = format!("edge-notify-{}", process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut notify =
            Notify { socket: Some(format!("@{name}").into()), watched: true, ready: false, last: String::new() };
        for text in ["generation 1", "generation 1", "FROZEN"] {
            notify.alive();
            notify.status(text.to_owned());
            notify.ready();
        }
        notify.watched = false;
        notify.alive();
        let next = || {
            let mut buffer = [0; 64];
            let length = listener.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        let heard: Vec<_> = std::iter::from_fn(next).collect();
        let expected = ["WATCHDOG=1", "STATUS=generation 1", "READY=1", "WATCHDOG=1", "WATCHDOG=1", "STATUS=FROZEN"];
        assert_eq!(heard, expected);
    }
}
