//! Ports that this host uses itself: for its own connections and for listeners.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The kernel's socket tables, and the state of sockets that accept packets from anybody: a TCP listener (`TCP_LISTEN`),
/// or a UDP socket without a peer (`TCP_CLOSE`).
const TABLES: [(&str, &str, &str); 4] =
    [("tcp", "TCP", "0A"), ("tcp6", "TCP", "0A"), ("udp", "UDP", "07"), ("udp6", "UDP", "07")];

const LOCAL: &str = "net.ipv4.ip_local_port_range";
const RESERVED: &str = "net.ipv4.ip_local_reserved_ports";

/// Ports of this host.
#[derive(Clone, Debug, Default)]
pub(super) struct HostPorts {
    /// First and last port of the host's own connections; `None` if the kernel does not report them.
    pub(super) local: Option<(u16, u16)>,
    /// First and last port of each range that is excluded from `local`.
    pub(super) reserved: Vec<(u16, u16)>,
    /// Listeners: protocol, address, port.
    pub(super) listening: BTreeSet<(&'static str, IpAddr, u16)>,
}

impl HostPorts {
    /// The ports of the calling thread's network namespace.
    ///
    /// # Errors
    /// The file that could not be read, and the reason.
    pub(super) fn read() -> Result<Self, (String, io::Error)> {
        let mut listening = BTreeSet::new();
        for (table, protocol, state) in TABLES {
            let text = read(&format!("/proc/thread-self/net/{table}"))?;
            listening.extend(waiting(&text, state).map(|(address, port)| (protocol, address, port)));
        }
        let sysctl = |name: &str| read(&format!("/proc/sys/{}", name.replace('.', "/")));
        Ok(Self { local: pair(&sysctl(LOCAL)?), reserved: ranges(&sysctl(RESERVED)?), listening })
    }
}

/// Returns an empty text if the file does not exist.
fn read(path: &str) -> Result<String, (String, io::Error)> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|source| (path.to_owned(), source)),
    }
}

fn pair(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

/// Parses ranges such as `8080,9148-9150`.
fn ranges(text: &str) -> Vec<(u16, u16)> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.trim().split(',').filter_map(range).collect()
}

/// Local addresses and ports of the sockets in a table that are in this state.
fn waiting<'a>(table: &'a str, state: &'a str) -> impl Iterator<Item = (IpAddr, u16)> {
    table.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, found) = (words.next()?, words.nth(1)?);
        let (address, port) = local.split_once(':')?;
        (found == state).then_some((address_of(address)?, u16::from_str_radix(port, 16).ok()?))
    })
}

/// Parses an address of the tables: words in the host's byte order.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    if text.len() == 8 {
        return Some(IpAddr::V4(Ipv4Addr::from(word(0)?)));
    }
    let mut bytes = [0; 16];
    for (at, four) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *four = word(at)?;
    }
    Some(IpAddr::V6(Ipv6Addr::from(bytes)))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn ranges_are_read_as_the_kernel_writes_them() {
        assert_eq!(pair("32768\t60999\n"), Some((32768, 60999)));
        assert_eq!(pair(""), None);
        assert_eq!(ranges("8080,9148-9150\n"), [(8080, 8080), (9148, 9150)]);
        assert_eq!(ranges("\n"), []);
    }

    #[test]
    fn listening_sockets_are_found_and_connected_ones_are_not() {
        let tcp = ["127.0.0.1:0", "[::1]:0"].map(|at| TcpListener::bind(at).unwrap());
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let client = std::net::TcpStream::connect(tcp[0].local_addr().unwrap()).unwrap();
        let found = HostPorts::read().unwrap();
        for listener in &tcp {
            let at = listener.local_addr().unwrap();
            assert!(found.listening.contains(&("TCP", at.ip(), at.port())), "{at}");
        }
        let at = udp.local_addr().unwrap();
        assert!(found.listening.contains(&("UDP", at.ip(), at.port())));
        let own = client.local_addr().unwrap();
        assert!(!found.listening.contains(&("TCP", own.ip(), own.port())));
        assert!(found.local.is_some_and(|(first, last)| first <= own.port() && own.port() <= last));
    }
}
