//! The keys of a service for its ports and their flows, in every combination: they are accepted, or refused at the
//! first key that has no effect there.

use super::*;

fn with(ports: &str, keys: &[Option<String>]) -> String {
    let keys: Vec<_> = keys.iter().flatten().map(|key| format!("{key}\n")).collect();
    GOOD.replace("ports = [\"80/tcp\"]", &format!("ports = [{ports}]\n{}", keys.concat()))
}

/// The refused keys, in the order of their places.
fn refused_keys(text: &str) -> Vec<String> {
    let Err(error) = parse(text, "edge.toml") else { return Vec::new() };
    let key = |problem: &error::Problem| problem.what.split('`').nth(1).unwrap_or_default().to_owned();
    error.problems().iter().map(key).collect()
}

#[test]
fn each_combination_means_one_thing_or_is_refused() {
    let mut accepted = 0;
    for case in 0..4 * 3 * 3 * 2 * 2 {
        let mut rest = case;
        let mut choose = |count: usize| {
            let choice = rest % count;
            rest /= count;
            choice
        };
        let protocols = [&["tcp"][..], &["udp"], &["quic"], &["tcp", "udp"]][choose(4)];
        let flow_table = [None, Some(true), Some(false)][choose(3)];
        let udp = [None, Some("stateless"), Some("learn")][choose(3)];
        let learn = [None, Some("7s")][choose(2)];
        let flow_idle_timeout = [None, Some("3m")][choose(2)];
        let keys = [
            flow_table.map(|value| format!("flow_table = {value}")),
            udp.map(|value| format!("udp = \"{value}\"")),
            learn.map(|value| format!("learn = \"{value}\"")),
            flow_idle_timeout.map(|value| format!("flow_idle_timeout = \"{value}\"")),
        ];
        let ports: Vec<_> = protocols.iter().map(|protocol| format!("\"80/{protocol}\"")).collect();
        let text = with(&ports.join(", "), &keys);
        let tracking = |protocol: &str| match (protocol, flow_table, udp) {
            ("tcp", Some(false), _) => Tracking::Stateless,
            ("tcp", ..) => Tracking::Tcp,
            ("quic", ..) => Tracking::Quic,
            (.., Some("learn")) => Tracking::Learn,
            _ => Tracking::Stateless,
        };
        let all: Vec<_> = protocols.iter().map(|protocol| tracking(protocol)).collect();
        let idle = [
            ("flow_table", flow_table.is_some() && !protocols.contains(&"tcp")),
            ("udp", udp.is_some() && !protocols.contains(&"udp")),
            ("learn", learn.is_some() && !all.contains(&Tracking::Learn)),
            (
                "flow_idle_timeout",
                flow_idle_timeout.is_some() && all.iter().all(|tracking| *tracking == Tracking::Stateless),
            ),
        ];
        let idle: Vec<_> = idle.iter().filter(|(_, idle)| *idle).map(|(key, _)| (*key).to_owned()).collect();
        assert_eq!(refused_keys(&text), idle, "{text}");
        if idle.is_empty() {
            accepted += 1;
            let service = good(&text).services.remove(0);
            assert_eq!(service.ports.iter().map(|ports| ports.tracking).collect::<Vec<_>>(), all, "{text}");
            for ports in service.ports {
                assert_eq!(ports.learn, Duration::from_secs(learn.map_or(30, |_| 7)), "{text}");
                assert_eq!(ports.flow_idle_timeout, Duration::from_mins(flow_idle_timeout.map_or(5, |_| 3)), "{text}");
            }
        }
    }
    // TCP: `flow_table` in three ways, with `flow_idle_timeout` where flows are recorded. UDP: nothing, stateless, and
    // learn with or without its two durations. QUIC: with or without `flow_idle_timeout`. TCP and UDP: all of UDP for
    // each of the three, with an idle timeout where one of the two records.
    assert_eq!(accepted, 5 + 6 + 2 + (2 * 4 + 8) + (2 + 4));
}

#[test]
fn a_separate_port_overrides_only_its_own_keys() {
    let own = "[[service.port]]\nport = \"53/udp\"\nudp = \"learn\"\nlearn = \"9s\"\n\
               [[service.port]]\nport = \"5000-5009/tcp\"\nflow_idle_timeout = \"1h\"";
    let text = with("\"80/tcp\", \"443/quic\"", &[Some("flow_idle_timeout = \"2m\"".to_owned())])
        .replace("pools = [\"provider-a\"]", &format!("pools = [\"provider-a\"]\n{own}"));
    let service = good(&text).services.remove(0);
    let shown: Vec<_> = service
        .ports
        .iter()
        .map(|ports| (ports.to_string(), ports.tracking, ports.flow_idle_timeout.as_secs(), ports.learn.as_secs()))
        .collect();
    let expected = [
        ("80/tcp", Tracking::Tcp, 120, 30),
        ("443/quic", Tracking::Quic, 120, 30),
        ("53/udp", Tracking::Learn, 120, 9),
        ("5000-5009/tcp", Tracking::Tcp, 3600, 30),
    ];
    assert_eq!(shown, expected.map(|(ports, tracking, idle, learn)| (ports.to_owned(), tracking, idle, learn)));
    let alone = with("", &[])
        .replace("ports = []\n", "")
        .replace("pools = [\"provider-a\"]", "pools = [\"provider-a\"]\n[[service.port]]\nport = \"any/tcp\"");
    assert_eq!(good(&alone).services[0].ports[0].to_string(), "any/tcp");
}

#[test]
fn each_vip_is_served_at_each_port() {
    let text = with("\"80/tcp\", \"443/quic\", \"5000-5009/udp\", \"any/tcp\"", &[])
        .replace("[\"192.0.2.10\"]", "[\"192.0.2.10\", \"2001:db8::10\", \"198.51.100.0/28\", \"2001:db8::20/127\"]");
    let config = good(&text);
    let service = &config.services[0];
    assert_eq!(service.vips.len(), 1 + 1 + 16 + 2);
    assert_eq!(service.vips[2..4], ["198.51.100.0", "198.51.100.1"].map(|vip| vip.parse::<IpAddr>().expect("one")));
    assert_eq!(service.vips[19], "2001:db8::21".parse::<IpAddr>().expect("one"));
    assert_eq!(service.destinations().count(), 20 * (1 + 1 + 10 + 1));
    assert_eq!(config.destinations(), 20 * 13 + 20);
    assert_eq!(config.limits.destinations, 1024, "room for twice as many");
    let of = |port, protocol| service.ports_of(port, protocol).map(ToString::to_string);
    assert_eq!(of(80, 6).as_deref(), Some("80/tcp"));
    assert_eq!(of(81, 6).as_deref(), Some("any/tcp"));
    assert_eq!(of(5009, 17).as_deref(), Some("5000-5009/udp"));
    assert_eq!(of(5010, 17), None);
}

#[test]
fn the_client_prefix_is_hashed_as_configured_for_its_family() {
    for (affinity, v4, v6, meant) in [
        (None, None, None, Ok(None)),
        (Some("flow"), None, None, Ok(None)),
        (Some("source"), None, None, Ok(Some((32, 64)))),
        (Some("source"), Some(1), Some(128), Ok(Some((1, 128)))),
        (Some("source"), Some(33), None, Err("affinity_prefix_v4")),
        (Some("source"), None, Some(129), Err("affinity_prefix_v6")),
        (Some("source"), None, Some(0), Err("affinity_prefix_v6")),
        (Some("flow"), Some(24), None, Err("affinity_prefix_v4")),
        (None, None, Some(24), Err("affinity_prefix_v6")),
    ] {
        let keys = [
            affinity.map(|value| format!("affinity = \"{value}\"")),
            v4.map(|value| format!("affinity_prefix_v4 = {value}")),
            v6.map(|value| format!("affinity_prefix_v6 = {value}")),
        ];
        let text = with("\"80/tcp\"", &keys);
        let read = parse(&text, "edge.toml").map(|config| config.services[0].affinity.map(|both| (both.v4, both.v6)));
        assert_eq!(read.map_err(drop), meant.map_err(drop), "{text}");
        if let Err(key) = meant {
            assert_eq!(refused_keys(&text), [key], "{text}");
        }
    }
}

#[test]
fn unknown_values_do_not_refuse_the_rest() {
    // With a misspelt port it is unknown which of the other keys have an effect.
    let keys = ["flow_table = true", "learn = \"1s\"", "affinity = \"source\""].map(|key| Some(key.to_owned()));
    assert_eq!(refused_keys(&with("\"80/sctp\"", &keys)), ["ports"]);
}

#[test]
fn a_few_lines_that_stand_for_too_much_are_refused_at_once() {
    let with_prefixes = |count: u8| {
        let prefixes: Vec<_> = (20..20 + count).map(|n| format!("\"10.{n}.0.0/16\"")).collect();
        with("\"1-65535/udp\"", &[]).replace("\"192.0.2.10\"", &prefixes.join(", "))
    };
    let refused = refusal(&with_prefixes(200));
    assert!(refused.contains("more than 1048576 VIPs"), "{refused}");
    let refused = refusal(&with_prefixes(16));
    assert!(refused.contains("destinations are configured; 1048576 is the most"), "{refused}");
    let announced = with("\"80/tcp\"", &[Some("announce = \"l2\"".to_owned())]).replace("192.0.2.10", "10.20.0.0/21");
    let refused = refusal(&announced);
    assert!(refused.contains("announce = \"l2\" for 2048 addresses; 1024 is the most"), "{refused}");
}

/// In `nat` each flow of UDP stays on its backend; the key only shortens the time for which its port is kept.
#[test]
fn translated_datagrams_keep_their_ports_for_two_minutes_or_two_seconds() {
    let nat = |keys: &str| {
        let text = with("\"53/udp\", \"53/tcp\", \"443/quic\"", &[Some(keys.to_owned())]);
        text.replace("mode = \"ipip\"", "mode = \"nat\"")
            .replace("[tunnel]", "[nat]\nsource_v4 = [\"198.51.100.5\"]\n[tunnel]")
    };
    let seconds = |keys: &str| {
        let service = good(&nat(keys)).services.remove(0);
        service.ports.iter().map(|ports| (ports.tracking, ports.flow_idle_timeout.as_secs())).collect::<Vec<_>>()
    };
    let (tcp, quic) = ((Tracking::Tcp, 2 * 3600 + 4 * 60), (Tracking::Quic, 120));
    assert_eq!(seconds(""), [(Tracking::Learn, 120), tcp, quic]);
    assert_eq!(seconds("udp = \"stateless\""), [(Tracking::Stateless, 2), tcp, quic]);
    let all = [(Tracking::Stateless, 2), (Tracking::Tcp, 60), (Tracking::Quic, 60)];
    assert_eq!(seconds("udp = \"stateless\"\nflow_idle_timeout = \"1m\""), all);
    assert_eq!(refused_keys(&nat("udp = \"learn\"")), ["udp"]);
    let requests = nat("udp = \"stateless\"\nflow_idle_timeout = \"1m\"").replace(", \"53/tcp\", \"443/quic\"", "");
    assert_eq!(refused_keys(&requests), ["flow_idle_timeout"]);
}
