//! What `systemctl status` shows of the daemon, by the service manager's own socket.

use std::{
    ffi::OsString,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Says what is worth knowing, once for each change.
#[derive(Debug, Default)]
pub(super) struct Notify {
    /// `NOTIFY_SOCKET`; `None` where nobody listens.
    socket: Option<OsString>,
    last: String,
}

impl Notify {
    pub(super) fn from_environment() -> Self {
        Self { socket: std::env::var_os("NOTIFY_SOCKET"), last: String::new() }
    }

    /// One line. That it could not be sent costs nothing but the line.
    pub(super) fn status(&mut self, text: String) {
        if text == self.last {
            return;
        }
        if let Some(socket) = &self.socket {
            let _lost = send(socket, &format!("STATUS={text}"));
        }
        self.last = text;
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
    fn a_change_is_said_once() {
        let name = format!("edge-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut notify = Notify { socket: Some(format!("@{name}").into()), last: String::new() };
        for text in ["generation 1", "generation 1", "FROZEN"] {
            notify.status(text.to_owned());
        }
        let next = || {
            let mut buffer = [0; 64];
            let length = listener.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        assert_eq!(next().as_deref(), Some("STATUS=generation 1"));
        assert_eq!(next().as_deref(), Some("STATUS=FROZEN"));
        assert_eq!(next(), None);
    }
}
