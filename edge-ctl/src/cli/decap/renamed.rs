//! Interfaces with decapsulation that have exchanged their names.

use super::tests::{decap, in_bpf_lab};
use crate::net::lab::sh;

#[test]
fn programs_follow_interfaces_that_exchange_their_names() {
    in_bpf_lab(|_, pins| {
        sh("ip link add other0 type veth peer name other1 && ip link set other0 up && ip link set other1 up");
        let attach = |name: &str| decap(pins, &format!("--interface {name} --from 10.0.0.2 --vip 192.0.2.10"));
        let both = ["edge0", "other0"];
        for name in both {
            attach(name).unwrap();
        }
        sh("ip link set edge0 down && ip link set other0 down && ip link set edge0 name x0 && \
            ip link set other0 name edge0 && ip link set x0 name other0 && ip link set edge0 up && \
            ip link set other0 up && ip address replace 10.0.0.1/24 dev edge0");
        for name in both {
            attach(name).unwrap();
        }
        sh("ip link set other0 down && ip link set other0 name new0 && ip link set new0 up");
        attach("new0").unwrap();
        for name in ["edge0", "new0"] {
            decap(pins, &format!("--interface {name} --detach")).unwrap();
        }
    });
}
