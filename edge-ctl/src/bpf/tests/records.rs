//! Flow records: kept while they are needed, read and deleted a run at a time.

use edge_common::{abi::FlowEnds, wire::protocol};

use super::{flows::*, *};

#[test]
fn records_go_when_they_are_silent_or_needless_and_only_then() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut pinned = stable(&pins, &config());
    let web = service_number(&pinned, "web");
    let owners = owners(&pinned, "web");
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    pass(&mut pinned, START);
    let b0 = backend(&pinned, "one/b0");
    // Four flows in slots that stay stable, two of them with a redundant record; and one flow in a slot of the drained
    // backend, which only a record keeps there after the handover.
    let mut ports = 1000u16..;
    let mut flow = |drained: bool| {
        let is_one = |port: &u16| (owners[slot(&pinned, key(*port, 80, protocol::TCP))] == b0) == drained;
        let port = ports.by_ref().find(is_one).expect("there are many");
        (key(port, 80, protocol::TCP), owners[slot(&pinned, key(port, 80, protocol::TCP))])
    };
    let now = START + Duration::from_secs(1);
    let (needless, kept, silent, kept_by_record) = (flow(false), flow(false), flow(false), flow(true));
    record(&pins, needless.0, needless.1, now);
    record(&pins, kept.0, b0, now);
    record(&pins, silent.0, b0, now.saturating_sub(WAITS.expiry + Duration::from_secs(1)));
    record(&pins, kept_by_record.0, b0, now);
    // A flow of no service: its record is kept until it expires, since the service may come back.
    record(&pins, key(1, 8080, protocol::TCP), b0, now);
    let [client, vip] = ["2001:db8::1", "2001:db8::2"].map(|address| address.parse().expect("an address"));
    let nobodys = FlowEnds { client, client_port: 1, vip, port: 5, protocol: protocol::TCP };
    record(&pins, nobodys, b0, Duration::ZERO);

    pass(&mut pinned, now);
    let mut left: Vec<_> = pinned.flows(now).expect("readable").into_iter().map(|(ends, _)| ends).collect();
    left.sort();
    let mut expected = [kept.0, kept_by_record.0, key(1, 8080, protocol::TCP)];
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(pinned.transition(web).expect("under way").records, 2);
    assert_eq!(pinned.held(b0).expect("looked at").records, 3);

    // Slots are handed over; the record of an active flow stays, and keeps the service in transition.
    let late = now + IDLE_TIMEOUT + Duration::from_secs(2);
    record(&pins, kept_by_record.0, b0, late);
    pass(&mut pinned, late);
    pass(&mut pinned, late);
    assert!(!super::owners(&pinned, "web").contains(&b0));
    assert!(pinned.in_transition(web));
    assert_eq!(recorded(&pinned), 1);
    assert_eq!(pinned.held(b0).expect("looked at"), Held { slots: 0, records: 1 });

    // The flow ends.
    let (_, done) = pass(&mut pinned, late + WAITS.expiry + Duration::from_secs(1));
    assert_eq!(done.iter().map(|one| one.service).collect::<Vec<_>>(), [web]);
    assert_eq!(recorded(&pinned), 0);
}

#[test]
fn records_of_a_removed_service_belong_to_none() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut many = config();
    let vip = Ipv4Addr::from(VIP).into();
    many.services.extend((1..5).map(|port| samples::service(&format!("s{port}"), vip, port, Protocol::Tcp, vec![0])));
    let mut pinned = stable(&pins, &many);
    let b0 = backend(&pinned, "one/b0");
    for port in [1, 2, 3, 4, 80] {
        record(&pins, key(7, port, protocol::TCP), b0, START);
    }
    set(&mut pinned, "one/b0", Admin::Drained, Health::Up);
    for (config, records) in [(&config(), [1, 0]), (&many, [1, 1])] {
        let image = plan(&pinned, config);
        pinned.publish(&image).expect("published");
        pass(&mut pinned, START);
        let of = |name: &str| {
            let snapshot = pinned.snapshot().expect("readable").expect("published");
            let number = snapshot.service(name).map(|service| service.number);
            number.and_then(|number| pinned.transition(number)).map_or(0, |transition| transition.records)
        };
        assert_eq!([of("web"), of("s3")], records);
        assert_eq!(pinned.held(b0).expect("looked at").records, 5);
    }
    // Expired records of no service are deleted, too.
    let image = plan(&pinned, &config());
    pinned.publish(&image).expect("published");
    let late = START + WAITS.expiry + Duration::from_secs(1);
    pass(&mut pinned, late);
    assert_eq!(recorded(&pinned), 0);
}

#[test]
fn a_look_into_a_large_table_sees_each_record_once() {
    let bpffs = Bpffs::mount();
    let pins = bpffs.pins();
    let mut config = config();
    config.limits.flows = 32_768;
    let pinned = started(&pins, &config);
    let maps = PinnedMaps::open(&pins).expect("readable").expect("maps");
    for n in 0..10_000 {
        record_in(&maps, key(n, 80, 6), n, Duration::ZERO);
    }
    let flows = pinned.flows(Duration::ZERO).expect("readable").into_iter();
    let mut seen: Vec<_> = flows.map(|(ends, record)| (ends.client_port, record.backend)).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..10_000).map(|n| (n, n)).collect::<Vec<_>>());
}
