//! What a service says of its flows, in every combination: it is taken at its word, or refused at the first key that says
//! nothing there.

use super::*;

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";

fn with(protocol: &str, vip: &str, keys: &[Option<String>]) -> String {
    let keys: Vec<_> = keys.iter().flatten().map(|key| format!("{key}\n")).collect();
    GOOD.replace("protocol = \"tcp\"", &format!("protocol = \"{protocol}\"\n{}", keys.concat())).replace(V4, vip)
}

/// The keys that refusals name, in the order of their places.
fn refused_keys(text: &str) -> Vec<String> {
    let Err(error) = parse(text, "edge.toml") else { return Vec::new() };
    let key = |problem: &error::Problem| problem.what.split('`').nth(1).unwrap_or_default().to_owned();
    error.problems().iter().map(key).collect()
}

#[test]
fn each_combination_means_one_thing_or_is_refused() {
    let mut accepted = 0;
    for case in 0..2 * 3 * 3 * 3 * 2 * 2 {
        let mut rest = case;
        let mut choose = |count: usize| {
            let choice = rest % count;
            rest /= count;
            choice
        };
        let protocol = ["tcp", "udp"][choose(2)];
        let flow_table = [None, Some(true), Some(false)][choose(3)];
        let quic = [None, Some(true), Some(false)][choose(3)];
        let udp = [None, Some("stateless"), Some("learn")][choose(3)];
        let learn = [None, Some("7s")][choose(2)];
        let flow_idle_timeout = [None, Some("3m")][choose(2)];
        let keys = [
            flow_table.map(|value| format!("flow_table = {value}")),
            quic.map(|value| format!("quic = {value}")),
            udp.map(|value| format!("udp = \"{value}\"")),
            learn.map(|value| format!("learn = \"{value}\"")),
            flow_idle_timeout.map(|value| format!("flow_idle_timeout = \"{value}\"")),
        ];
        let text = with(protocol, V4, &keys);
        let tracking = match (protocol, flow_table, quic, udp) {
            ("tcp", Some(false), ..) => Tracking::Stateless,
            ("tcp", ..) => Tracking::Tcp,
            (_, _, Some(true), _) => Tracking::Quic,
            (.., Some("learn")) => Tracking::Learn,
            _ => Tracking::Stateless,
        };
        let idle = [
            ("flow_table", flow_table.is_some() && protocol == "udp"),
            ("quic", quic.is_some() && protocol == "tcp"),
            ("udp", udp.is_some() && (protocol == "tcp" || quic == Some(true))),
            ("learn", learn.is_some() && tracking != Tracking::Learn),
            ("flow_idle_timeout", flow_idle_timeout.is_some() && tracking == Tracking::Stateless),
        ];
        let idle: Vec<_> = idle.iter().filter(|(_, idle)| *idle).map(|(key, _)| (*key).to_owned()).collect();
        assert_eq!(refused_keys(&text), idle, "{text}");
        if idle.is_empty() {
            accepted += 1;
            let service = good(&text).services.remove(0);
            assert_eq!(service.tracking, tracking, "{text}");
            assert_eq!(service.learn, Duration::from_secs(learn.map_or(30, |_| 7)), "{text}");
            assert_eq!(service.flow_idle_timeout, Duration::from_mins(flow_idle_timeout.map_or(5, |_| 3)), "{text}");
        }
    }
    // TCP: three ways to say `flow_table`, with `flow_idle_timeout` where it records. UDP: nothing, stateless or learn, each without
    // `quic` and with false, learn with or without its two durations; and QUIC with or without `flow_idle_timeout`.
    assert_eq!(accepted, 5 + 2 * (2 + 4) + 2);
}

#[test]
fn as_much_of_the_client_is_hashed_as_its_vip_has_bits() {
    for (vip, affinity, prefix, meant) in [
        (V4, None, None, Ok(None)),
        (V4, Some("flow"), None, Ok(None)),
        (V4, Some("source"), None, Ok(Some(32))),
        (V6, Some("source"), None, Ok(Some(64))),
        (V4, Some("source"), Some(1), Ok(Some(1))),
        (V4, Some("source"), Some(32), Ok(Some(32))),
        (V4, Some("source"), Some(33), Err(())),
        (V6, Some("source"), Some(33), Ok(Some(33))),
        (V6, Some("source"), Some(128), Ok(Some(128))),
        (V6, Some("source"), Some(129), Err(())),
        (V6, Some("source"), Some(0), Err(())),
        (V4, Some("flow"), Some(24), Err(())),
        (V6, None, Some(24), Err(())),
    ] {
        let keys = [
            affinity.map(|value| format!("affinity = \"{value}\"")),
            prefix.map(|value| format!("affinity_prefix = {value}")),
        ];
        let text = with("tcp", vip, &keys);
        let read = parse(&text, "edge.toml").map(|config| config.services[0].affinity_prefix);
        assert_eq!(read.map_err(drop), meant, "{text}");
        if meant.is_err() {
            assert_eq!(refused_keys(&text), ["affinity_prefix"], "{text}");
        }
    }
}

#[test]
fn what_is_not_known_is_not_held_against_the_rest() {
    // With the protocol or the VIP misspelt, which of the other keys fit is anybody's guess.
    let keys = ["quic = true", "learn = \"1s\"", "affinity = \"source\"", "affinity_prefix = 64"];
    let keys = keys.map(|key| Some(key.to_owned()));
    assert_eq!(refused_keys(&with("sctp", "192.0.2", &keys)), ["vip", "protocol"]);
}
