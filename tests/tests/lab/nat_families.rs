//! `nat` between IP versions: one provider has only IPv4, the other only IPv6, and each serves clients of both.

mod http3;
mod told;

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use edge_tests::lab::{
    bulk::{self, BULK, Bulk, Direction},
    extent::extent,
    nginx,
    patience::patience,
    process::Process,
    small::{BACKENDS, CLIENT, Small},
    tcp_echo, tool,
    topology::{ECHO, EDGE},
    udp_echo::{self, UdpEcho},
    wait_until,
};

/// VIPs of the provider that has only IPv4, and of the other one.
const VIPS: [[&str; 2]; 2] = [["192.0.2.84", "2001:db8::84"], ["192.0.2.86", "2001:db8::86"]];
const TLS: u16 = 443;
/// TLS port of the backends.
const BACKEND_TLS: u16 = 8443;
/// A port without a server on any backend.
const NOBODY: u16 = 4444;
/// Size of a file, and of an upload, in bytes: 16 MiB.
const MUCH: usize = 16 << 20;
const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/pem");

/// The lab. Its backends have one IP version each, and need no preparation.
struct Families {
    lab: Small,
    _servers: Vec<Process>,
    _echoes: Vec<UdpEcho>,
    _bulks: Vec<Bulk>,
    dir: tempfile::TempDir,
}

fn configuration() -> String {
    let interval = patience(Duration::from_millis(100)).as_millis();
    let service = |name: &str, pool: &str, [v4, v6]: [&str; 2]| {
        format!(
            "[[service]]\nname = \"{name}\"\nvips = [\"{v4}\", \"{v6}\"]\npools = [\"{pool}\"]\n\
             ports = [\"{ECHO}/tcp\", \"{ECHO}/udp\", \"{BULK}/tcp\", \"{NOBODY}/udp\"]\n\
             [[service]]\nname = \"{name}-tls\"\nvips = [\"{v4}\", \"{v6}\"]\npools = [\"{pool}\"]\n\
             ports = [\"{TLS}/tcp\"]\nbackend_port = {BACKEND_TLS}\n"
        )
    };
    format!(
        "hash_key = \"4be0a7c195d2438f8a6613f05c7d92ea\"\nslots = 1024\n[limits]\nflows = 1024\nfragments = 64\nnat_flows = 16384\n\
         [nat]\nsource_v4 = [\"10.0.0.1\"]\nsource_v6 = [\"fd00::1\"]\nports = \"16384-20479\"\n\
         [[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n[[interface]]\nname = \"eth2\"\n\
         [defaults.probe]\ntype = \"tcp\"\nport = {BACKEND_TLS}\ninterval = \"{interval}ms\"\nthrough = \"address\"\n\
         [[pool]]\nname = \"four\"\n[[pool.backend]]\nname = \"be1\"\naddress = \"10.1.1.11\"\n\
         [[pool]]\nname = \"six\"\n[[pool.backend]]\nname = \"be2\"\naddress = \"fd01:2::11\"\n\
         [defaults.service]\nmode = \"nat\"\n{}{}# end\n",
        service("four", "four", VIPS[0]),
        service("six", "six", VIPS[1]),
    )
}

/// Starts nginx with TLS and a large file, at one address.
fn server(lab: &Small, name: &str, at: &str, dir: &Path) -> Process {
    std::fs::create_dir_all(dir).expect("a directory");
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\nuser root;\npid {dir}/nginx.pid;\nevents {{ }}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\nfastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
         server {{\nlisten {at}:{BACKEND_TLS} ssl;\nssl_certificate {PEM}/server.pem;\nssl_certificate_key {PEM}/server.key;\n\
         root {files};\nlocation = / {{ return 200 \"{name}\\n\"; }}\n}}\n}}\n",
        dir = dir.display(),
        files = dir.parent().expect("a directory of all").display(),
    );
    std::fs::write(dir.join("nginx.conf"), text).expect("it can be written");
    let mut command = lab.netns(name).command(nginx::binary().expect("nginx")).expect("a command");
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    Process::start("nginx with TLS", &mut command, &dir.join("output.log")).expect("it starts")
}

fn much() -> Vec<u8> {
    (0..u32::try_from(MUCH).expect("a few")).map(|at| (at ^ at >> 9).to_le_bytes()[0]).collect()
}

impl Families {
    /// Starts the lab; `more` contains lines for `ip` in the namespaces of hosts.
    fn start(more: &[(&str, &str)]) -> Self {
        Self::start_with(more, &configuration())
    }

    fn start_with(more: &[(&str, &str)], configuration: &str) -> Self {
        let mut lab = Small::on_veth().expect("the lab comes up");
        for backend in BACKENDS {
            lab.pass(backend).expect("its veth takes what is sent");
        }
        // Each backend has one IP version only.
        lab.netns(BACKENDS[0]).ip("addr del fd01:1::11/64 dev eth0\n").expect("it has the address");
        lab.netns(BACKENDS[1]).ip("addr del 10.1.2.11/24 dev eth0\n").expect("it has the address");
        for (host, lines) in more {
            lab.netns(host).ip(lines).expect("the commands succeed");
        }
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("much"), much()).expect("it can be written");
        let addresses = ["10.1.1.11", "[fd01:2::11]"];
        let servers = BACKENDS.iter().zip(addresses).map(|(name, at)| server(&lab, name, at, &dir.path().join(name)));
        let servers = servers.collect();
        let echoes = BACKENDS.iter().zip(addresses).map(|(name, at)| {
            let at = format!("{at}:{ECHO}").parse().expect("an address");
            UdpEcho::start_at(lab.netns(name), name, std::iter::once(at)).expect("it listens")
        });
        let echoes = echoes.collect();
        let bulks = BACKENDS.iter().map(|name| Bulk::start(lab.netns(name)).expect("it listens")).collect();
        lab.configure(configuration).expect("it can be written");
        lab.start_daemon().expect("all backends are up");
        Self { lab, _servers: servers, _echoes: echoes, _bulks: bulks, dir }
    }

    /// Requests a page and many bytes in each combination of IP versions.
    #[track_caller]
    fn serve_all(&self) {
        let wanted = sum(&self.dir.path().join("much"));
        let got = self.dir.path().join("got");
        for (vip, backend) in combinations() {
            assert_eq!(self.get(vip, "", None).trim(), backend, "{vip}");
            self.get(vip, "much", Some(&got));
            assert_eq!(sum(&got), wanted, "{vip}");
            std::fs::remove_file(&got).expect("it was there");
        }
    }

    fn client<T: Send>(&self, within: impl FnOnce() -> T + Send) -> T {
        self.lab.netns(CLIENT).within(within).expect("a namespace")
    }

    /// Result of `curl` over TLS, which writes to a file if `to` is given.
    fn get(&self, vip: &str, path: &str, to: Option<&Path>) -> String {
        let mut command = self.lab.netns(CLIENT).command("curl").expect("a command");
        let seconds = patience(Duration::from_secs(30)).as_secs().to_string();
        command.args(["-gsSf", "-m", &seconds, "--resolve"]);
        command.arg(format!("www.example.org:{TLS}:[{vip}]")).args(["--cacert", &format!("{PEM}/ca.pem")]);
        if let Some(to) = to {
            command.arg("-o").arg(to);
        }
        command.arg(format!("https://www.example.org:{TLS}/{path}"));
        tool::run(&mut command).unwrap_or_else(|error| panic!("{vip}: {error:#}"))
    }
}

/// VIP and backend of each of the four combinations.
fn combinations() -> impl Iterator<Item = (&'static str, &'static str)> {
    VIPS.into_iter().zip(BACKENDS).flat_map(|(vips, backend)| vips.map(|vip| (vip, backend)))
}

fn sum(path: &Path) -> String {
    let sum = tool::run(Command::new("sha256sum").arg(path)).expect("a checksum");
    sum.split_whitespace().next().expect("a checksum").to_owned()
}

fn service(vip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(vip.parse().expect("an address"), port)
}

#[test]
fn a_web_server_with_tls_serves_clients_of_both_ip_versions_whichever_it_has() {
    let families = Families::start(&[]);
    families.serve_all();
    let flows = families.lab.ctl(&["flows"]).expect("flows");
    assert!(flows.contains("four/be1 from 10.0.0.1:"), "{flows}");
    assert!(flows.contains("six/be2 from [fd00::1]:"), "{flows}");
    let shown = || Ok(families.lab.ctl(&["status"])?.contains("translated flows: "));
    assert!(wait_until(patience(Duration::from_secs(20)), shown).expect("a status"));
}

#[test]
fn much_data_goes_up_and_comes_back_unharmed_and_so_do_datagrams_in_fragments() {
    let families = Families::start(&[]);
    let data = much();
    for (vip, backend) in combinations() {
        let exchange = || tcp_echo::exchange(service(vip, ECHO), &data);
        let exchanged = families.client(exchange).unwrap_or_else(|error| panic!("{vip}: {error}"));
        assert_eq!(exchanged.backend, backend, "{vip}");
        for length in [0, 1, 1400, 1440, 4000, 7000] {
            // The first datagram in full-size fragments is lost where headers become longer: its sender learns the MTU.
            let exchange = || udp_echo::request(service(vip, ECHO), &data[..length], patience(Duration::from_secs(1)));
            let is_answered = || Ok(families.client(exchange).is_ok_and(|answered| answered == backend));
            let waited = wait_until(patience(Duration::from_secs(10)), is_answered).expect("an answer");
            assert!(waited, "{vip}: {length} bytes: {}", families.lab.ctl(&["status"]).expect("a status"));
        }
    }
}

#[test]
fn much_goes_up_and_down_between_ip_versions_with_equal_checksums() {
    let families = Families::start(&[]);
    let bytes = extent(64 << 20, 1 << 30);
    for (vip, backend) in combinations() {
        for direction in [Direction::Up, Direction::Down] {
            let began = Instant::now();
            let sum = families.client(|| bulk::exchange(service(vip, BULK), direction, bytes));
            let sum = sum.unwrap_or_else(|error| panic!("{vip} {backend} {direction:?}: {error}"));
            println!("{vip} {backend} {direction:?}: {bytes} bytes, checksum {sum:016x}, in {:?}", began.elapsed());
        }
    }
}

#[test]
fn a_client_receives_the_refusal_of_a_port_of_the_other_ip_version() {
    let families = Families::start(&[]);
    for (vip, _) in combinations() {
        let exchange = || -> io::Result<usize> {
            let socket = connected(service(vip, NOBODY))?;
            socket.send(b"is there anybody?")?;
            socket.recv(&mut [0; 64])
        };
        let error = families.client(exchange).expect_err("nothing answers");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{vip}: {error}");
    }
}

fn connected(service: SocketAddr) -> io::Result<UdpSocket> {
    let any = match service.ip() {
        IpAddr::V4(_) => "0.0.0.0:0",
        IpAddr::V6(_) => "[::]:0",
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(patience(Duration::from_secs(3))))?;
    socket.connect(service)?;
    Ok(socket)
}

/// The path MTU to a service, as a client's kernel has learnt it from datagrams that fill its link.
fn path_mtu(families: &Families, vip: &str) -> u32 {
    let data = vec![7; 1500 - if vip.contains(':') { 48 } else { 28 }];
    let exchange = || udp_echo::request(service(vip, ECHO), &data, patience(Duration::from_secs(1)));
    let is_answered = || Ok(families.client(exchange).is_ok());
    let waited = wait_until(patience(Duration::from_secs(10)), is_answered).expect("an answer");
    assert!(waited, "{vip}: {}", families.lab.ctl(&["status"]).expect("a status"));
    let mut command = families.lab.netns(CLIENT).command("ip").expect("a command");
    let route = tool::run(command.args(["route", "get", vip])).expect("a route");
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().map_or(1500, |mtu| mtu.parse().expect("a number"))
}

#[test]
fn path_mtu_discovery_sees_the_way_behind_and_before_the_edge() {
    // Each provider's link has a smaller MTU than the client's, and servers would accept longer segments.
    let narrow = "link set eth0 mtu 1400\n";
    let families = Families::start(&[
        (EDGE, "link set eth1 mtu 1400\nlink set eth2 mtu 1400\n"),
        (BACKENDS[0], &format!("{narrow}route replace default via 10.1.1.1 advmss 1460\n")),
        (BACKENDS[1], &format!("{narrow}route replace default via fd01:2::1 advmss 1440\n")),
    ]);
    let data = much();
    for (vip, backend) in combinations() {
        let exchanged = families.client(|| tcp_echo::exchange(service(vip, ECHO), &data[..1 << 20]));
        assert_eq!(exchanged.unwrap_or_else(|error| panic!("{vip}: {error}")).backend, backend, "{vip}");
    }
    // An IPv4 client's datagrams to an IPv6 backend must be in fragments that fit with a header that is eight bytes
    // longer.
    for (vip, mtu) in [(VIPS[0][0], 1400), (VIPS[0][1], 1420), (VIPS[1][0], 1372), (VIPS[1][1], 1400)] {
        assert_eq!(path_mtu(&families, vip), mtu, "{vip}");
    }
}

#[test]
fn what_a_backend_sends_fits_a_narrow_link_to_the_client() {
    let narrow = "link set eth0 mtu 1400\n";
    let routes = "route replace default via 10.0.0.1 advmss 1460\nroute replace default via fd00::1 advmss 1440\n";
    let families = Families::start(&[(EDGE, narrow), (CLIENT, &format!("{narrow}{routes}"))]);
    let data = much();
    for (vip, backend) in combinations().filter(|(vip, backend)| vip.contains(':') == (*backend == BACKENDS[0])) {
        let exchanged = families.client(|| tcp_echo::exchange(service(vip, ECHO), &data[..1 << 20]));
        assert_eq!(exchanged.unwrap_or_else(|error| panic!("{vip}: {error}")).backend, backend, "{vip}");
        for length in [1340, 1371, 1400] {
            let exchange = || udp_echo::request(service(vip, ECHO), &data[..length], patience(Duration::from_secs(1)));
            let is_answered = || Ok(families.client(exchange).is_ok_and(|answered| answered == backend));
            let waited = wait_until(patience(Duration::from_secs(10)), is_answered).expect("an answer");
            assert!(waited, "{vip}: {length} bytes: {}", families.lab.ctl(&["status"]).expect("a status"));
        }
    }
}
