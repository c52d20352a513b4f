//! Packets to a VIP beside its services: the host's if the VIP is the host's address, otherwise refused or dropped.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use edge_tests::lab::{
    patience::patience,
    small::{CLIENT, Mode, Served, Small},
    topology::{ECHO, EDGE},
    wait_until,
};
use nix::sys::signal::Signal;

/// A port without a service.
const PORT: u16 = 2222;
/// Time within which a refusal arrives.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Result of a client's connection to the VIP, and the time it took.
fn connect(lab: &Small, vip: IpAddr, port: u16) -> Result<(Option<ErrorKind>, Duration)> {
    lab.netns(CLIENT).within(|| {
        let started = Instant::now();
        let connected = TcpStream::connect_timeout(&SocketAddr::new(vip, port), patience(Duration::from_secs(2)));
        (connected.err().map(|error| error.kind()), started.elapsed())
    })
}

/// Result of a client's datagram to the VIP.
fn send(lab: &Small, vip: IpAddr) -> Result<Option<ErrorKind>> {
    let exchanged = lab.netns(CLIENT).within(|| -> std::io::Result<()> {
        let any: SocketAddr = if vip.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.set_read_timeout(Some(patience(AT_ONCE)))?;
        socket.connect(SocketAddr::new(vip, PORT))?;
        socket.send(b"?")?;
        socket.recv(&mut [0; 8]).map(drop)
    })?;
    Ok(exchanged.err().map(|error| error.kind()))
}

/// Whether the host itself answers a connection to the VIP, as a login would.
fn is_the_hosts(lab: &Small, vip: IpAddr) -> Result<bool> {
    lab.netns(CLIENT).within(|| {
        let at = SocketAddr::new(vip, PORT);
        let Ok(mut stream) = TcpStream::connect_timeout(&at, patience(Duration::from_secs(1))) else { return false };
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).is_ok() && answer == *b"hello"
    })
}

#[test]
fn a_port_without_a_service_is_the_hosts_or_refused_or_dropped() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("backends take what the edge sends");
    lab.balance(Mode::Native).expect("the edge serves");
    let vips = ["dsr4", "dsr6"].map(|name| Served::named(name).vip);
    let refused = |lab: &Small, vip| {
        let (error, after) = connect(lab, vip, PORT)?;
        Ok(error == Some(ErrorKind::ConnectionRefused) && after < patience(AT_ONCE))
    };
    for vip in vips {
        assert!(refused(&lab, vip).unwrap(), "{vip}: {:?}", connect(&lab, vip, PORT));
        assert_eq!(send(&lab, vip).unwrap(), Some(ErrorKind::ConnectionRefused), "{vip}");
        lab.request(vip, 4).unwrap();
    }

    // The host has the VIP, and a server that listens at it.
    let listener = lab.netns(EDGE).within(|| TcpListener::bind(("::", PORT))).unwrap().expect("it listens");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"hello"));
        }
    });
    for vip in vips {
        let (address, more) = if vip.is_ipv4() { (format!("{vip}/32"), "") } else { (format!("{vip}/128"), " nodad") };
        lab.netns(EDGE).ip(&format!("addr add {address} dev lo{more}\n")).unwrap();
        let soon = patience(Duration::from_secs(3));
        assert!(wait_until(soon, || is_the_hosts(&lab, vip)).unwrap(), "{vip}: {:?}", connect(&lab, vip, PORT));
        // The services at the VIP remain the edge's. In this lab a backend's answers pass the edge's kernel, which
        // accepts none from its own IPv4 address; the host itself would refuse the connection.
        assert_ne!(connect(&lab, vip, ECHO).unwrap().0, Some(ErrorKind::ConnectionRefused), "{vip}");
        lab.netns(EDGE).ip(&format!("addr del {address} dev lo\n")).unwrap();
        assert!(wait_until(soon, || refused(&lab, vip)).unwrap(), "{vip}: {:?}", connect(&lab, vip, PORT));
    }

    let file = lab.edge().unwrap().configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("[limits]", "[edge]\nvip_other = \"drop\"\n\n[limits]")).unwrap();
    lab.edge().unwrap().signal(Signal::SIGHUP).context("the daemon runs").unwrap();
    for vip in vips {
        let dropped = || Ok(connect(&lab, vip, PORT)?.0 == Some(ErrorKind::TimedOut));
        assert!(
            wait_until(patience(Duration::from_secs(10)), dropped).unwrap(),
            "{vip}: {:?}",
            connect(&lab, vip, PORT)
        );
        assert_eq!(send(&lab, vip).unwrap(), Some(ErrorKind::WouldBlock), "{vip}");
        lab.request(vip, 4).unwrap();
    }
}
