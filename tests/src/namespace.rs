//! A network namespace for one test, which ends with the test's thread even after a panic.

use std::{process::Command, thread};

use nix::sched::{CloneFlags, unshare};

/// Interface indexes in the namespace. `lo` always has the first.
pub const LO: u32 = 1;
pub const EDGE0: u32 = 50;
pub const PEER0: u32 = 51;

/// MAC addresses of the two ends of the namespace's veth.
pub const EDGE0_MAC: [u8; 6] = [0x02, 0, 0, 0xee, 0, 0x32];
pub const PEER0_MAC: [u8; 6] = [0x02, 0, 0, 0xee, 0, 0x33];

/// The neighbour behind `edge0`, which the kernel's neighbour tables contain for both families.
pub const NEIGHBOUR_V4: [u8; 4] = [10, 9, 0, 2];
pub const NEIGHBOUR_V6: &str = "fd09::2";
/// Addresses behind that neighbour, which is their next hop.
pub const ROUTED_V4: [u8; 4] = [10, 9, 7, 2];
pub const ROUTED_V6: &str = "fd09:7::2";
pub const NEIGHBOUR_MAC: [u8; 6] = [0x02, 0, 0, 0x99, 0, 2];

/// Commands that set up the namespace: `lo`, and a veth whose `edge0` leads to `10.9.0.2` and `fd09::2`.
const SET_UP: &str = "set -e
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
ip link set lo up
ip link add edge0 index 50 address 02:00:00:ee:00:32 type veth peer name peer0 index 51 address 02:00:00:ee:00:33
ip link set edge0 up
ip link set peer0 up
ip address add 10.9.0.1/24 dev edge0
ip address add fd09::1/64 dev edge0 nodad
ip neighbour add 10.9.0.2 lladdr 02:00:00:99:00:02 dev edge0 nud permanent
ip neighbour add fd09::2 lladdr 02:00:00:99:00:02 dev edge0 nud permanent
ip route add 10.9.7.0/24 via 10.9.0.2
ip route add fd09:7::/64 via fd09::2
until ip link show edge0 | grep -q 'state UP'; do sleep 0.01; done";

/// Runs `test` in a new thread and a new network namespace.
///
/// # Panics
/// If `test` panics, or does not run as root: without the kernel these tests would be pointless.
pub fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    assert!(
        nix::unistd::geteuid().is_root(),
        "this test runs the real XDP program and makes network namespaces: run it as root"
    );
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        sh(SET_UP);
        test()
    };
    let result = thread::scope(|scope| scope.spawn(run).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a shell command in this thread's namespace.
///
/// # Panics
/// If the command fails.
pub fn sh(command: &str) {
    let output = Command::new("sh").args(["-c", command]).output().expect("a shell");
    assert!(output.status.success(), "`{command}`: {}", String::from_utf8_lossy(&output.stderr));
}
