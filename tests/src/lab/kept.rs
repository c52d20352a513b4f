//! A long-lived client: one flow that sends requests continuously, and fails with the first missing answer.

use std::{
    collections::BTreeSet,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::{netns::Netns, patience::patience, wait_until};

/// Pause between two requests.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running flow.
#[derive(Debug)]
pub struct Kept {
    what: String,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU32>,
    thread: JoinHandle<Result<BTreeSet<String>>>,
}

impl Kept {
    /// A connection to a [`Talk`](crate::lab::talk::Talk).
    pub fn tcp(netns: &Netns, service: SocketAddr) -> Result<Self> {
        let mut stream = netns.within(|| TcpStream::connect_timeout(&service, patience(PATIENCE)))??;
        stream.set_read_timeout(Some(patience(PATIENCE)))?;
        Ok(Self::start(format!("TCP to {service}"), move || {
            stream.write_all(b"?")?;
            let mut answer = Vec::new();
            while answer.last() != Some(&b'\n') {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                answer.extend(byte);
            }
            Ok(answer)
        }))
    }

    /// A socket that sends requests to a [`UdpEcho`](crate::lab::udp_echo::UdpEcho): lost datagrams are not sent again.
    pub fn udp(netns: &Netns, service: SocketAddr) -> Result<Self> {
        let any: IpAddr = if service.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = netns.within(|| UdpSocket::bind((any, 0)))??;
        socket.set_read_timeout(Some(patience(PATIENCE)))?;
        socket.connect(service)?;
        Ok(Self::start(format!("UDP to {service}"), move || {
            socket.send(b"?")?;
            let mut answer = [0; 64];
            let length = socket.recv(&mut answer)?;
            Ok(answer[..length].strip_suffix(b"?").unwrap_or_default().to_vec())
        }))
    }

    fn start(what: String, mut exchange: impl FnMut() -> io::Result<Vec<u8>> + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU32::new(0));
        let (stopping, count) = (Arc::clone(&stop), Arc::clone(&answers));
        let thread = thread::spawn(move || {
            let mut backends = BTreeSet::new();
            while !stopping.load(Ordering::Relaxed) {
                let so_far = count.load(Ordering::Relaxed);
                let answer = exchange().with_context(|| format!("after {so_far} answers from {backends:?}"))?;
                backends.insert(String::from_utf8_lossy(&answer).trim_end().to_owned());
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
            Ok(backends)
        });
        Self { what, stop, answers, thread }
    }

    /// Waits for `count` more answers.
    ///
    /// # Errors
    /// If the answers do not come in time, or the flow has failed.
    pub fn wait_for(&self, count: u32) -> Result<()> {
        let before = self.answers.load(Ordering::Relaxed);
        let came = wait_until(patience(PATIENCE), || {
            Ok(self.thread.is_finished() || self.answers.load(Ordering::Relaxed) >= before + count)
        })?;
        ensure!(came, "{}: no {count} answers after the first {before}", self.what);
        Ok(())
    }

    /// Ends the flow; returns the names of the backends that served it.
    ///
    /// # Errors
    /// If an answer did not come.
    pub fn end(self) -> Result<BTreeSet<String>> {
        self.stop.store(true, Ordering::Relaxed);
        let backends = self.thread.join().expect("it does not panic").context(self.what.clone())?;
        let count = self.answers.load(Ordering::Relaxed);
        ensure!(count > 10, "{}: only {count} answers", self.what);
        Ok(backends)
    }
}
