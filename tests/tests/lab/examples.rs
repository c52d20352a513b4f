//! Each file of docs/examples, unchanged: real clients get real answers at all its VIPs and ports, from the first
//! provider, and from the second one after a failover.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use edge_tests::lab::{
    dnsmasq,
    netns::Netns,
    nginx,
    patience::patience,
    process::Process,
    small::{BACKENDS, CLIENT, Small},
    status,
    topology::EDGE,
    udp_echo::UdpEcho,
    wait_until,
};
use serde_json::Value;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples");
const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/pem");

/// What a user expects of an example.
struct Example {
    file: &'static str,
    service: &'static str,
    /// VIPs in the file: addresses, and prefixes whose first and last address are tested.
    vips: &'static [&'static str],
    /// First and last port of each entry.
    tcp: &'static [u16],
    udp: &'static [u16],
    /// The pool of the other provider.
    other: Option<&'static str>,
}

const WEB: [u16; 6] = [443, 2053, 2083, 2087, 2096, 8443];

const ALL: [Example; 6] = [
    Example {
        file: "plain-servers.toml",
        service: "site",
        vips: &["192.0.2.10", "2001:db8::10"],
        tcp: &[443],
        udp: &[],
        other: Some("provider-b"),
    },
    Example {
        file: "https-two-providers.toml",
        service: "site",
        vips: &["192.0.2.10", "2001:db8::10"],
        tcp: &[80, 443],
        udp: &[],
        other: Some("provider-b"),
    },
    Example {
        file: "anycast-dns.toml",
        service: "dns",
        vips: &["192.0.2.53", "2001:db8::53"],
        tcp: &[DNS],
        udp: &[DNS],
        other: Some("elsewhere"),
    },
    Example {
        file: "http3.toml",
        service: "web",
        vips: &["203.0.113.10", "2001:db8:a::10"],
        tcp: &WEB,
        udp: &WEB,
        other: Some("provider-b"),
    },
    Example {
        file: "game-ports.toml",
        service: "game",
        vips: &["198.51.100.20", "2001:db8::20"],
        tcp: &[],
        udp: &[27015, 27030],
        other: None,
    },
    Example {
        file: "many-addresses.toml",
        service: "customers",
        vips: &["198.51.100.0/25", "203.0.113.32/27", "192.0.2.16/30", "2001:db8:1::/121", "2001:db8:2::8/125"],
        tcp: &[80, 443],
        udp: &[],
        other: Some("provider-b"),
    },
];

const DNS: u16 = 53;
/// How long after a failover packets that look like starts of QUIC connections may go to the former backend, with a
/// margin.
const HANDSHAKE: Duration = Duration::from_secs(3);
/// Timeout of a client.
const ANSWER: Duration = Duration::from_secs(3);
/// A client's first datagram of QUIC, with its minimum length: the start of a flow.
const INITIAL: [u8; 1200] = {
    let mut datagram = [0; 1200];
    (datagram[0], datagram[4]) = (0xc0, 1);
    datagram
};
/// A query for the text of `server.example.org`.
const QUESTION: &[u8] = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x06server\x07example\x03org\0\0\x10\0\x01";

impl Example {
    /// The file's text, with two changes for a lab: certificates are signed by the lab's own authority, and in `nat`
    /// the interfaces of the answers are added.
    fn text(&self) -> String {
        let text = fs::read_to_string(Path::new(EXAMPLES).join(self.file)).unwrap();
        let text = text.replace("type = \"https\"\n", &format!("type = \"https\"\nca = \"{PEM}/ca.pem\"\n"));
        let others = "[[interface]]\nname = \"eth1\"\n[[interface]]\nname = \"eth2\"\n[defaults.probe]";
        if text.contains("mode = \"nat\"") { text.replace("[defaults.probe]", others) } else { text }
    }

    /// First and last address of each VIP, at these ports.
    fn at(&self, ports: &[u16]) -> BTreeSet<SocketAddr> {
        let addresses: Vec<_> = self.vips.iter().flat_map(|vip| ends(vip)).collect();
        addresses.iter().flat_map(|vip| ports.iter().map(|port| SocketAddr::new(*vip, *port))).collect()
    }

    /// Asserts that this host answers real clients at all addresses and ports.
    fn check_answers(&self, lab: &Small, backend: &str) {
        let exchange = || {
            for door in self.at(self.tcp) {
                let answer = exchange_tcp(door).unwrap_or_else(|error| panic!("{}: {door}/tcp: {error}", self.file));
                assert!(names(&answer, backend), "{}: {door}/tcp: {}", self.file, answer.escape_ascii());
            }
            for door in self.at(self.udp) {
                // For a second after a failover, handshakes of QUIC go on where they began, and each of these datagrams
                // looks like one.
                let mut answer = Vec::new();
                let moved = wait_until(patience(HANDSHAKE), || {
                    answer = exchange_udp(door).unwrap_or_else(|error| panic!("{}: {door}/udp: {error}", self.file));
                    Ok(names(&answer, backend))
                });
                assert!(moved.expect("an answer"), "{}: {door}/udp: {}", self.file, answer[..8].escape_ascii());
            }
        };
        lab.netns(CLIENT).within(exchange).unwrap();
    }
}

/// First and last address of a prefix, or the single address.
fn ends(vip: &str) -> [IpAddr; 2] {
    let (first, length) = vip.split_once('/').unwrap_or((vip, "128"));
    let length = length.parse().unwrap();
    match first.parse().unwrap() {
        IpAddr::V4(first) => {
            let last = first.to_bits() | u32::MAX.checked_shr(length).unwrap_or(0);
            [first.into(), Ipv4Addr::from_bits(last).into()]
        }
        IpAddr::V6(first) => {
            let last = first.to_bits() | u128::MAX.checked_shr(length).unwrap_or(0);
            [first.into(), Ipv6Addr::from_bits(last).into()]
        }
    }
}

fn names(answer: &[u8], backend: &str) -> bool {
    answer.windows(backend.len()).any(|some| some == backend.as_bytes())
}

fn exchange_tcp(door: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&door, patience(ANSWER))?;
    stream.set_read_timeout(Some(patience(ANSWER)))?;
    if door.port() == DNS {
        let length = u16::try_from(QUESTION.len()).unwrap();
        stream.write_all(&[&length.to_be_bytes(), QUESTION].concat())?;
    } else {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn exchange_udp(door: SocketAddr) -> io::Result<Vec<u8>> {
    let any = if door.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(patience(ANSWER)))?;
    socket.connect(door)?;
    socket.send(if door.port() == DNS { QUESTION } else { &INITIAL })?;
    let mut answer = [0; 2048];
    let length = socket.recv(&mut answer)?;
    Ok(answer[..length].to_vec())
}

/// Addresses of the examples' backends: those of one provider are all on one host of the lab.
fn addresses(provider: usize) -> Vec<IpAddr> {
    let v4 = (11..=22).chain([53, 54]).map(|last| IpAddr::V4(Ipv4Addr::new(10, [1, 2][provider], 0, last)));
    let v6 = [11, 12].map(|last| format!("2001:db8:{}::{last}", ["c", "b"][provider]).parse().unwrap());
    v4.chain(v6).collect()
}

/// The small lab with the examples' providers.
fn lab() -> Small {
    let lab = Small::on_veth().expect("the lab comes up");
    for (provider, backend) in BACKENDS.iter().enumerate() {
        let mut lines = String::new();
        for address in addresses(provider) {
            let more = if address.is_ipv4() { "/32 dev lo" } else { "/128 dev lo nodad" };
            writeln!(lines, "addr add {address}{more}").unwrap();
        }
        lab.netns(backend).ip(&lines).unwrap();
    }
    let routes = "route add 10.1.0.0/24 via 10.1.1.11\nroute add 10.2.0.0/24 via 10.1.2.11\n\
                  route add 2001:db8:c::/64 via fd01:1::11\nroute add 2001:db8:b::/64 via fd01:2::11\n";
    lab.netns(EDGE).ip(routes).unwrap();
    lab
}

/// The servers of a provider's host for an example.
struct Servers {
    _tcp: Option<Process>,
    _udp: Option<UdpEcho>,
    _dir: tempfile::TempDir,
}

impl Servers {
    /// Prepares a backend as the README describes: VIPs on `lo`, decapsulation, and servers that listen at the VIPs.
    fn start(lab: &Small, example: &Example, provider: usize, text: &str) -> Self {
        let (host, dir) = (BACKENDS[provider], tempfile::tempdir().unwrap());
        let netns = lab.netns(host);
        let mut lines = String::new();
        let mut decap = vec!["--from", "10.0.0.1"];
        if text.contains("source_v6 = \"fd00::1\"") {
            decap.extend(["--from", "fd00::1"]);
        }
        for vip in example.vips {
            match (vip.contains('/'), vip.contains(':')) {
                (true, _) => writeln!(lines, "route replace local {vip} dev lo"),
                (false, true) => writeln!(lines, "addr replace {vip}/128 dev lo nodad"),
                (false, false) => writeln!(lines, "addr replace {vip}/32 dev lo"),
            }
            .unwrap();
            decap.extend(["--vip", vip]);
        }
        netns.ip(&lines).unwrap();
        lab.decap(host, &decap).unwrap();
        let tcp = match example.tcp {
            [] => None,
            [DNS] => Some(dnsmasq::start(netns, dir.path()).unwrap()),
            ports => Some(web(netns, host, dir.path(), ports)),
        };
        if let Some(port) = example.tcp.first() {
            let listens = || Ok(netns.within(|| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)))?.is_ok());
            assert!(wait_until(patience(Duration::from_secs(10)), listens).unwrap(), "{host} listens at {port}");
        }
        // UDP probes are sent to the backends' own addresses.
        let own = addresses(provider).into_iter();
        let own = own.flat_map(|address| example.udp.iter().map(move |port| SocketAddr::new(address, *port)));
        let udp = (example.udp != [DNS])
            .then(|| UdpEcho::start_at(netns, host, example.at(example.udp).into_iter().chain(own)));
        Self { _tcp: tcp, _udp: udp.transpose().unwrap(), _dir: dir }
    }
}

/// Starts a web server with the lab's certificate, which also answers plain HTTP with its name.
fn web(netns: &Netns, name: &str, dir: &Path, ports: &[u16]) -> Process {
    let listen: Vec<_> = ports.iter().map(|port| format!("listen [::]:{port} ipv6only=off ssl http2;")).collect();
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {dir}/nginx.pid;\nevents {{ }}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\nfastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\nserver {{\n{listen}\nserver_name www.example.org;\n\
         ssl_certificate {PEM}/server.pem;\nssl_certificate_key {PEM}/server.key;\n\
         error_page 497 =200 /;\nlocation / {{ return 200 \"{name}\\n\"; }}\n}}\n}}\n",
        dir = dir.display(),
        listen = listen.join("\n"),
    );
    fs::write(dir.join("nginx.conf"), text).unwrap();
    let mut command = netns.command(nginx::binary().unwrap()).unwrap();
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    Process::start(&format!("nginx of {name}"), &mut command, &dir.join("output.log")).unwrap()
}

#[test]
fn each_example_serves_as_it_is() {
    let mut lab = lab();
    for example in ALL {
        let (name, text) = (example.file, example.text());
        let _servers = [0, 1].map(|provider| Servers::start(&lab, &example, provider, &text));
        let file = lab.configure(&text).unwrap().configuration();
        lab.ctl(&["check", "--host", file.to_str().unwrap()]).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        lab.launch_daemon().unwrap_or_else(|error| panic!("{name}: {error:#}"));
        let status = || lab.edge().unwrap().status(lab.netns(EDGE)).unwrap();
        let up = || Ok(status::backends(&status())?.iter().all(|backend| backend.health == "up"));
        assert!(
            wait_until(patience(Duration::from_secs(15)), up).unwrap(),
            "{name}: {}",
            lab.ctl(&["status"]).unwrap()
        );
        let status = status();
        assert_eq!(status["interfaces"][0]["attached"], Value::Bool(true), "{name}");
        let services: Vec<_> = status["services"].as_array().unwrap().iter().map(|service| &service["name"]).collect();
        assert_eq!(services, [example.service], "{name}");

        example.check_answers(&lab, BACKENDS[0]);
        if let Some(pool) = example.other {
            lab.ctl(&["failover", example.service, "--to", pool]).unwrap();
            example.check_answers(&lab, BACKENDS[1]);
            let events = lab.ctl(&["events"]).unwrap();
            let failovers = events.lines().filter(|line| line.split_whitespace().nth(1) == Some("failover")).count();
            assert_eq!(failovers, 1, "{name}: {events}");
        }
        // The next example is for a new host: the state that this one has saved for a reboot would refuse it.
        let edge = lab.edge().unwrap();
        let states = [edge.state_dir(), edge.run_dir().join("state")];
        lab.detach().unwrap();
        for state in states {
            // The state is written asynchronously, and not at all if the daemon ended before.
            let removed = fs::remove_dir_all(state).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
            removed.unwrap();
        }
    }
}
