//! One connection: a handshake, and small HTTP requests whose answer is the backend's name.
//!
//! HTTP is implemented here, since the lab makes thousands of requests a second on the CPUs that also are its network.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
    time::Instant,
};

use nix::{
    errno::Errno,
    sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{Broken, How, PATIENCE, signature};
use crate::lab::topology::Backend;

/// A request after which the connection stays open.
pub(super) const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";
/// The last request, after which the server closes.
pub(super) const LAST_REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";

pub(super) struct Connection {
    stream: TcpStream,
    client: SocketAddr,
    service: SocketAddr,
    backend: Option<Backend>,
    began: Instant,
    stood: Instant,
    answers: u32,
    requested: Option<Instant>,
}

impl Connection {
    pub(super) async fn open((from, service): (IpAddr, SocketAddr)) -> Result<Self, Broken> {
        let began = Instant::now();
        let mut client = SocketAddr::new(from, 0);
        let mut backend = None;
        let opening = async {
            let stream = TcpStream::from_std(begin(client, service)?)?;
            client = stream.local_addr()?;
            timeout(PATIENCE, stream.writable()).await.map_err(|_| How::Silent)??;
            let how = stream.take_error()?.map(How::from);
            // A RST in answer to the SYN is a refusal: a backend has accepted a connection that is reset, and its
            // signature outlives the connection.
            if how.is_none() || how == Some(How::Reset) {
                backend = signature::of(&stream);
            }
            how.map_or(Ok(()), Err)?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        match opening.await {
            Ok(stream) => {
                let stood = Instant::now();
                Ok(Self { stream, client, service, backend, began, stood, answers: 0, requested: None })
            }
            Err(how) => {
                let at = Instant::now();
                Err(Broken { client, service, backend, began, stood: None, answers: 0, requested: None, at, how })
            }
        }
    }

    /// Sends a request, and reads the whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Backend, Broken> {
        self.requested = Some(Instant::now());
        let answer = timeout(PATIENCE, self.answer(request)).await.unwrap_or(Err(How::Silent));
        let how = match (answer, self.backend) {
            (Ok(name), Some(backend)) if backend.to_string() == name => {
                self.answers += 1;
                return Ok(backend);
            }
            (Ok(name), Some(_)) => How::Moved(name),
            (Ok(name), None) => How::Garbled(format!("{name} answers, whose MSS is not its own")),
            (Err(how), _) => how,
        };
        Err(self.broken(how))
    }

    /// Waits until the server closes the connection, and then closes it.
    pub(super) async fn end(mut self) -> Result<(), Broken> {
        match timeout(PATIENCE, self.stream.read(&mut [0; 1])).await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(_)) => Err(self.broken(How::Garbled("more than one answer".to_owned()))),
            Ok(Err(error)) => Err(self.broken(error.into())),
            Err(_) => Err(self.broken(How::Silent)),
        }
    }

    async fn answer(&mut self, request: &[u8]) -> Result<String, How> {
        self.stream.write_all(request).await?;
        let mut buffer = [0; 1024];
        let mut length = 0;
        loop {
            match self.stream.read(&mut buffer[length..]).await? {
                0 => return Err(How::Closed),
                more => length += more,
            }
            if let Some(name) = name(&buffer[..length])? {
                return Ok(name);
            }
        }
    }

    fn broken(&self, how: How) -> Broken {
        let Self { client, service, backend, began, stood, answers, requested, .. } = *self;
        Broken { client, service, backend, began, stood: Some(stood), answers, requested, at: Instant::now(), how }
    }
}

/// Begins a handshake from a port of `from`'s address. The caller waits for its end, and has the socket afterwards in any
/// case.
fn begin(from: SocketAddr, service: SocketAddr) -> io::Result<std::net::TcpStream> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(family, SockType::Stream, flags, SockProtocol::Tcp)?;
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    match socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(service)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// The body of an answer; `None` while the answer is incomplete.
fn name(answer: &[u8]) -> Result<Option<String>, How> {
    let text = str::from_utf8(answer).map_err(|error| How::Garbled(error.to_string()))?;
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    if status != "HTTP/1.1 200 OK" {
        return Err(How::Garbled(status.to_owned()));
    }
    let length = lines.find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
    match length {
        Some(length) if body.len() < length => Ok(None),
        Some(_) => Ok(Some(body.trim_end().to_owned())),
        None => Err(How::Garbled(head.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, TcpListener},
        sync::mpsc,
        thread,
    };

    use nix::sys::socket::{
        setsockopt,
        sockopt::{Linger, TcpMaxSeg},
    };
    use tokio::runtime;

    use super::*;

    /// What becomes of a connection to the third backend that was accepted and reset before the client ran again.
    fn reset_at_once() -> Broken {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        setsockopt(&listener, TcpMaxSeg, &(signature::FIRST + 2)).unwrap();
        let service = listener.local_addr().unwrap();
        let (done, reset) = mpsc::channel();
        let server = thread::spawn(move || {
            let (accepted, _) = listener.accept().unwrap();
            setsockopt(&accepted, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
            drop(accepted);
            done.send(()).unwrap();
        });
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let opened = runtime.block_on(async {
            // Blocks the client's only thread.
            tokio::join!(Connection::open((Ipv4Addr::LOCALHOST.into(), service)), async { reset.recv().unwrap() }).0
        });
        server.join().unwrap();
        opened.err().expect("the connection is gone")
    }

    #[test]
    fn the_backend_of_a_connection_is_known_even_if_it_was_reset_at_once() {
        let broken = reset_at_once();
        assert_eq!(broken.how, How::Reset);
        assert_eq!(broken.backend, Backend::named("a3"), "{broken}");
    }

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let whole = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\nx-backend: a1\r\n\r\na1\n";
        for cut in 0..whole.len() {
            assert_eq!(name(&whole[..cut]), Ok(None), "{cut}");
        }
        assert_eq!(name(whole), Ok(Some("a1".to_owned())));
    }

    #[test]
    fn an_error_is_no_answer() {
        assert!(name(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
