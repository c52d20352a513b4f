//! `nat`: backends without any preparation, each with a real web server, behind translated addresses and ports.

mod answers;
mod floods;
mod lives;
mod load;
mod paths;
mod ports;
mod probes;
mod suspects;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use edge_tests::lab::{
    bulk::{BULK, Bulk},
    nginx,
    patience::patience,
    process::Process,
    small::{BACKENDS, CLIENT, Small},
    status, tcp_echo, tool,
    topology::{ECHO, EDGE},
    udp_echo::{self, UdpEcho},
    wait_until,
};

const VIPS: [&str; 2] = ["192.0.2.80", "2001:db8::80"];
const PORT: u16 = 443;
/// A port without a server on any backend.
const NOBODY: u16 = 4444;

/// The lab. Its backends serve at their own addresses, and have none of the VIPs.
struct Nat {
    lab: Small,
    servers: Vec<Process>,
    _echoes: Vec<UdpEcho>,
    _bulks: Vec<Bulk>,
    dir: tempfile::TempDir,
}

/// The configuration; `more` is added to the service.
fn configuration(more: &str) -> String {
    let mut text = format!(
        "hash_key = \"4be0a7c195d2438f8a6613f05c7d92ea\"\nslots = 1024\n[limits]\nflows = 1024\nfragments = 64\nnat_flows = 16384\n\
         [nat]\nsource_v4 = [\"10.0.0.1\"]\nsource_v6 = [\"fd00::1\"]\nports = \"16384-20479\"\n\
         [[interface]]\nname = \"eth0\"\n[[interface]]\nname = \"eth1\"\n[[interface]]\nname = \"eth2\"\n\
         [defaults.probe]\ntype = \"http\"\nport = 80\npath = \"/healthz\"\ninterval = \"{interval}ms\"\nthrough = \"address\"\n",
        interval = patience(Duration::from_millis(100)).as_millis(),
    );
    for (number, provider) in (1..).zip(["a", "b"]) {
        let addresses = format!("\"10.1.{number}.11\", \"fd01:{number}::11\"");
        let _infallible = write!(
            text,
            "[[pool]]\nname = \"provider-{provider}\"\n[[pool.backend]]\nname = \"{provider}1\"\naddress = [{addresses}]\n"
        );
    }
    let vips = format!("vips = [\"{}\", \"{}\"]", VIPS[0], VIPS[1]);
    text + &format!(
        "[defaults.service]\nmode = \"nat\"\npools = [\"provider-a\", \"provider-b\"]\n\
         [[service]]\nname = \"echo\"\n{vips}\nports = [\"{ECHO}/tcp\", \"{ECHO}/udp\", \"{BULK}/tcp\", \"{NOBODY}/udp\"]\n\
         [[service]]\nname = \"web\"\n{vips}\nports = [\"{PORT}/tcp\"]\nbackend_port = 80\n{more}# end\n",
    )
}

impl Nat {
    fn start(more: &str) -> Self {
        Self::start_with(&configuration(more))
    }

    fn start_with(configuration: &str) -> Self {
        let mut nat = Self::without_balancer();
        nat.balance(configuration);
        nat
    }

    /// Starts the load balancer, and waits until all backends are up.
    fn balance(&mut self, configuration: &str) {
        self.lab.configure(configuration).expect("it can be written");
        self.lab.start_daemon().expect("all backends are up");
    }

    fn without_balancer() -> Self {
        let mut lab = Small::on_veth().expect("the lab comes up");
        for backend in BACKENDS {
            lab.pass(backend).expect("its veth takes what is sent");
        }
        let dir = tempfile::tempdir().expect("a directory");
        let server = |name| nginx::start(lab.netns(name), name, &dir.path().join(name)).expect("nginx starts");
        let servers = BACKENDS.map(server).into();
        let echo = |(number, name): (u8, &&str)| {
            let own = [format!("10.1.{number}.11:{ECHO}"), format!("[fd01:{number}::11]:{ECHO}")];
            let at = own.into_iter().map(|at| at.parse().expect("an address"));
            UdpEcho::start_at(lab.netns(name), name, at).expect("it listens")
        };
        let echoes = (1..).zip(&BACKENDS).map(echo).collect();
        let bulks = BACKENDS.iter().map(|name| Bulk::start(lab.netns(name)).expect("it listens")).collect();
        Self { lab, servers, _echoes: echoes, _bulks: bulks, dir }
    }

    /// Takes a backend's link down, and waits until the edge has noticed.
    fn silence(&self, backend: usize) {
        self.lab.netns(BACKENDS[backend]).ip("link set eth0 down\n").expect("it goes down");
        self.wait_for(backend, "down");
    }

    /// Brings a backend's link up again, and waits until the edge has noticed.
    fn bring_back(&self, backend: usize) {
        let number = backend + 1;
        let lines = format!(
            "link set eth0 up\naddr replace fd01:{number}::11/64 dev eth0 nodad\n\
             route replace default via 10.1.{number}.1\nroute replace default via fd01:{number}::1\n"
        );
        self.lab.netns(BACKENDS[backend]).ip(&lines).expect("it comes up");
        self.wait_for(backend, "up");
    }

    fn wait_for(&self, backend: usize, health: &str) {
        let name = ["a1", "b1"][backend];
        let is_so = || {
            let seen = status::backends(&self.lab.edge()?.status(self.lab.netns(EDGE))?)?;
            Ok(seen.iter().filter(|backend| backend.name == name).all(|backend| backend.health == health))
        };
        let waited = wait_until(patience(Duration::from_secs(20)), is_so).expect("a status");
        assert!(waited, "{name} is not {health}: {}", self.lab.ctl(&["status"]).expect("a status"));
    }

    /// Number of packets that left by an exit.
    fn left_by(&self, exit: &str) -> u64 {
        let status = self.lab.edge().expect("an edge").status(self.lab.netns(EDGE)).expect("a status");
        let exits = status["exits"].as_array().expect("exits");
        let counted = exits.iter().find(|counted| counted["name"] == exit).expect("it is counted");
        counted["packets"].as_u64().expect("a count")
    }

    /// Names of the backends that answer `count` requests.
    fn request(&self, vip: &str, count: usize) -> BTreeSet<String> {
        let host = if vip.contains(':') { format!("[{vip}]") } else { vip.to_owned() };
        let answer = || {
            let mut command = self.lab.netns(CLIENT).command("curl").expect("a command");
            let seconds = patience(Duration::from_secs(3)).as_secs().to_string();
            command.args(["-gsS", "-m", &seconds, &format!("http://{host}:{PORT}/")]);
            tool::run(&mut command).expect("an answer").trim().to_owned()
        };
        (0..count).map(|_| answer()).collect()
    }
}

/// A kept connection of a client.
struct Connection(TcpStream);

impl Connection {
    fn open(nat: &Nat, vip: &str) -> Self {
        let address = SocketAddr::new(vip.parse().expect("an address"), PORT);
        let connected = || TcpStream::connect_timeout(&address, patience(Duration::from_secs(3)));
        let stream = nat.lab.netns(CLIENT).within(connected).expect("a namespace").expect("a connection");
        stream.set_read_timeout(Some(patience(Duration::from_secs(3)))).expect("a timeout");
        Self(stream)
    }

    /// Sends a request; returns the name of the backend that answers.
    fn request(&mut self) -> io::Result<String> {
        self.0.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")?;
        let mut answer = [0; 4096];
        let length = self.0.read(&mut answer)?;
        let text = String::from_utf8_lossy(&answer[..length]);
        let name = text.lines().find_map(|line| line.strip_prefix("x-backend: "));
        name.map(ToOwned::to_owned).ok_or_else(|| io::Error::other(format!("no name in {text:?}")))
    }
}

#[test]
fn an_unprepared_backend_serves_clients_of_its_own_ip_version() {
    let nat = Nat::start("");
    for vip in VIPS {
        assert_eq!(nat.request(vip, 5), BTreeSet::from([BACKENDS[0].to_owned()]), "{vip}");
    }
}

#[test]
fn clients_of_a_provider_that_dies_are_reset_and_served_by_the_other() {
    let nat = Nat::start("");
    let mut clients = VIPS.map(|vip| Connection::open(&nat, vip));
    for client in &mut clients {
        for _ in 0..3 {
            assert_eq!(client.request().expect("an answer"), BACKENDS[0]);
        }
    }
    nat.silence(0);
    for (vip, client) in VIPS.into_iter().zip(&mut clients) {
        let error = client.request().expect_err("its backend is dead");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{vip}: {error}");
        assert_eq!(nat.request(vip, 3), BTreeSet::from([BACKENDS[1].to_owned()]), "{vip}");
    }
}

#[test]
fn a_flow_that_sticks_waits_for_its_backend() {
    let nat = Nat::start("on_backend_down = \"stick\"\n");
    let mut client = Connection::open(&nat, VIPS[0]);
    assert_eq!(client.request().expect("an answer"), BACKENDS[0]);
    nat.silence(0);
    assert_eq!(nat.request(VIPS[0], 3), BTreeSet::from([BACKENDS[1].to_owned()]));
    client.0.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let error = client.request().expect_err("nothing answers");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    nat.bring_back(0);
    client.0.set_read_timeout(Some(patience(Duration::from_secs(10)))).expect("a timeout");
    let mut answer = [0; 4096];
    assert!(client.0.read(&mut answer).expect("the request is sent again") > 0);
}

#[test]
fn flows_outlive_the_controller_a_restart_and_another_configuration() {
    let mut nat = Nat::start("");
    let mut clients = VIPS.map(|vip| Connection::open(&nat, vip));
    let mut all_go_on = |when: &str| {
        for client in &mut clients {
            assert_eq!(client.request().unwrap_or_else(|error| panic!("{when}: {error}")), BACKENDS[0], "{when}");
        }
    };
    all_go_on("at first");
    nat.lab.kill_daemon().expect("it is killed");
    all_go_on("without a controller");
    assert_eq!(nat.request(VIPS[0], 3), BTreeSet::from([BACKENDS[0].to_owned()]), "and new ones come");
    nat.lab.start_daemon().expect("it starts again");
    all_go_on("after a restart");
    nat.lab.ctl(&["drain", "provider-a/a1"]).expect("it drains");
    all_go_on("while it drains");
    assert_eq!(nat.request(VIPS[0], 3), BTreeSet::from([BACKENDS[1].to_owned()]), "new ones go elsewhere");
    nat.lab.ctl(&["enable", "provider-a/a1"]).expect("it is enabled");
    nat.lab.ctl(&["failover", "web", "--to", "provider-b"]).expect("it fails over");
    all_go_on("after a failover");
    let path = nat.lab.edge().expect("an edge").configuration();
    // Larger maps and another range of ports: flows are carried over.
    let text =
        configuration("").replace("nat_flows = 16384", "nat_flows = 32768").replace("16384-20479", "16384-24575");
    std::fs::write(&path, text).expect("it is written");
    nat.lab.ctl(&["apply", path.to_str().expect("a path")]).expect("it is applied");
    all_go_on("in larger maps");
}

#[test]
fn other_ports_on_trial_are_undone_and_an_operator_goes_back_to_them() {
    let nat = Nat::start("");
    let mut client = Connection::open(&nat, VIPS[0]);
    let path = nat.lab.edge().expect("an edge").configuration().with_file_name("new.toml");
    let wider = configuration("").replace("nat_flows = 16384", "nat_flows = 32768").replace("-20479", "-24575");
    std::fs::write(&path, &wider).expect("it is written");
    let printed = nat.lab.ctl(&["apply", path.to_str().expect("a path"), "--confirm", "4s"]).expect("it is applied");
    assert!(printed.contains("generation 2 comes into force") && printed.contains("it is undone in 4s"), "{printed}");
    let in_force =
        |generation: &str, text: &str| nat.lab.ctl(&["history", "--text", generation]).is_ok_and(|kept| kept == text);
    let back = wait_until(patience(Duration::from_secs(30)), || Ok(in_force("3", &configuration(""))));
    assert!(back.expect("a namespace"), "{}", nat.lab.edge().expect("an edge").log_text());
    assert_eq!(client.request().expect("an answer"), BACKENDS[0], "the flow goes on");
    // Refused until the program is on the maps of the undo.
    let rolled = wait_until(patience(Duration::from_secs(30)), || Ok(nat.lab.ctl(&["rollback", "2"]).is_ok()));
    assert!(rolled.expect("a namespace") && in_force("4", &wider));
    assert_eq!(client.request().expect("an answer"), BACKENDS[0], "the flow goes on");
}

#[test]
fn translation_comes_and_goes_with_a_reload() {
    let translates = configuration("");
    let (without, _) = translates.split_once("[defaults.service]").expect("it has services");
    let without = without.to_owned()
        + "[tunnel]\nsource_v4 = \"10.0.0.1\"\n[[service]]\nname = \"other\"\nvips = [\"192.0.2.99\"]\nports = [\"80/tcp\"]\n\
           mode = \"ipip\"\npools = [\"provider-a\"]\n";
    let nat = Nat::start_with(&without);
    let path = nat.lab.edge().expect("an edge").configuration();
    let load = |text: &str| {
        std::fs::write(&path, text).expect("it is written");
        nat.lab.ctl(&["reload", "--allow-removal", "9"]).expect("it comes into force")
    };
    load(&translates);
    let is_served = || nat.lab.netns(CLIENT).within(|| TcpStream::connect((VIPS[0], ECHO)).is_ok());
    assert!(wait_until(patience(Duration::from_secs(20)), is_served).expect("a namespace"), "it begins");
    for vip in VIPS {
        assert_eq!(nat.request(vip, 5), BTreeSet::from([BACKENDS[0].to_owned()]), "{vip}");
    }
    load(&without);
    load(&translates);
    assert_eq!(nat.request(VIPS[0], 5), BTreeSet::from([BACKENDS[0].to_owned()]), "it is there again");
}

/// Addresses and ports of the echo service.
fn echoes() -> [SocketAddr; 2] {
    VIPS.map(|vip| SocketAddr::new(vip.parse().expect("an address"), ECHO))
}

#[test]
fn much_data_goes_both_ways_unharmed_and_so_do_datagrams_in_fragments() {
    let nat = Nat::start("");
    let data: Vec<u8> = (0..16 << 20).map(|at: u32| (at ^ at >> 9).to_le_bytes()[0]).collect();
    for service in echoes() {
        let exchange = || tcp_echo::exchange(service, &data);
        let exchanged = nat.lab.netns(CLIENT).within(exchange).expect("a namespace").expect("what was sent comes back");
        assert_eq!(exchanged.backend, BACKENDS[0], "{service}");
        for length in [0, 1, 1400, 1473, 4000, 7000] {
            let exchange = || udp_echo::request(service, &data[..length], patience(Duration::from_secs(3)));
            let answered = nat.lab.netns(CLIENT).within(exchange).expect("a namespace");
            assert_eq!(answered.expect("an answer"), BACKENDS[0], "{service}: {length} bytes");
        }
    }
}

#[test]
fn a_client_receives_the_refusal_of_the_backends_port() {
    let nat = Nat::start("");
    for vip in VIPS {
        let exchange = || -> io::Result<usize> {
            let any = if vip.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any)?;
            socket.set_read_timeout(Some(patience(Duration::from_secs(3))))?;
            socket.connect((vip, NOBODY))?;
            socket.send(b"is there anybody?")?;
            socket.recv(&mut [0; 64])
        };
        let error = nat.lab.netns(CLIENT).within(exchange).expect("a namespace").expect_err("nothing answers");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{vip}: {error}");
    }
}

#[test]
fn what_the_edge_does_itself_goes_on_as_ever() {
    let nat = Nat::start("");
    let edge = nat.lab.netns(EDGE);
    let listener = edge.within(|| TcpListener::bind("10.0.0.1:2222")).expect("a namespace").expect("it listens");
    let connect = || TcpStream::connect_timeout(&"10.0.0.1:2222".parse().expect("an address"), Duration::from_secs(3));
    for _ in 0..3 {
        assert_eq!(nat.request(VIPS[0], 2), BTreeSet::from([BACKENDS[0].to_owned()]));
        let mut client = nat.lab.netns(CLIENT).within(connect).expect("a namespace").expect("the host's own service");
        client.write_all(b"ssh").expect("it is sent");
        let (mut served, _) = listener.accept().expect("a client");
        let mut banner = [0; 3];
        served.read_exact(&mut banner).expect("a banner");
        assert_eq!(&banner, b"ssh");
    }
    // The edge's own connection to a backend, from the source address of translated packets.
    let own = || TcpStream::connect_timeout(&"10.1.1.11:80".parse().expect("an address"), Duration::from_secs(3));
    edge.within(own).expect("a namespace").expect("a connection of its own");
}

#[test]
fn status_and_flows_show_the_users_of_ports() {
    let nat = Nat::start("");
    let _client = Connection::open(&nat, VIPS[0]);
    let shown = || Ok(nat.lab.ctl(&["status"])?.contains("translated flows: "));
    assert!(wait_until(patience(Duration::from_secs(20)), shown).expect("a status"));
    let flows = nat.lab.ctl(&["flows", "--service", "web"]).expect("flows");
    assert!(flows.contains("provider-a/a1 from 10.0.0.1:"), "{flows}");
    let status = nat.lab.ctl(&["status"]).expect("a status");
    assert!(status.contains("4096"), "{status}");
}
