//! A frame is accepted only by the edge that it is addressed to, although others receive it too.

use std::time::Duration;

use edge_tests::lab::{
    patience::patience,
    segment::{EDGES, Segment, VIRTUAL_MAC},
    wait_until,
};

/// Datagrams per address.
const COUNT: usize = 20;

#[test]
fn of_three_edges_on_a_flooding_segment_one_takes_a_packet() {
    let lab = Segment::start().expect("the segment comes up");
    let reaches = |mac: &str| {
        lab.send_to(mac).unwrap();
        wait_until(patience(Duration::from_secs(5)), || Ok(lab.arrivals(1)? == 1)).unwrap()
    };
    let taken = || (1..=EDGES).map(|edge| lab.left_by(edge, "dsr_tx").unwrap()).collect::<Vec<_>>();
    for edge in 1..=EDGES {
        let mac = lab.mac(edge, "eth0").unwrap();
        assert!(reaches(&mac), "edge {edge} serves");
        let before = taken();
        assert_eq!(lab.arrivals(COUNT).unwrap(), COUNT, "each datagram once");
        let more: Vec<_> = taken().iter().zip(&before).map(|(after, before)| after - before).collect();
        let alone: Vec<_> = (1..=EDGES).map(|other| if other == edge { COUNT as u64 } else { 0 }).collect();
        assert_eq!(more, alone, "to edge {edge}");
        assert!((1..=EDGES).all(|other| other == edge || lab.left_by(other, "other_station").unwrap() >= COUNT as u64));
    }
    for (mac, what) in
        [("02:aa:aa:aa:aa:aa", "a stranger"), ("ff:ff:ff:ff:ff:ff", "everybody"), ("01:00:5e:00:00:01", "a group")]
    {
        let before = taken();
        lab.send_to(mac).unwrap();
        // The backend itself may accept a broadcast frame.
        lab.arrivals(COUNT).unwrap();
        assert_eq!(taken(), before, "to {what}");
    }
    assert!(reaches(VIRTUAL_MAC), "the address of a virtual router that is configured");
    assert_eq!(lab.arrivals(COUNT).unwrap(), COUNT);

    // Addresses come and go with devices, without a change of the configuration.
    lab.on_edge(1, "link add vrrp address 00:00:5e:00:01:33 link eth0 type macvlan mode private\nlink set vrrp up\n")
        .unwrap();
    assert!(reaches("00:00:5e:00:01:33"), "a macvlan interface's address");
    lab.on_edge(1, "link del vrrp\n").unwrap();
    let is_away = wait_until(patience(Duration::from_secs(5)), || Ok(lab.arrivals(1)? == 0));
    assert!(is_away.unwrap(), "the interface has gone, and its address with it");

    lab.on_edge(1, "link set eth0 address 02:ed:ed:ed:ed:01\n").unwrap();
    assert!(reaches("02:ed:ed:ed:ed:01"), "the interface has another address");
    assert_eq!(lab.arrivals(COUNT).unwrap(), COUNT);
}
