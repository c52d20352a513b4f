//! Announcements in a network namespace, observed by the peer.

use std::{
    net::IpAddr,
    sync::mpsc,
    time::{Duration, Instant},
};

use super::*;
use crate::net::lab::{Lab, in_lab, sh};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn vips() -> Vec<Announced> {
    let on_edge0 = |text: &str| Announced { vip: text.parse().unwrap(), interface: "edge0".into() };
    vec![on_edge0("10.0.0.100"), on_edge0("fd00::100")]
}

/// Collects the frames that arrive at the peer, until the receiver is dropped.
fn listen(lab: &Lab) -> mpsc::Receiver<Vec<u8>> {
    let (frames, received) = mpsc::channel();
    let (ready, is_ready) = mpsc::channel();
    lab.in_peer(move || {
        let protocol = i32::from(u16::try_from(libc::ETH_P_ALL).unwrap().to_be());
        // SAFETY: no pointers are involved; the result is checked before use.
        let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, protocol) };
        assert!(raw >= 0, "{}", io::Error::last_os_error());
        // SAFETY: `raw` was opened just now, and nothing else owns it.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        ready.send(()).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            // SAFETY: the buffer is live and has the given length.
            let length = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            match usize::try_from(length) {
                Ok(length) if frames.send(buffer[..length].to_vec()).is_err() => return,
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    });
    is_ready.recv().unwrap();
    received
}

/// Number of announcements of `vip` that arrive within `time`.
fn count(received: &mpsc::Receiver<Vec<u8>>, runtime: &tokio::runtime::Runtime, vip: &str, time: Duration) -> usize {
    runtime.block_on(async { sleep(time).await });
    let vip: IpAddr = vip.parse().unwrap();
    received.try_iter().filter(|frame| *frame == frames::announcement(vip, MAC)).count()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

const ALL_THREE: Duration = Duration::from_millis(1300);

#[test]
fn puts_the_address_on_the_interface_and_announces_it() {
    for vip in ["10.0.0.100", "fd00::100"] {
        in_lab(|lab| {
            let received = listen(lab);
            let runtime = runtime();
            let announcer = runtime.block_on(async { announce(vips()) });
            assert_eq!(count(&received, &runtime, vip, ALL_THREE), 3, "{vip}");
            sh("ip address show dev edge0 | grep -q 'inet 10.0.0.100/32'");
            sh("ip address show dev edge0 | grep 'inet6 fd00::100/128' | grep -q deprecated");
            lab.peer("ping -c1 -W1 10.0.0.100 && ping -c1 -W1 fd00::100");
            assert_eq!(count(&received, &runtime, vip, Duration::from_millis(500)), 0, "no more announcements");

            // The link goes down and up: its IPv6 addresses disappear, and are added again.
            sh("ip link set edge0 down && ip link set edge0 up");
            lab.wait_until_up();
            assert_eq!(count(&received, &runtime, vip, ALL_THREE), 3, "{vip} after the link came up");
            sh("ip address show dev edge0 | grep -q 'inet6 fd00::100/128'");

            // Another program removes the address.
            sh("ip address del 10.0.0.100/32 dev edge0; ip address del fd00::100/128 dev edge0");
            assert_eq!(count(&received, &runtime, vip, ALL_THREE), 3, "{vip} after it was taken away");

            // Dropping the announcer removes nothing.
            drop(announcer);
            runtime.block_on(async { sleep(Duration::from_millis(50)).await });
            sh("ip address show dev edge0 | grep -q 'inet 10.0.0.100/32'");
        });
    }
}

#[test]
fn withdraws_only_what_was_announced() {
    in_lab(|_| {
        let runtime = runtime();
        // An address of the operator's own, added beforehand.
        sh("ip address add 10.0.0.100/32 dev edge0");
        let announcer = runtime.block_on(async { announce(vips()) });
        runtime.block_on(async { sleep(Duration::from_millis(300)).await });
        drop(announcer);
        let withdrawn = runtime.block_on(withdraw(&vips())).unwrap();
        assert_eq!(withdrawn, vips()[1..]);
        sh("ip address show dev edge0 | grep -q 'inet 10.0.0.100/32'");
        sh("! ip address show dev edge0 | grep -q fd00::100");
        assert_eq!(runtime.block_on(withdraw(&vips())).unwrap(), []);
        let nowhere = [Announced { interface: "nowhere0".into(), ..vips()[0].clone() }];
        assert_eq!(runtime.block_on(withdraw(&nowhere)).unwrap(), []);
    });
}
