//! A private network of the daemon: a namespace with a single exit, the door, which is a device in the host's
//! network.
//!
//! The sockets of probes are in this namespace. Whatever the host's routes, rules, filters and addresses are, packets of
//! such a socket to any address arrive at the door, where a program of ours takes them; packets put into the door reach
//! the socket. The namespace disappears with the process, however that ends.

use std::{
    ffi::c_char,
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd as _,
    sync::mpsc,
    thread,
};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{
    AddressMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::address::{AddressFlags, AddressHeaderFlags},
};
use tokio::sync::oneshot;

use super::netlink::{NetError, Requests, wait_for};

/// The device in the private network.
const INSIDE: &str = "probe";

/// The MAC address of both ends, unique on their link: without ARP a device sends frames to its own address, and the
/// other end accepts them as its own.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A private network. It ends when this is dropped and its last socket is closed.
#[derive(Debug)]
pub(crate) struct PrivateNet {
    jobs: mpsc::Sender<Job>,
    door: Door,
}

/// The host's end of the device pair that joins the host's network and the private one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(crate) name: String,
    pub(crate) index: u32,
}

enum Job {
    Run(Box<dyn FnOnce() + Send>),
    Address(IpAddr, oneshot::Sender<Result<(), NetError>>),
}

impl PrivateNet {
    /// Makes a private network. Blocks; not for asynchronous code.
    pub(crate) fn make() -> Result<Self, NetError> {
        let name = format!("edge-p{}", std::process::id());
        let home = File::open("/proc/thread-self/ns/net").map_err(NetError::Namespace)?;
        let (jobs, receiver) = mpsc::channel();
        let (done, made) = mpsc::channel();
        let inside = name.clone();
        let live = move || match enter(&inside, &home) {
            Ok(index) => {
                let _unused = done.send(Ok(()));
                live(index, &receiver);
            }
            Err(error) => drop(done.send(Err(error))),
        };
        thread::Builder::new().name("probe-net".to_owned()).spawn(live).map_err(NetError::Namespace)?;
        made.recv().unwrap_or(Err(NetError::Closed))?;
        // The host's end needs no addresses of its own; they do no harm if they can't be prevented.
        let _unused = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        let index = wait_for(async { Requests::open()?.open_door(&name).await })?;
        Ok(Self { jobs, door: Door { name, index } })
    }

    pub(crate) const fn door(&self) -> &Door {
        &self.door
    }

    /// Runs `work` in the private network, to make a socket.
    ///
    /// # Errors
    /// If the network is gone.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (back, result) = oneshot::channel();
        let job = Job::Run(Box::new(move || drop(back.send(work()))));
        self.jobs.send(job).map_err(|_| closed())?;
        result.await.map_err(|_| closed())
    }

    /// Adds `address` to the network, so that its sockets can send from it.
    pub(crate) async fn add_address(&self, address: IpAddr) -> Result<(), NetError> {
        let (back, result) = oneshot::channel();
        self.jobs.send(Job::Address(address, back)).map_err(|_| NetError::Closed)?;
        result.await.map_err(|_| NetError::Closed)?
    }
}

fn closed() -> io::Error {
    io::Error::other("the network of probes has been removed")
}

/// Moves the calling thread into a new network namespace and sets that up; returns the index of the device in it.
fn enter(door: &str, home: &File) -> Result<u32, NetError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| NetError::Namespace(error.into()))?;
    on_this_thread(async { Requests::open()?.build(door, home).await })
}

/// Runs jobs in the network until all senders are gone. Holds no descriptor between jobs.
fn live(index: u32, jobs: &mpsc::Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Run(work) => work(),
            Job::Address(address, back) => {
                let added = on_this_thread(async { Requests::open()?.add_inside(index, address).await });
                // The requester may be gone.
                drop(back.send(added));
            }
        }
    }
}

fn on_this_thread<T>(request: impl Future<Output = Result<T, NetError>>) -> Result<T, NetError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NetError::Open)?;
    runtime.block_on(request)
}

impl Requests {
    /// Sets up a new network from within: a device pair to the network `home`, and default routes. Returns the device's
    /// index.
    async fn build(&self, door: &str, home: &File) -> Result<u32, NetError> {
        self.add_link(LinkVeth::new(INSIDE, door).build()).await?;
        // No device completes the checksums of packets that are put into a tunnel.
        complete_checksums(INSIDE).map_err(NetError::Namespace)?;
        self.change_link(LinkUnspec::new_with_name(door).setns_by_fd(home.as_raw_fd()).build()).await?;
        self.change_link(LinkUnspec::new_with_name(INSIDE).address(MAC.to_vec()).arp(false).up().build()).await?;
        let index = self.interface(INSIDE).await?.ok_or_else(|| NetError::NoInterface(INSIDE.to_owned()))?.index;
        self.add_route(RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).build()).await?;
        // If IPv6 is disabled, there is nothing to probe over it either.
        if let Err(error) = self.add_route(RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).build()).await
        {
            tracing::info!(%error, "no probes over IPv6");
        }
        Ok(index)
    }

    /// Sets up the door in the host's network; returns its index.
    async fn open_door(&self, name: &str) -> Result<u32, NetError> {
        self.change_link(LinkUnspec::new_with_name(name).address(MAC.to_vec()).arp(false).up().build()).await?;
        Ok(self.interface(name).await?.ok_or_else(|| NetError::NoInterface(name.to_owned()))?.index)
    }

    async fn add_inside(&self, index: u32, address: IpAddr) -> Result<(), NetError> {
        let message = match address {
            IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, 32).build(),
            IpAddr::V6(v6) => {
                let mut message = AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, 128).build();
                // Without duplicate address detection, so that it is usable at once.
                message.header.flags |= AddressHeaderFlags::Nodad;
                message.attributes.push(rtnetlink::packet_route::address::AddressAttribute::Flags(AddressFlags::Nodad));
                message
            }
        };
        self.add_address(message).await
    }
}

/// Turns off checksum and segmentation offload of a device in the calling thread's network, so that the kernel does
/// both: `ethtool -K DEV tx off`.
fn complete_checksums(device: &str) -> io::Result<()> {
    /// `struct ethtool_value` of the kernel's `linux/ethtool.h`.
    #[repr(C)]
    struct Setting {
        command: u32,
        value: u32,
    }
    const SET_TX_CHECKSUMS: u32 = 0x17;
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut setting = Setting { command: SET_TX_CHECKSUMS, value: 0 };
    // SAFETY: a struct of integers, arrays of them and a union of such; zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_data = (&raw mut setting).cast();
    // SAFETY: the kernel reads a zero-terminated name, and the setting, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;
    use crate::net::lab::{in_lab, sh};

    #[test]
    fn what_is_sent_inside_comes_out_of_the_door() {
        in_lab(|_| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let private = PrivateNet::make().expect("a network");
            let door = private.door().clone();
            // Behind the door is the kernel itself here, with the probed address.
            sh(&format!("ip address add 192.0.2.99/32 dev {0} && ip route add 192.0.2.1 dev {0}", door.name));
            let server = TcpListener::bind("192.0.2.99:80").unwrap();
            let answer = thread::spawn(move || server.accept().unwrap().0.write_all(b"here").unwrap());
            runtime.block_on(private.add_address("192.0.2.1".parse().unwrap())).expect("an address");
            let connect = || std::net::TcpStream::connect("192.0.2.99:80");
            let mut stream = runtime.block_on(private.run(connect)).unwrap().expect("a connection");
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, "here");
            answer.join().unwrap();
            assert_eq!(stream.local_addr().unwrap().ip().to_string(), "192.0.2.1");

            drop((private, stream));
            sh(&format!("for i in $(seq 200); do ip link show {} 2>&- || exit 0; sleep 0.02; done; exit 1", door.name));
        });
    }
}
