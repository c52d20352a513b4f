//! Generic mode, in which the program sees merged segments: packets longer than the MTU.

use edge_tests::lab::{
    link,
    small::{BACKENDS, CLIENT, Mode, Served, Small},
    status,
    tcp_echo::{self, Exchange},
    topology::{ECHO, EDGE},
};

const UPLOAD: usize = 1_000_000;
/// Minimum number of packets of an upload without merging.
const SINGLE: u64 = 690;

#[test]
fn uploads_in_long_packets_go_through() {
    let mut lab = Small::on_bridge().expect("the lab comes up");
    lab.decapsulate(BACKENDS[0], Mode::Generic, &["10.0.0.1", "fd00::1"]).expect("decapsulation attaches");
    lab.balance(Mode::Generic).expect("the load balancer starts");
    let exit = |name: &str| {
        let status = lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("a status");
        status::exit(&status, name).expect("an exit")
    };
    for name in ["dsr4", "dsr6"] {
        let before = exit("dsr_tx");
        upload(&lab, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let packets = exit("dsr_tx") - before;
        assert!(packets < SINGLE, "{name}: {packets} packets, none of them long");
        assert_eq!(exit("too_big"), 0, "{name}");
    }
    // In a tunnel they can't be segmented again; the remedy is not to merge them.
    link::offload_checksums(lab.netns(CLIENT), "eth0", false).expect("ethtool");
    for name in ["4in4", "6in6"] {
        let before = exit("ipip_tx");
        upload(&lab, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(exit("ipip_tx") - before >= SINGLE, "{name}: one by one");
    }
}

fn upload(lab: &Small, name: &str) -> std::io::Result<Exchange> {
    let data: Vec<u8> = (0..=250).cycle().take(UPLOAD).collect();
    let to = Served::named(name).at(ECHO);
    lab.netns(CLIENT).within(|| tcp_echo::exchange(to, &data)).expect("the client is there")
}
