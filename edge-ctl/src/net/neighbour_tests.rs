//! A neighbour that was usable, and that the kernel gives up on after asking it.

use super::{
    watch_tests::{OTHER, PEER, Watching},
    *,
};
use crate::net::lab::{in_lab, sh};

/// The kernel asks once, and gives up a tenth of a second later; whom it knows no MAC address of, it asks for six seconds.
const ONE_QUESTION: &str = "cd /proc/sys/net/ipv4/neigh/edge0 && \
    echo 1 > ucast_solicit && echo 60 > mcast_solicit && echo 100 > retrans_time_ms";
const ASK: &str = "ip neigh change 10.0.0.2 lladdr 02:00:00:00:00:02 dev edge0 nud probe";
const SILENT: &str = "its next hop 10.0.0.2 does not answer";

#[test]
fn it_counts_as_lost_although_it_is_asked_again() {
    in_lab(|lab| {
        sh(ONE_QUESTION);
        let mut watching = Watching::new(&["10.0.0.2"], None);
        watching.expect(1, Some(PEER));
        lab.peer("ip link set peer0 arp off");
        sh(ASK);
        watching.expect_reach(1, Some(SILENT), Duration::from_secs(4));
        lab.peer("ip link set peer0 arp on");
        watching.expect_reach(1, None, Duration::from_secs(4));
    });
}

#[test]
fn it_is_never_lost_if_it_answers_from_another_mac_address() {
    in_lab(|lab| {
        sh(ONE_QUESTION);
        let mut watching = Watching::new(&["10.0.0.2"], None);
        watching.expect(1, Some(PEER));
        lab.peer("ip link set peer0 address 02:00:00:00:00:09");
        sh(ASK);
        watching.expect(1, Some(OTHER));
        assert_eq!(watching.losses, 0);
    });
}

#[test]
fn it_is_not_lost_if_somebody_deletes_it_while_it_is_asked() {
    in_lab(|_| {
        let mut watching = Watching::new(&["10.0.0.2"], None);
        watching.expect(1, Some(PEER));
        // In one go: the peer's answer is processed after the deletion.
        sh("printf '%s\\n' 'neigh change 10.0.0.2 lladdr 02:00:00:00:00:02 dev edge0 nud probe' \
            'neigh del 10.0.0.2 dev edge0' | ip -batch -");
        watching.quiet(Duration::from_millis(500));
        assert_eq!((watching.losses, watching.known[&1].map(|entry| entry.mac)), (0, Some(PEER)));
    });
}
