//! The decapsulation in a network namespace, with real tunnel packets from the peer.

use std::{
    fs,
    net::{Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::PathBuf,
    time::Duration,
};

use clap::Parser;
use edge_common::abi::ABI_VERSION;

use super::*;
use crate::{
    bpf::bpffs::Bpffs,
    net::lab::{Lab, in_lab, sh},
    xdp::OBJECT,
};

/// A lab with a BPF file system of its own.
pub(super) fn in_bpf_lab(test: impl FnOnce(&Lab, &Path) + Send) {
    in_lab(|lab| test(lab, &Bpffs::mount().path().join("edge")));
}

/// The directory of this version's pins.
fn own(pins: &Path) -> PathBuf {
    pins.join(format!("v{ABI_VERSION}")).join("decap")
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: DecapArgs,
}

/// Runs the command line `edge-ctl decap` with `line`; the error is what a person sees.
pub(super) fn decap(pins: &Path, line: &str) -> Result<String, String> {
    let words = ["decap"].into_iter().chain(line.split_whitespace());
    let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
    execute(&line.args, pins, OBJECT).map_err(|error| format!("{error:#}"))
}

/// Packets that left by the exit `name`.
fn packets(pins: &Path, name: &str) -> u64 {
    let status = decap(pins, "--interface edge0 --status --json").unwrap();
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let exits = status["exits"].as_array().unwrap();
    exits.iter().find(|exit| exit["name"] == name).unwrap()["packets"].as_u64().unwrap()
}

fn header(protocol: u8, source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet[2..4].copy_from_slice(&u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    packet.extend(source.octets());
    packet.extend(destination.octets());
    let sum: u32 = packet.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    packet[10..12].copy_from_slice(&(!folded).to_be_bytes());
    packet.extend(payload);
    packet
}

/// A datagram from 198.51.100.5 to port 4000 of `vip`, tunnelled by `edge` to 10.0.0.1.
fn tunnelled(edge: Ipv4Addr, vip: Ipv4Addr) -> Vec<u8> {
    let datagram = [0x13, 0x88, 0x0f, 0xa0, 0, 13, 0, 0, b'h', b'e', b'l', b'l', b'o'];
    let inner = header(17, Ipv4Addr::new(198, 51, 100, 5), vip, &datagram);
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend(header(4, edge, Ipv4Addr::new(10, 0, 0, 1), &inner));
    frame
}

/// As [`tunnelled`], but in UDP to `port`.
fn in_udp(edge: Ipv4Addr, vip: Ipv4Addr, port: u16) -> Vec<u8> {
    let inner = tunnelled(edge, vip)[34..].to_vec();
    let length = u16::try_from(8 + inner.len()).unwrap();
    let words = [51_234, port, length, 0].map(u16::to_be_bytes).concat();
    let mut frame = tunnelled(edge, vip)[..14].to_vec();
    frame.extend(header(17, edge, Ipv4Addr::new(10, 0, 0, 1), &[words, inner].concat()));
    frame
}

/// Sends `count` tunnel packets of `edge` for `vip` from the peer, one each `pause`.
fn send(lab: &Lab, edge: [u8; 4], vip: [u8; 4], count: usize, pause: Duration) -> std::thread::JoinHandle<()> {
    send_frames(lab, tunnelled(edge.into(), vip.into()), count, pause)
}

fn send_frames(lab: &Lab, frame: Vec<u8>, count: usize, pause: Duration) -> std::thread::JoinHandle<()> {
    lab.in_peer(move || {
        // SAFETY: no pointers are involved; the result is checked before use.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        assert!(raw >= 0);
        // SAFETY: `raw` was opened just now, and has no other owner.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: an all-zero `sockaddr_ll` is a valid one.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        to.sll_ifindex = i32::try_from(nix::net::if_::if_nametoindex("peer0").unwrap()).unwrap();
        let length = libc::socklen_t::try_from(size_of_val(&to)).unwrap();
        for _ in 0..count {
            // SAFETY: both pointers go to live values of the lengths that are passed with them.
            let sent = unsafe {
                libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), length)
            };
            assert_eq!(usize::try_from(sent).unwrap(), frame.len());
            std::thread::sleep(pause);
        }
    })
}

fn send_one(lab: &Lab, edge: [u8; 4]) {
    send_to(lab, edge, VIP);
}

fn send_to(lab: &Lab, edge: [u8; 4], vip: [u8; 4]) {
    send(lab, edge, vip, 1, Duration::from_millis(20)).join().unwrap();
}

const FIRST: [u8; 4] = [10, 0, 0, 2];
const SECOND: [u8; 4] = [10, 0, 0, 3];
const VIP: [u8; 4] = [192, 0, 2, 10];

#[test]
fn takes_packets_of_the_configured_edges() {
    for mode in ["native", "generic"] {
        in_bpf_lab(|lab, pins| {
            sh("ip addr add 192.0.2.10/32 dev lo && ip link set lo up");
            let inbox = UdpSocket::bind("0.0.0.0:4000").unwrap();
            inbox.set_nonblocking(true).unwrap();
            let arrived = || {
                let mut buffer = [0; 64];
                inbox.recv_from(&mut buffer).ok().map(|(length, from)| (buffer[..length].to_vec(), from.to_string()))
            };
            let whole = Some((b"hello".to_vec(), "198.51.100.5:5000".to_owned()));

            let line = "--interface edge0 --from 10.0.0.2 --from fd00::2 --vip 192.0.2.10 --vip 2001:db8::/64";
            let output = decap(pins, &format!("{line} --mode {mode}")).unwrap();
            let takes =
                "takes tunnel packets from 10.0.0.2, fd00::2 to 10.0.0.1, fd00::1, for 192.0.2.10, 2001:db8::/64";
            let mss = "  SYN-ACKs of VIPs that leave by edge0: segments of 1420 bytes at most, over IPv6 of 1400\n";
            assert_eq!(output, format!("edge0: {takes} ({mode} mode)\n{mss}"));
            send_one(lab, FIRST);
            assert_eq!(arrived(), whole);
            send_one(lab, SECOND);
            assert_eq!(arrived(), None);
            assert_eq!((packets(pins, "decapsulated"), packets(pins, "unknown_source")), (1, 1));

            // Another edge is accepted; the counters continue.
            let line = "--interface edge0 --from 10.0.0.3 --vip 192.0.2.10";
            let output = decap(pins, &format!("{line} --mode {mode}")).unwrap();
            let packets_of = "tunnel packets from 10.0.0.3 to 10.0.0.1, fd00::1, for 192.0.2.10";
            let mss = "  SYN-ACKs of VIPs that leave by edge0: segments of 1440 bytes at most, over IPv6 of 1420\n";
            assert_eq!(output, format!("edge0: now takes {packets_of} ({mode} mode)\n{mss}"));
            send_one(lab, FIRST);
            assert_eq!(arrived(), None);
            send_one(lab, SECOND);
            assert_eq!(arrived(), whole);
            assert_eq!((packets(pins, "decapsulated"), packets(pins, "unknown_source")), (2, 2));
            let status = decap(pins, "--interface edge0 --status").unwrap();
            assert!(status.starts_with(&format!("edge0: {packets_of} ({mode} mode)\n")), "{status}");

            assert_eq!(decap(pins, "--interface edge0 --detach").unwrap(), "edge0: decapsulation detached\n");
            sh("! ip link show dev edge0 | grep -q xdp");
            assert_eq!(fs::read_dir(own(pins)).unwrap().count(), 0, "no pins are left");
            send_one(lab, SECOND);
            assert_eq!(arrived(), None);
            let output = decap(pins, "--interface edge0 --detach").unwrap();
            assert_eq!(output, "edge0: no decapsulation was attached\n");
        });
    }
}

#[test]
fn takes_nothing_for_other_addresses_than_vips_nor_at_unconfigured_addresses() {
    in_bpf_lab(|lab, pins| {
        sh("ip addr add 192.0.2.10/32 dev lo && ip addr add 10.0.0.7/24 dev edge0");
        let inbox = UdpSocket::bind("0.0.0.0:4000").unwrap();
        inbox.set_nonblocking(true).unwrap();
        let arrived = || inbox.recv(&mut [0; 64]).is_ok();

        // By default, tunnel packets are accepted at all addresses of the host but the VIPs, so at 10.0.0.1, too.
        let line = "--interface edge0 --from 10.0.0.2 --vip 192.0.2.0/24";
        let output = decap(pins, line).unwrap();
        assert!(output.contains("to 10.0.0.1, 10.0.0.7, fd00::1, for 192.0.2.0/24 ("), "{output}");
        send_to(lab, FIRST, VIP);
        assert!(arrived());
        send_to(lab, FIRST, [10, 0, 0, 1]);
        assert!(!arrived(), "an address of the host that is no VIP");
        assert_eq!((packets(pins, "decapsulated"), packets(pins, "unknown_vip")), (1, 1));

        decap(pins, &format!("{line} --to 10.0.0.7")).unwrap();
        send_to(lab, FIRST, VIP);
        assert!(!arrived());
        assert_eq!(packets(pins, "wrong_endpoint"), 1);
        let status = decap(pins, "--interface edge0 --status --json").unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        for (list, only) in [("from", "10.0.0.2"), ("to", "10.0.0.7"), ("vips", "192.0.2.0/24")] {
            assert_eq!(status[list], serde_json::json!([only]), "{list}");
        }
    });
}

#[test]
fn takes_packets_in_udp_and_edges_of_a_prefix_where_configured() {
    for mode in ["native", "generic"] {
        in_bpf_lab(|lab, pins| {
            let send_in_udp = |port| {
                let frame = in_udp(FIRST.into(), VIP.into(), port);
                send_frames(lab, frame, 1, Duration::from_millis(20)).join().unwrap();
            };
            let line = format!("--interface edge0 --mode {mode} --from 10.0.0.0/24 --from fd00::2 --vip 192.0.2.10");
            let output = decap(pins, &line).unwrap();
            let from = "from 10.0.0.0/24, fd00::2 to 10.0.0.1, fd00::1, for 192.0.2.10 (";
            assert!(output.contains(from) && output.contains("segments of 1420 bytes at most"), "{output}");
            send_one(lab, FIRST);
            send_one(lab, [10, 0, 0, 77]);
            send_one(lab, [10, 0, 1, 2]);
            send_in_udp(6080);
            assert_eq!((packets(pins, "decapsulated"), packets(pins, "unknown_source")), (2, 1));
            for (taken, option, port) in [(3, "--gue", 6080), (4, "--gue=7000", 7000)] {
                let output = decap(pins, &format!("{line} {option}")).unwrap();
                assert!(
                    output.contains(&format!("to 10.0.0.1, fd00::1, also in UDP to port {port}, for ")),
                    "{output}"
                );
                assert!(output.contains("segments of 1408 bytes at most, over IPv6 of 1388\n"), "{output}");
                send_in_udp(port);
                send_in_udp(port + 1);
                assert_eq!(packets(pins, "decapsulated"), taken);
                let status = decap(pins, "--interface edge0 --status --json").unwrap();
                let status: serde_json::Value = serde_json::from_str(&status).unwrap();
                assert_eq!(status["gue"], port);
                assert_eq!(status["from"], serde_json::json!(["10.0.0.0/24", "fd00::2"]));
            }
            assert!(decap(pins, &format!("{line} --gue=0")).unwrap_err().contains("0 is not in 1.."));
        });
    }
}

#[test]
fn a_host_without_addresses_needs_one_in_the_options() {
    in_bpf_lab(|_, pins| {
        sh("ip addr flush dev edge0");
        let line = "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10";
        let error = decap(pins, line).unwrap_err();
        assert!(error.contains("--to ADDR"), "{error}");
        assert!(decap(pins, &format!("{line} --to 10.0.0.1")).is_ok());
    });
}

#[test]
fn replacement_loses_no_packet() {
    in_bpf_lab(|lab, pins| {
        const COUNT: usize = 1000;
        decap(pins, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10").unwrap();
        let sender = send(lab, FIRST, VIP, COUNT, Duration::from_millis(1));
        let mut runs = 0;
        while !sender.is_finished() {
            decap(pins, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10").unwrap();
            runs += 1;
        }
        sender.join().unwrap();
        assert!(runs > 2, "{runs}");
        assert_eq!(packets(pins, "decapsulated"), COUNT as u64);
    });
}

#[test]
fn refusals_name_the_remedy() {
    in_bpf_lab(|_, pins| {
        let refused = |pins: &Path, line: &str, hint: &str| {
            let error = decap(pins, line).unwrap_err();
            assert!(error.contains(hint), "`{line}`: {error}");
        };
        refused(pins, "--interface edge0", "write: edge-ctl decap --interface edge0 --from ADDR --vip ADDR");
        refused(pins, "--interface edge0 --from 10.0.0.2", "no VIP to accept packets for");
        refused(pins, "--interface edge0 --from 10.0.0.2", "write: edge-ctl decap --interface edge0 --from ADDR --vip");
        refused(pins, "--interface edge0 --vip 192.0.2.10/24", "write: 192.0.2.0/24");
        refused(
            pins,
            "--interface nowhere0 --from 10.0.0.2 --vip 192.0.2.10",
            "no interface `nowhere0`; `ip link` lists",
        );
        refused(pins, "--interface lo --from 10.0.0.2 --vip 192.0.2.10", "add --mode generic");
        refused(pins, "--interface edge0 --status", "edge-ctl decap --interface edge0 --from ADDR");
        refused(pins, "--interface edge0 --from 10.0.0.2 --detach", "cannot be used with");
        assert!(!own(pins).join("nowhere0").exists() && !own(pins).join("lo").exists(), "no pins are left");

        decap(pins, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10").unwrap();
        refused(pins, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10 --mode generic", "--detach");
        let elsewhere = pins.with_file_name("elsewhere");
        refused(&elsewhere, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10", "bpftool net show dev edge0");
        refused(&elsewhere, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10", "another XDP program");
        assert_eq!(decap(pins, "--interface edge0 --detach").unwrap(), "edge0: decapsulation detached\n");
        assert!(decap(pins, "--interface lo --from 10.0.0.2 --vip 192.0.2.10 --mode generic").is_ok());
    });
}

#[test]
fn reports_missing_privileges() {
    in_bpf_lab(|_, pins| {
        let unprivileged = || {
            // SAFETY: no pointers are involved. A direct system call, since the library's function would change the
            // user of all threads.
            let result = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
            assert_eq!(result, 0);
            decap(pins, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10").unwrap_err()
        };
        let error = std::thread::scope(|scope| scope.spawn(unprivileged).join().unwrap());
        assert!(error.contains("do: run it as root"), "{error}");
    });
}

#[test]
fn a_mtu_beyond_the_drivers_limit_is_named() {
    in_bpf_lab(|lab, pins| {
        lab.peer("ip link set peer0 mtu 9000");
        sh("ip link set edge0 mtu 9000");
        let error = decap(pins, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10").unwrap_err();
        assert!(error.contains("MTU") && error.contains("--mode generic"), "{error}");
    });
}

#[test]
fn an_interface_that_came_back_is_attached_anew() {
    in_bpf_lab(|_, pins| {
        sh("ip link add name again.1 type veth peer name other0 && ip link set again.1 up");
        decap(pins, "--interface again.1 --from 10.0.0.2 --vip 192.0.2.10").unwrap();
        sh("ip link del again.1 && ip link add name again.1 type veth peer name other0");
        let output = decap(pins, "--interface again.1 --from 10.0.0.2 --vip 192.0.2.10").unwrap();
        assert!(output.starts_with("again.1: takes"), "{output}");
        sh("ip link show dev again.1 | grep -q xdp");
        sh("ip link del again.1");
        assert!(decap(pins, "--interface again.1 --detach").is_ok());
        assert!(!own(pins).join("again:d1").exists(), "what a lost interface leaves can be removed");
    });
}

#[test]
fn counters_of_another_shape_are_not_taken() {
    in_bpf_lab(|lab, pins| {
        let maps = own(pins).join("edge0/maps");
        fs::create_dir_all(&maps).unwrap();
        let other = aya::maps::Array::<aya::maps::MapData, u32>::create(3, 0).unwrap();
        other.pin(maps.join("DECAP_EXITS")).unwrap();
        let output = decap(pins, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10").unwrap();
        assert!(output.contains("counters start at 0"), "{output}");
        send_one(lab, FIRST);
        assert_eq!(packets(pins, "decapsulated"), 1);
    });
}

/// The segment size that a client on the peer receives from a VIP.
fn heard(lab: &Lab) -> u32 {
    let client = || {
        let stream = std::net::TcpStream::connect((Ipv4Addr::from(VIP), 80)).unwrap();
        nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::TcpMaxSeg).unwrap()
    };
    // The kernel's value is 12 bytes less, for the timestamps in each segment.
    lab.in_peer(client).join().unwrap() + 12
}

#[test]
fn clients_get_a_segment_size_that_fits_the_tunnel() {
    in_bpf_lab(|lab, pins| {
        sh("ip addr add 192.0.2.10/32 dev lo");
        lab.peer("ip route add 192.0.2.10/32 via 10.0.0.1");
        let _server = std::net::TcpListener::bind((Ipv4Addr::from(VIP), 80)).unwrap();
        assert_eq!(heard(lab), 1460);
        let line = "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10";
        for (more, size) in [
            ("", 1440),
            ("--from fd00::2", 1420),
            ("--mtu 1400", 1340),
            ("--keep-mss", 1460),
            ("--egress edge0 --mtu 9000", 1460),
            ("--egress lo", 1460),
            ("--egress lo --egress edge0", 1440),
        ] {
            decap(pins, &format!("{line} {more}")).unwrap();
            assert_eq!(heard(lab), size, "{more}");
        }
        let status = decap(pins, "--interface edge0 --status --json").unwrap();
        let status: serde_json::Value = serde_json::from_str(&status).unwrap();
        assert_eq!(status["mss"]["egress"], serde_json::json!(["edge0", "lo"]));
        assert_eq!((status["mss"]["v4"].as_u64(), status["mss"]["v6"].as_u64()), (Some(1440), Some(1420)));
        let exits = status["mss"]["exits"].as_array().unwrap();
        let counts: Vec<_> = exits.iter().map(|exit| exit["packets"].as_u64().unwrap()).collect();
        // On a busy machine, a SYN-ACK is sent again.
        assert!(counts[0] >= 4 && counts[1] >= 1 && counts[2] == 0, "over all runs: {counts:?}");
        decap(pins, "--interface edge0 --detach").unwrap();
        assert_eq!(heard(lab), 1460);
        assert_eq!(fs::read_dir(own(pins)).unwrap().count(), 0, "no pins are left");
    });
}
