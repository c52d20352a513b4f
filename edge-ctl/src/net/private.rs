//! A network of the daemon's own: a namespace that has one way out, a door into the host's network.
//!
//! The sockets of probes are in it. Whatever the host's routes, rules, filters and addresses are, what such a socket sends to
//! any address comes out of the door, a device of the host, where a program of ours takes it; and what is put in there reaches
//! the socket. All of it is gone with the process, however that ends.

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

/// The MAC address of both ends, where no other frames are: without ARP a frame goes to the address of its own device, and
/// the other end takes it as its own.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A private network; it ends when this is dropped and its last socket is closed.
#[derive(Debug)]
pub(crate) struct PrivateNet {
    jobs: mpsc::Sender<Job>,
    door: Door,
}

/// The device by which the host's network and the private one are joined, in the host's.
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
    /// Makes one. Waits for the kernel; not for asynchronous code.
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
        // The host's end has no use for addresses of its own; where they can't be kept off they do no harm.
        let _unused = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        let index = wait_for(async { Requests::open()?.open_door(&name).await })?;
        Ok(Self { jobs, door: Door { name, index } })
    }

    pub(crate) const fn door(&self) -> &Door {
        &self.door
    }

    /// Runs `work` in the network, to make a socket.
    ///
    /// # Errors
    /// When the network is gone.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (back, result) = oneshot::channel();
        let job = Job::Run(Box::new(move || drop(back.send(work()))));
        self.jobs.send(job).map_err(|_| gone())?;
        result.await.map_err(|_| gone())
    }

    /// Makes `address` one that sockets in the network can send from.
    pub(crate) async fn add_address(&self, address: IpAddr) -> Result<(), NetError> {
        let (back, result) = oneshot::channel();
        self.jobs.send(Job::Address(address, back)).map_err(|_| NetError::Closed)?;
        result.await.map_err(|_| NetError::Closed)?
    }
}

fn gone() -> io::Error {
    io::Error::other("the network of probes is gone")
}

/// Takes the calling thread into a new network, and furnishes that; returns the index of the device in it.
fn enter(door: &str, home: &File) -> Result<u32, NetError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| NetError::Namespace(error.into()))?;
    on_this_thread(async { Requests::open()?.build(door, home).await })
}

/// Does what is wanted in the network until nobody can want anything any more. Between jobs it holds no descriptor.
fn live(index: u32, jobs: &mpsc::Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Run(work) => work(),
            Job::Address(address, back) => {
                let added = on_this_thread(async { Requests::open()?.add_inside(index, address).await });
                // Whoever wanted it may have gone.
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
    /// Furnishes a new network, from within: a device to the network `home`, and routes to everywhere by it. Returns its index.
    async fn build(&self, door: &str, home: &File) -> Result<u32, NetError> {
        self.add_link(LinkVeth::new(INSIDE, door).build()).await?;
        // Nobody completes the checksums of what is put into a tunnel.
        complete_checksums(INSIDE).map_err(NetError::Namespace)?;
        self.change_link(LinkUnspec::new_with_name(door).setns_by_fd(home.as_raw_fd()).build()).await?;
        self.change_link(LinkUnspec::new_with_name(INSIDE).address(MAC.to_vec()).arp(false).up().build()).await?;
        let index = self.interface(INSIDE).await?.ok_or_else(|| NetError::NoInterface(INSIDE.to_owned()))?.index;
        self.add_route(RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).build()).await?;
        // Where IPv6 is switched off there is nothing to probe by it, either.
        if let Err(error) = self.add_route(RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index).build()).await
        {
            tracing::info!(%error, "no probes over IPv6");
        }
        Ok(index)
    }

    /// Makes a door ready, in the host's network; returns its index.
    async fn open_door(&self, name: &str) -> Result<u32, NetError> {
        self.change_link(LinkUnspec::new_with_name(name).address(MAC.to_vec()).arp(false).up().build()).await?;
        Ok(self.interface(name).await?.ok_or_else(|| NetError::NoInterface(name.to_owned()))?.index)
    }

    async fn add_inside(&self, index: u32, address: IpAddr) -> Result<(), NetError> {
        let message = match address {
            IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(v4, 32).build(),
            IpAddr::V6(v6) => {
                let mut message = AddressMessageBuilder::<Ipv6Addr>::new().index(index).address(v6, 128).build();
                // Usable at once.
                message.header.flags |= AddressHeaderFlags::Nodad;
                message.attributes.push(rtnetlink::packet_route::address::AddressAttribute::Flags(AddressFlags::Nodad));
                message
            }
        };
        self.add_address(message).await
    }
}

/// Has the kernel compute the checksums of what leaves by a device of the calling thread's network, and cut what it sends into
/// packets: `ethtool -K DEV tx off`.
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
    // SAFETY: a struct of integers, arrays of them and a union of such; zero is a value of each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *place = c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_data = (&raw mut setting).cast();
    // SAFETY: the kernel reads a name that ends with zero, and the setting, which outlives the call.
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
            // The kernel itself is behind the door here, with the address that is asked.
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
