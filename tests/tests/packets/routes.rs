//! Parts that only the kernel has: `bpf_fib_lookup` where the controller knows no next hop, and redirection to another
//! interface, observed at its far end.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use edge_common::abi::{Exit, Mac, Verdict, program};
use edge_tests::{
    both::{Both, Program, ProgramExit, difference},
    cases::{
        self, Scene,
        scene::{from_client, port, udp},
    },
    feature::{Feature, missing},
    kernel::{self, Arrival},
    lab::patience::patience,
    namespace::{EDGE0, LO, PEER0, in_namespace, sh},
    packet::protocol,
    world::Side,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, recv, socket};

/// Commands that give the interfaces a receive queue for XDP.
const GRO: &str = "ethtool -K edge0 gro on && ethtool -K peer0 gro on";

#[test]
fn a_redirected_frame_comes_out_of_the_other_interface() {
    if missing("a_redirected_frame_comes_out_of_the_other_interface", &[Feature::LiveFrames]).is_some() {
        return;
    }
    let scene = Scene::new();
    let cases = cases::all(&scene);
    in_namespace(|| {
        sh(GRO);
        let both = Both::new(scene.world.clone());
        let ear = listen(PEER0);
        let mut seen = 0;
        for case in &cases {
            let Some(forwarded) = case.forwarded else { continue };
            if case.exit.verdict() != Verdict::Redirect || forwarded.egress != EDGE0 {
                continue;
            }
            both.kernel.run_live(&case.frame, LO);
            let expected = case.out.as_ref().expect("a frame that leaves");
            wait_for(&ear, expected, &case.name);
            seen += 1;
        }
        assert!(seen > 100, "{seen} cases redirect to an interface that is there");
    });
}

#[test]
fn the_kernels_route_back_out_of_the_ingress_is_no_redirection() {
    let arrival = Arrival::by(EDGE0);
    if missing("the_kernels_route_back_out_of_the_ingress_is_no_redirection", arrival.needs()).is_some() {
        return;
    }
    let scene = Scene::new();
    in_namespace(|| {
        sh(GRO);
        let both = Both::new(scene.world.clone());
        for side in Side::BOTH {
            for (port, exit) in [
                (port::DSR_ROUTED, Exit::DsrTx),
                (port::IN4_ROUTED, Exit::IpipTx),
                (port::IN6_ROUTED, Exit::IpipTx),
                (port::DSR, Exit::DsrRedirect),
            ] {
                let frame = from_client(side, udp(port)).bytes();
                let seen = both.try_run(Program::Edge, &frame, arrival);
                let seen = seen.unwrap_or_else(|error| panic!("{side:?}, port {port}: {error}"));
                assert_eq!(seen.exit, ProgramExit::Edge(exit), "{side:?}, port {port}");
            }
        }
        both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    });
}

/// While a backend moves, its VLAN may be the old one and the kernel's route already the new one.
#[test]
fn the_kernels_route_takes_no_frame_with_the_tag_of_an_unknown_next_hop() {
    let mut scene = Scene::new();
    let ports = kernel_routed().chain(
        Side::BOTH
            .into_iter()
            .flat_map(|side| [port::UDP4_ROUTED, port::UDP6_ROUTED, port::NAT].map(|port| (side, port))),
    );
    let ports: Vec<_> = ports.collect();
    for (side, port) in &ports {
        let (_, backend) = scene.behind(*side, protocol::UDP, *port);
        let backend = &mut scene.world.backends[usize::from(backend)];
        (backend.vlan, backend.next_hop) = (7, Mac::default());
    }
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        for (side, port) in ports {
            let seen = both.run(&from_client(side, udp(port)).bytes());
            assert_eq!(seen.exit, ProgramExit::Edge(Exit::NoNextHop), "{side:?}, port {port}");
        }
        both.compare_state().unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn no_forwarding_no_route_and_no_neighbour_are_no_next_hop() {
    let mut scene = Scene::new();
    scene.world.routes.clear();
    in_namespace(|| {
        let both = Both::new(scene.world.clone());
        for upset in [
            // The kernel reports no route where it does not forward. Next hops of the controller need neither.
            "echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
            "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding;
             ip neighbour del 10.9.0.2 dev edge0; ip neighbour del fd09::2 dev edge0",
            "ip address flush dev edge0",
            "ip link set edge0 down",
        ] {
            sh(upset);
            for (side, port) in kernel_routed() {
                let frame = from_client(side, udp(port)).bytes();
                let ran = both.kernel.run(program::EDGE, &frame, Arrival::by(LO));
                assert_eq!(ran.verdict, kernel::DROP, "{side:?}, port {port} after `{upset}`");
            }
        }
        assert_eq!(both.kernel.exits()[Exit::NoNextHop as usize], 4 * kernel_routed().count() as u64);
    });
}

/// Services whose packets use the kernel's own routes.
fn kernel_routed() -> impl Iterator<Item = (Side, u16)> {
    Side::BOTH.into_iter().flat_map(|side| {
        [port::DSR_ROUTED, port::IN4_ROUTED, port::IN6_ROUTED, port::IN4_BEHIND, port::IN6_BEHIND]
            .into_iter()
            .map(move |port| (side, port))
    })
}

/// A socket that receives all frames of an interface.
fn listen(interface: u32) -> OwnedFd {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let ear = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("a packet socket");
    // SAFETY: all-zero bytes are an address of no family.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET.try_into().expect("a family");
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).expect("an EtherType").to_be();
    address.sll_ifindex = interface.try_into().expect("an index");
    let size = size_of::<libc::sockaddr_ll>().try_into().expect("a few bytes");
    // SAFETY: the pointer and the size are those of `address`, which outlives the call.
    let bound = unsafe { libc::bind(ear.as_raw_fd(), (&raw const address).cast(), size) };
    assert_eq!(bound, 0, "a packet socket binds to an interface");
    ear
}

/// Waits for a frame. Other frames, such as neighbour discovery, are ignored.
fn wait_for(ear: &OwnedFd, expected: &[u8], name: &str) {
    let end = Instant::now() + patience(Duration::from_secs(2));
    let mut last = Vec::new();
    while Instant::now() < end {
        let mut buffer = vec![0; 4096];
        match recv(ear.as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty()) {
            Ok(length) if buffer[..length] == *expected => return,
            Ok(length) => last = buffer[..length].to_vec(),
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    panic!("{name}: it did not come out; {}", difference(&last, expected));
}
