//! A flow whose backend lives never moves: thousands of real connections through changes of every kind.

use std::time::{Duration, Instant};

use edge_tests::{
    lab::{
        Lab,
        flood::{self, Flood},
        flows::{self, Flows, Kind, Tally, addresses, signature},
        topology::{CLIENTS, EDGE, Protocol, Service},
    },
    packet::{ACK, SYN},
};

#[test]
fn the_tools_see_nothing_where_nothing_changes() {
    let lab = Lab::with_edge();
    signature::sign(&lab).unwrap();
    flood::contain(&lab).unwrap();
    let to: Vec<_> = Service::of(Protocol::Tcp).map(Service::address).collect();
    let start = Instant::now();
    let mut flows = Vec::new();
    for client in CLIENTS {
        let from = addresses::add(&lab, client, 8).unwrap();
        for kind in [Kind::Long { connections: 500, pace: Duration::from_millis(700) }, Kind::New { per_second: 1000 }]
        {
            let plan = flows::Plan { from: from.clone(), to: to.clone(), kind };
            flows.push(Flows::start(lab.netns(client), plan).unwrap());
        }
    }
    std::thread::sleep(Duration::from_secs(3));
    let edge = lab.netns(EDGE).within(|| flood::mac("eth0")).unwrap().unwrap();
    let floods: Vec<_> = [(SYN, 1), (ACK, 2)]
        .into_iter()
        .map(|(flags, seed)| {
            let plan = flood::Plan { to: to.clone(), flags, per_second: 20_000, most: 200_000, seed };
            Flood::start(lab.netns("client2"), "eth0", edge, plan).unwrap()
        })
        .collect();
    std::thread::sleep(Duration::from_secs(5));
    for flood in floods {
        eprintln!("{} frames", flood.stop().unwrap());
    }
    std::thread::sleep(Duration::from_secs(2));
    let mut all = Tally::default();
    for flows in flows {
        let tally = flows.stop().unwrap();
        eprintln!(
            "{} opened, {} answers, {} held, {} broken, {:?}",
            tally.opened,
            tally.answers,
            tally.held,
            tally.broken.len(),
            tally.served
        );
        all.add(tally);
    }
    eprintln!("{:?}", start.elapsed());
    for broken in all.broken.iter().take(20) {
        eprintln!("{broken}");
    }
    assert!(all.broken.is_empty());
}
