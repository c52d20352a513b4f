//! `client_address = "toa"`: servers that read the client's address in the option of TCP, in the SYN by a socket option and
//! in the packet that completes the handshake, as kernel modules do; and web servers that ignore it.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use edge_tests::lab::{netns::Netns, patience::patience, small::BACKENDS};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};

use super::{Families, combinations, configuration, service};

const TOLD: u16 = 7010;

fn families() -> Families {
    let text = configuration()
        .replace("mode = \"nat\"\n", "mode = \"nat\"\nclient_address = \"toa\"\n")
        .replace("ports = [\"", &format!("ports = [\"{TOLD}/tcp\", \""))
        .replace(&format!("ports = [\"{TOLD}/tcp\", \"443/tcp\"]"), "ports = [\"443/tcp\"]");
    Families::start_with(&[], &text)
}

/// The server of each backend, for the whole test. A process that another test starts holds a copy of every descriptor
/// until it executes its program, so that a listener that is closed may be open for a moment, and its port in use.
fn servers(families: &Families) -> BTreeMap<&'static str, TcpListener> {
    BACKENDS.into_iter().zip(["10.1.1.11", "fd01:2::11"]).map(|(name, at)| (name, listen(families, name, at))).collect()
}

/// A server at a backend's own address, which keeps the SYN of each connection.
fn listen(families: &Families, backend: &str, at: &str) -> TcpListener {
    let listening = || TcpListener::bind(service(at, TOLD));
    let listener = families.lab.netns(backend).within(listening).expect("a namespace").expect("it listens");
    let keeps: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&keeps)).expect("a small size");
    // SAFETY: the pointer and the size are those of `keeps`, which outlives the call.
    let set = unsafe {
        libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SAVE_SYN, (&raw const keeps).cast(), size)
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
    listener
}

/// The headers of the SYN by which a connection began.
fn syn(server: &TcpStream) -> Vec<u8> {
    let mut headers = vec![0; 256];
    let mut size = libc::socklen_t::try_from(headers.len()).expect("a small size");
    // SAFETY: the kernel writes at most `size` bytes to the vector, which has as many, and the size behind its pointer.
    let got = unsafe {
        let to = headers.as_mut_ptr().cast();
        libc::getsockopt(server.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_SAVED_SYN, to, &raw mut size)
    };
    assert_eq!(got, 0, "{}", io::Error::last_os_error());
    headers.truncate(usize::try_from(size).expect("a small size"));
    headers
}

fn connect(families: &Families, vip: &str) -> TcpStream {
    let patience = patience(Duration::from_secs(5));
    let stream = families.client(|| TcpStream::connect_timeout(&service(vip, TOLD), patience)).expect("a connection");
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    stream
}

/// A segment to the server, as it arrives.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    starts: bool,
    client: Option<SocketAddr>,
    data: Vec<u8>,
}

impl Segment {
    /// Reads an IP packet; `None` if it is not one to the server.
    fn of(packet: &[u8]) -> Option<Self> {
        let (header, length, protocol) = match packet.first()? >> 4 {
            4 => (20, usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?)), *packet.get(9)?),
            _ => (40, 40 + usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?)), *packet.get(6)?),
        };
        let tcp = packet.get(header..length)?;
        if protocol != 6 || tcp.get(2..4)? != TOLD.to_be_bytes() {
            return None;
        }
        let (headers, data) = tcp.split_at_checked(usize::from(tcp.get(12)? >> 4) * 4)?;
        Some(Self { starts: headers[13] & 2 != 0, client: option(&headers[20..]), data: data.to_vec() })
    }
}

/// The client's address in the options of a segment.
fn option(options: &[u8]) -> Option<SocketAddr> {
    match *options {
        [1, ref rest @ ..] => option(rest),
        [254, 8, high, low, a, b, c, d, ..] => {
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), u16::from_be_bytes([high, low])))
        }
        [254, 20, high, low, ref rest @ ..] => {
            let address: [u8; 16] = rest.get(..16)?.try_into().ok()?;
            Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(address)), u16::from_be_bytes([high, low])))
        }
        [2..=255, length, ..] => option(options.get(usize::from(length).max(2)..)?),
        _ => None,
    }
}

/// The packets that arrive in a namespace from now on.
struct Arriving(OwnedFd);

impl Arriving {
    fn at(netns: &Netns) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let open = || socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll);
        Self(netns.within(open).expect("a namespace").expect("a packet socket"))
    }

    /// The segments to the server that have arrived.
    fn segments(&self) -> Vec<Segment> {
        let mut packet = vec![0; 1 << 16];
        let next =
            || recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty()).ok().map(|length| packet[..length].to_vec());
        std::iter::from_fn(next).filter_map(|packet| Segment::of(&packet)).collect()
    }
}

#[test]
fn a_server_reads_its_clients_address_in_the_syn() {
    let families = families();
    let servers = servers(&families);
    for (vip, backend) in combinations() {
        let listener = &servers[backend];
        let client = connect(&families, vip);
        let (server, source) = listener.accept().expect("a connection");
        let told = Segment::of(&syn(&server)).expect("a SYN");
        assert!(told.starts);
        assert_eq!(told.client, Some(client.local_addr().expect("an address")), "{vip}, from {source}");
    }
}

#[test]
fn the_packets_that_may_complete_the_handshake_carry_the_address_and_later_ones_do_not() {
    let families = families();
    let servers = servers(&families);
    for (vip, backend) in combinations() {
        let listener = &servers[backend];
        let arriving = Arriving::at(families.lab.netns(backend));
        let mut client = connect(&families, vip);
        client.write_all(b"first").expect("it is sent");
        let (mut server, _) = listener.accept().expect("a connection");
        let mut heard = [0; 5];
        server.read_exact(&mut heard).expect("it arrives");
        server.write_all(b"reply").expect("it is sent");
        client.read_exact(&mut heard).expect("it arrives");
        client.write_all(b"later").expect("it is sent");
        server.read_exact(&mut heard).expect("it arrives");
        assert_eq!(&heard, b"later");
        let own = client.local_addr().expect("an address");
        let segments = arriving.segments();
        let with = |data: &[u8], starts: bool| {
            let is_it = |segment: &&Segment| segment.data == data && segment.starts == starts;
            segments.iter().find(is_it).unwrap_or_else(|| panic!("{vip}: {segments:?}")).client
        };
        assert_eq!(
            (with(b"", true), with(b"", false), with(b"first", false)),
            (Some(own), Some(own), Some(own)),
            "{vip}"
        );
        assert_eq!(with(b"later", false), None, "{vip}");
    }
}

#[test]
fn web_servers_that_do_not_read_it_work_as_before() {
    let families = families();
    families.serve_all();
    let status: serde_json::Value =
        serde_json::from_str(&families.lab.ctl(&["status", "--json"]).expect("a status")).expect("JSON");
    for service in status["services"].as_array().expect("services") {
        assert_eq!(service["flows"]["untold"], 0, "{service}");
    }
}
