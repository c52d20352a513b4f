//! Clients that receive no ICMP upload through tunnels, since the backends' SYN-ACKs limit their segments to what fits.

use std::{
    fs,
    io::{self, ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use edge_tests::lab::{
    patience::patience,
    small::{CLIENT, Mode, SERVED, Served, Small},
    tcp_echo::{self, Exchange},
    topology::ECHO,
};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};

const UPLOAD: usize = 300_000;
/// Length of the longer outer header, bytes: the backends know edges of both families.
const OUTER: u32 = 40;
/// An upload stalls if nothing arrives for this long: a hundred times as long as an upload takes.
const STALL: Duration = Duration::from_secs(3);

#[test]
fn a_client_that_receives_no_icmp_uploads_through_every_tunnel() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
    let edge = lab.prepare(Mode::Native, "").expect("a load balancer");
    // No packet that is too long is reported.
    let path = edge.configuration();
    let text = fs::read_to_string(&path).expect("a configuration");
    fs::write(&path, text.replace("[limits]\n", "[limits]\ntoo_big_per_second = 0\n")).expect("it is written");
    lab.start_daemon().expect("the load balancer starts");
    for served in SERVED {
        let Exchange { segments, .. } = upload(&lab, served).unwrap_or_else(|error| panic!("{}: {error}", served.name));
        let headers = if served.vip.is_ipv4() { 20 } else { 40 } + 20 + 12;
        assert_eq!(segments, [1500 - OUTER - headers; 2], "{}: as the SYN-ACK allows", served.name);
    }
    for backend in lab.backends() {
        lab.decap(&backend, &["--from", "10.0.0.1", "--from", "fd00::1", "--vip", "192.0.2.0/24", "--keep-mss"])
            .unwrap();
    }
    let stalled = stalling(&lab, Served::named("4in4")).map_err(|error| error.kind());
    assert_eq!(stalled, Err(ErrorKind::TimedOut), "without it an upload stands still");
}

fn data() -> Vec<u8> {
    (0..=250).cycle().take(UPLOAD).collect()
}

/// Uploads until the kernel reports that nothing was acknowledged for a while.
fn stalling(lab: &Small, served: Served) -> io::Result<()> {
    let mut stream = lab.netns(CLIENT).within(|| TcpStream::connect(served.at(ECHO))).expect("the client is there")?;
    let limit = patience(STALL).as_millis().try_into().map_err(io::Error::other)?;
    setsockopt(&stream, TcpUserTimeout, &limit)?;
    stream.write_all(&data())?;
    stream.read(&mut [0]).map(drop)
}

fn upload(lab: &Small, served: Served) -> io::Result<Exchange> {
    let data = data();
    lab.netns(CLIENT).within(|| tcp_echo::exchange(served.at(ECHO), &data)).expect("the client is there")
}
