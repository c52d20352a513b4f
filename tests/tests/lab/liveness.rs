//! With real packets: a backend's death is one store, and the very next packet goes elsewhere.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use aya::maps::MapData;
use edge_common::abi::{Backend as Entry, State, map};
use edge_tests::lab::{
    Lab,
    topology::{Backend, Family, Part, Service},
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};

/// Datagrams of a flow before the store.
const DATAGRAMS: u32 = 200;

#[test]
fn the_very_next_packet_follows_the_store() {
    let lab = Lab::with_edge();
    let backends = Mapped::open(&lab);
    for (name, part, family) in [("echo-dsr4", Part::Lan, Family::V4), ("echo-6in6", Part::Wan, Family::V6)] {
        for _ in 0..5 {
            take_away_one(&lab, Service::named(name).address(), part, family, &backends);
        }
    }
}

/// Marks the backend of one flow dead under a stream of datagrams, by the single store that the controller would make.
/// The controller does not notice: its probes continue to pass.
fn take_away_one(lab: &Lab, service: SocketAddr, part: Part, family: Family, backends: &Mapped) {
    let flow = lab.netns("client1").within(|| connect(service)).expect("the namespace is there").expect("a socket");
    let home = request(&flow, 0).expect("the flow is served");
    let backend = Backend::named(&home).expect("a backend answered");
    let state = backends.state(backend.address(part, family));
    let was = state.load(Ordering::Relaxed);
    assert!(State(was).has_all(State::NEW | State::ALIVE), "{home} served");
    for number in 1..DATAGRAMS {
        assert_eq!(request(&flow, number).expect("an answer"), home, "a flow stays where it is");
    }

    state.store(was & !(State::NEW | State::ALIVE), Ordering::Release);
    let next = request(&flow, DATAGRAMS);
    state.store(was, Ordering::Release);
    assert_ne!(next.expect("an answer"), home, "a packet sent after the store went to the backend that it takes away");
}

fn connect(service: SocketAddr) -> std::io::Result<UdpSocket> {
    let any: IpAddr = match service {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.connect(service)?;
    Ok(socket)
}

/// The name of the backend that answers datagram `number`; `None` if none does in time.
fn request(flow: &UdpSocket, number: u32) -> Option<String> {
    flow.send(&number.to_be_bytes()).ok()?;
    let mut buffer = [0; 64];
    let length = flow.recv(&mut buffer).ok()?;
    let name = buffer[..length].strip_suffix(&number.to_be_bytes())?;
    Some(String::from_utf8_lossy(name).trim_end().to_owned())
}

/// The pinned map `BACKENDS`, mapped into memory as the controller maps it.
struct Mapped {
    memory: *mut Entry,
    entries: usize,
}

impl Mapped {
    fn open(lab: &Lab) -> Self {
        let pin = lab.edge().pins().join(format!("v{}/maps/{}", edge_common::abi::ABI_VERSION, map::BACKENDS));
        let data = MapData::from_pin(&pin).expect("BACKENDS is pinned");
        let entries = data.info().expect("it has an info").max_entries() as usize;
        let length = std::num::NonZero::new(entries * size_of::<Entry>()).expect("it has entries");
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: this is a new mapping of a map of this length.
        let memory = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, data.fd().as_fd(), 0) };
        Self { memory: memory.expect("it can be mapped").as_ptr().cast(), entries }
    }

    /// The state of the backend with `address`.
    fn state(&self, address: IpAddr) -> &AtomicU32 {
        let octets = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let found = (0..self.entries).map(|number| {
            // SAFETY: the entry is in the mapping, which lives as long as the process.
            unsafe { self.memory.add(number) }
        });
        let entry = found
            // SAFETY: as above; concurrent changes of an entry do not concern the compared fields.
            .filter(|entry| unsafe { (**entry).family } != 0)
            // SAFETY: as above.
            .find(|entry| unsafe { (**entry).address }.starts_with(&octets))
            .expect("the backend is in the maps");
        // SAFETY: the word is aligned, and all others only access it as a whole.
        unsafe { AtomicU32::from_ptr(&raw mut (*entry).state) }
    }
}
