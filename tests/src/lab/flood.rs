//! A flood of TCP segments to services, from hosts that don't exist, at tens of thousands of segments a second.
//!
//! Sources are drawn from the ranges for benchmarks (RFC 2544, RFC 5180), which the lab uses for nothing else. A real
//! server answers: with SYN-ACKs, with SYN cookies once its queue is full (Linux's default), and with RSTs to ACKs of
//! no connection. The router drops these answers ([`contain`]), since their destinations do not exist.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket},
};

use crate::{
    lab::{Lab, netns::Netns, pace::Pace, random::Random, topology::ROUTER, worker::Worker},
    packet::{Frame, Ip, Payload, SYN, Tcp},
};

const SOURCES_V4: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 0), 15);
const SOURCES_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48);

/// Interval between bursts: short enough for a burst to fit into a veth's queue of 256 entries.
const TICK: Duration = Duration::from_millis(1);

#[derive(Clone, Debug)]
pub struct Plan {
    /// Services, drawn at random.
    pub to: Vec<SocketAddr>,
    /// Flags of the TCP header.
    pub flags: u8,
    pub per_second: u32,
    /// Number of frames after which the flood ends by itself.
    pub most: u64,
    pub seed: u64,
}

/// A running flood; ends on drop.
#[derive(Debug)]
pub struct Flood {
    sent: Arc<AtomicU64>,
    worker: Worker,
}

/// Makes the router drop answers to floods. Otherwise it would report an unreachable network to the backend for each.
pub fn contain(lab: &Lab) -> Result<()> {
    let ((v4, v4_length), (v6, v6_length)) = (SOURCES_V4, SOURCES_V6);
    let routes = format!("route add blackhole {v4}/{v4_length}\nroute add blackhole {v6}/{v6_length}\n");
    lab.netns(ROUTER).ip(&routes)
}

/// Rate and length of a flood.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub per_second: u32,
    /// Number of frames after which the flood ends by itself.
    pub most: u64,
    pub seed: u64,
}

impl Flood {
    /// Starts `plan` from `device` of `netns`, to the host with the MAC address `edge`.
    pub fn start(netns: &Netns, device: &str, edge: [u8; 6], plan: Plan) -> Result<Self> {
        let Plan { per_second, most, seed, .. } = plan;
        Self::of(netns, device, Rate { per_second, most, seed }, move |random, own| frame(edge, own, &plan, random))
    }

    /// Starts a flood of frames from `make`, which receives a source of random numbers and the sender's MAC address.
    pub fn of(
        netns: &Netns,
        device: &str,
        rate: Rate,
        mut make: impl FnMut(&mut Random, [u8; 6]) -> Option<Vec<u8>> + Send + 'static,
    ) -> Result<Self> {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&sent));
        let device = device.to_owned();
        let thread = netns.spawn(move || {
            let (socket, own) = (open(&device)?, mac(&device)?);
            run(&socket, rate, |random| make(random, own), &stopping, &counting)
        })?;
        Ok(Self { sent, worker: Worker::new(stop, thread) })
    }

    /// Frames sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends the flood; returns the number of frames sent.
    pub fn stop(mut self) -> Result<u64> {
        self.worker.stop()?;
        Ok(self.sent())
    }
}

fn run(
    socket: &OwnedFd,
    Rate { per_second, most, seed }: Rate,
    mut make: impl FnMut(&mut Random) -> Option<Vec<u8>>,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<()> {
    let mut random = Random::new(seed);
    let pace = Pace::start(per_second);
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) && count < most {
        // Packets that are late because the CPU was busy are caught up slowly: sent at once, they would be a burst.
        let burst = pace.due().saturating_sub(count).min(2 * u64::from(per_second) / 1000 + 1);
        for _ in 0..burst {
            let frame = make(&mut random).context("a flood has somewhere to go")?;
            match send(socket.as_raw_fd(), &frame, MsgFlags::empty()) {
                // A full queue drops packets, as a network does.
                Ok(_) | Err(nix::errno::Errno::ENOBUFS) => {}
                Err(error) => return Err(error).context("could not send a frame"),
            }
        }
        count += burst;
        sent.store(count, Ordering::Relaxed);
        thread::sleep(TICK);
    }
    Ok(())
}

/// A segment of a connection that never existed; `None` if there is no service to send it to.
fn frame(edge: [u8; 6], own: [u8; 6], plan: &Plan, random: &mut Random) -> Option<Vec<u8>> {
    let to = *random.choose(&plan.to)?;
    let source = match to.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(SOURCES_V4.0.to_bits() | random.word() >> SOURCES_V4.1)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(SOURCES_V6.0.to_bits() | u128::from(random.long()))),
    };
    let segment = Tcp {
        source: 1024 | (random.word() >> 16) as u16,
        destination: to.port(),
        sequence: random.word(),
        acknowledgment: if plan.flags == SYN { 0 } else { random.word() },
        flags: plan.flags,
        data: Vec::new(),
        ..Tcp::default()
    };
    Some(Frame::new(edge, own, Ip::new(source, to.ip(), Payload::Tcp(segment))).bytes())
}

/// The MAC address of `device` in this thread's namespace.
pub fn mac(device: &str) -> Result<[u8; 6]> {
    // Not from /sys, which shows the devices of the namespace in which it was mounted.
    let found = nix::ifaddrs::getifaddrs()?
        .filter(|interface| interface.interface_name == device)
        .find_map(|interface| interface.address?.as_link_addr()?.addr());
    found.with_context(|| format!("{device} has no MAC address"))
}

/// A socket that sends frames by `device`.
fn open(device: &str) -> Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: all-zero bytes are an address of no family.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET.try_into()?;
    address.sll_ifindex = if_nametoindex(device)?.try_into()?;
    let size = size_of::<libc::sockaddr_ll>().try_into()?;
    // SAFETY: the pointer and the size are those of `address`, which outlives the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if bound != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("could not bind to {device}"));
    }
    Ok(socket)
}
