//! Notifications to the service manager over its own socket (`sd_notify(3)`).

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

/// Notifies the service manager, once for each change. A message that cannot be sent is dropped.
#[derive(Debug, Default)]
pub(super) struct Notify {
    /// `NOTIFY_SOCKET`; `None` if there is no service manager to notify.
    socket: Option<OsString>,
    /// Whether the service manager ends a process that sends no sign of life for too long.
    watched: bool,
    ready: bool,
    last: String,
}

impl Notify {
    pub(super) fn from_environment() -> Self {
        // An upgrade starts another executable in the same process: the variables are still meant for it.
        let mine = |pid: String| pid == process::id().to_string();
        let watched = env::var_os("WATCHDOG_USEC").is_some() && env::var("WATCHDOG_PID").map_or(true, mine);
        let notify = Self { socket: env::var_os("NOTIFY_SOCKET"), watched, ..Self::default() };
        notify.alive();
        notify
    }

    /// Sends a status line for people, if it has changed.
    pub(super) fn status(&mut self, text: String) {
        if text != self.last {
            self.send(&format!("STATUS={text}"));
            self.last = text;
        }
    }

    /// Reports the end of the start, once.
    pub(super) fn ready(&mut self) {
        if !self.ready {
            self.send("READY=1");
            self.ready = true;
        }
    }

    /// Sends a sign of life, if the service manager expects one.
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
    fn a_change_is_sent_once_and_a_sign_of_life_each_time() {
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
