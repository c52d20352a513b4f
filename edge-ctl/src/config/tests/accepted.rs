//! The configurations that good files produce.

use std::net::Ipv4Addr;

use std::io::Write as _;

use super::*;

#[test]
fn virtual_mac_addresses_are_read_in_either_case() {
    let text = GOOD.replacen(
        "name = \"eth0\"",
        "name = \"eth0\"\nvirtual_macs = [\"00:00:5E:00:01:0a\", \"02:AB:cd:00:00:01\"]",
        1,
    );
    let macs = [[0, 0, 0x5e, 0, 1, 0x0a], [2, 0xab, 0xcd, 0, 0, 1]];
    assert_eq!(good(&text).interfaces[0].virtual_macs, macs);
}

#[test]
fn a_small_file_gets_the_defaults() {
    let config = good(GOOD);
    let sizes = Limits {
        named: [false; 4],
        services: 64,
        destinations: 256,
        pools: 16,
        backends: 1024,
        flows: 131_072,
        flows_per_second: 16_384,
        nat_flows: None,
        fragments: 8192,
        first_fragments_per_second: 100_000,
        answers: AnswerLimits {
            unreachable: 1000,
            time_exceeded: 1000,
            too_big: 1000,
            resets: 10_000,
            echo_replies: 10_000,
        },
    };
    assert_eq!(config.limits, sizes);
    assert_eq!(
        config.interfaces,
        [Interface { name: "eth0".to_owned(), mode: AttachMode::Native, virtual_macs: Vec::new() }]
    );
    assert_eq!(config.tunnel, Tunnel { source_v4: Some(Ipv4Addr::new(10, 0, 0, 1)), ..Tunnel::default() });
    assert_eq!(config.text, GOOD);
    let probe = Probe {
        through: ProbeThrough::Service,
        kind: ProbeKind::Http { path: "/".to_owned(), status: vec![200], host: None, body: None, tls: None },
        port: 80,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(250),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
        jitter: 0.1,
    };
    let backend = Backend {
        name: "a1".to_owned(),
        address: Ipv4Addr::new(10, 1, 0, 11).into(),
        weight: 100,
        file_weight: 100,
        probe_port: None,
        probe_host: None,
        port: None,
        server_number: None,
    };
    let pool = Pool {
        name: "provider-a".to_owned(),
        min_healthy: 1,
        probe: Some(probe),
        judging: Judging::default(),
        backends: vec![backend],
    };
    assert_eq!(config.pools, [pool]);
    let service = Service {
        name: "web".to_owned(),
        vips: vec![Ipv4Addr::new(192, 0, 2, 10).into()],
        ports: vec![Ports {
            first: 80,
            last: 80,
            protocol: Protocol::Tcp,
            tracking: Tracking::Tcp,
            flow_idle_timeout: Duration::from_mins(5),
            learn: Duration::from_secs(30),
            translated: false,
        }],
        mode: Mode::Ipip,
        backend_port: None,
        sticks: false,
        tells_client: false,
        pools: vec![0],
        slots: 65_536,
        when_exhausted: WhenExhausted::Open,
        announce: Announce::None,
        affinity: None,
        quic_cid: None,
    };
    assert_eq!(config.services, [service]);
}

const EVERY_KEY: &str = r#"
hash_key = "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
slots = 1024
tunnel = { source_v4 = "10.0.0.1", source_v6 = "fd00::1" }
[edge]
vip_other = "drop"
[limits]
services = 10
destinations = 15
pools = 20
backends = 30
flows = 16777216
flows_per_second = 1
fragments = 64
first_fragments_per_second = 6
unreachable_per_second = 5
time_exceeded_per_second = 4
too_big_per_second = 3
resets_per_second = 2
echo_replies_per_second = 0
[[interface]]
name = "eth0"
[[interface]]
name = "eth1.100"
mode = "generic"
[[pool]]
name = "unused"
backend = [{ name = "x", address = "fd00::2", weight = 65535 }, { name = "y", address = "10.0.0.2", weight = 1 }]
[[pool]]
name = "a"
min_healthy = 2
[pool.probe]
type = "http"
port = 8080
path = "/healthz?full=1"
status = [200, 204]
host = "www.example.org:8080"
interval = "200ms"
fast_interval = "100ms"
timeout = "200ms"
rise = 1
fall = 5
jitter = 0
[[pool.backend]]
name = "1"
address = "2001:db8::1"
[[pool.backend]]
name = "2"
address = "2001:db8::2"
[[pool]]
name = "b"
[pool.probe]
type = "tcp"
port = 53
[[pool.backend]]
name = "1"
address = "2001:db8::1"
[[service]]
name = "dns"
vips = ["2001:db8::53"]
ports = ["53/udp"]
mode = "dsr"
pools = ["b", "a"]
when_exhausted = "drop"
udp = "learn"
learn = "1h"
flow_idle_timeout = "24h"
affinity = "source"
affinity_prefix_v6 = 128
slots = 4096
announce = "l2"
announce_interface = "eth1.100"
[[service]]
name = "dns-tcp"
vips = ["2001:db8:0::53"]
ports = ["53/tcp"]
mode = "ipip"
pools = ["b", "unused"]
when_exhausted = "reject"
flow_table = false
affinity = "source"
announce = "l2"
announce_interface = "eth1.100"
"#;

#[test]
fn every_key_has_its_effect() {
    let config = good(EVERY_KEY);
    assert_eq!(config.vip_other, VipOther::Drop);
    let sizes = Limits {
        named: [true; 4],
        services: 10,
        destinations: 15,
        pools: 20,
        backends: 30,
        flows: 16_777_216,
        flows_per_second: 1,
        nat_flows: None,
        fragments: 64,
        first_fragments_per_second: 6,
        answers: AnswerLimits { unreachable: 5, time_exceeded: 4, too_big: 3, resets: 2, echo_replies: 0 },
    };
    assert_eq!(config.limits, sizes);
    assert_eq!(config.tunnel.source_v6, "fd00::1".parse().ok());
    assert_eq!(config.interfaces[1].mode, AttachMode::Generic);
    assert_eq!(config.pools[0].backends[0].weight, 65_535);
    assert_eq!(config.pools[0].probe, None);
    assert_eq!(config.pools[1].min_healthy, 2);
    let probe = Probe {
        through: ProbeThrough::Service,
        kind: ProbeKind::Http {
            path: "/healthz?full=1".to_owned(),
            status: vec![200, 204],
            host: Some("www.example.org:8080".to_owned()),
            body: None,
            tls: None,
        },
        port: 8080,
        interval: Duration::from_millis(200),
        fast_interval: Duration::from_millis(100),
        timeout: Duration::from_millis(200),
        rise: 1,
        fall: 5,
        jitter: 0.0,
    };
    assert_eq!(config.pools[1].probe, Some(probe));
    assert_eq!(config.pools[2].probe.as_ref().map(|probe| &probe.kind), Some(&ProbeKind::Tcp));
    let [dns, dns_tcp] = &config.services[..] else { panic!("{:?}", config.services) };
    assert_eq!((dns.mode, dns.ports[0].protocol, &dns.pools[..]), (Mode::Dsr, Protocol::Udp, &[2, 1][..]));
    assert_eq!((dns.slots, dns_tcp.slots), (4096, 1024));
    assert_eq!(dns.announce, Announce::L2 { interface: "eth1.100".to_owned() });
    assert_eq!((dns.when_exhausted, dns_tcp.when_exhausted), (WhenExhausted::Drop, WhenExhausted::Reject));
    assert_eq!(dns_tcp.pools, [2, 0]);
    let [ports, ports_tcp] = [dns, dns_tcp].map(|service| &service.ports[0]);
    assert_eq!((ports.tracking, ports_tcp.tracking), (Tracking::Learn, Tracking::Stateless));
    assert_eq!((ports.flow_idle_timeout, ports.learn), (Duration::from_hours(24), Duration::from_hours(1)));
    assert_eq!(dns.affinity, Some(Affinity { v4: 32, v6: 128 }));
    assert_eq!(dns_tcp.affinity, Some(Affinity { v4: 32, v6: 64 }));
}

#[test]
fn a_short_interval_shortens_the_default_timeout() {
    let config = good(&GOOD.replace("type = \"http\"", "type = \"http\"\ninterval = \"200ms\""));
    assert_eq!(config.pools[0].probe.as_ref().map(|probe| probe.timeout), Some(Duration::from_millis(200)));
}

#[test]
fn the_only_interface_announces() {
    let config = good(&GOOD.replace("mode = \"ipip\"", "mode = \"ipip\"\nannounce = \"l2\""));
    assert_eq!(config.services[0].announce, Announce::L2 { interface: "eth0".to_owned() });
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_are_fine() {
    let text = GOOD.replace('\n', "\r\n");
    assert_eq!(good(&text).services, good(GOOD).services);
    assert_eq!(good(&format!("\u{feff}{GOOD}")).services, good(GOOD).services);
}

#[test]
fn limits_grow_with_the_configuration() {
    let backends: Vec<_> = (0..600u32)
        .map(|i| format!("[[pool.backend]]\nname = \"n{i}\"\naddress = \"10.9.{}.{}\"\n", i / 250, i % 250 + 1))
        .collect();
    let config = good(&GOOD.replace("[[service]]", &format!("{}[[service]]", backends.concat())));
    assert_eq!(config.limits, Limits { backends: 2048, ..good(GOOD).limits });
}

#[test]
fn a_cpu_fills_the_records_in_four_seconds() {
    let with = |keys: &str| good(&GOOD.replace("[tunnel]", &format!("[limits]\n{keys}\n[tunnel]"))).limits;
    assert_eq!(with("flows = 1048576").flows_per_second, 131_072);
    assert_eq!(with("flows_per_second = 1000"), Limits { flows_per_second: 1000, ..good(GOOD).limits });
}

#[test]
fn the_key_is_expanded_in_the_same_way_for_ever() {
    // Computed with another implementation of SHA-256:
    // for i in 0 1; do printf '000102030405060708090a0b0c0d0e0f0000000%d' $i | xxd -r -p | sha256sum; done
    let HashKey(words) = good(GOOD).hash_key;
    let expected = [
        0x855d_3b82,
        0x555e_a5b9,
        0x0c7f_5093,
        0x6e97_413a,
        0xaf21_d250,
        0x473a_02e7,
        0x69bc_a0ef,
        0x2836_69a2,
        0xb086_4542,
        0x1176_609d,
        0xbfe7_9f23,
        0x1102_0208,
    ];
    assert_eq!(words, expected);
}

#[test]
fn files_are_loaded() -> Result<(), Box<dyn std::error::Error>> {
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(GOOD.as_bytes())?;
    assert_eq!(load(file.path())?, good(GOOD));
    Ok(())
}

#[test]
fn the_largest_configuration_fits() {
    // With 262,144 slots a pool can't have more than 2,621 backends, and backends' numbers end at 65,535.
    let pool = |pool: u32| {
        let backend = |i: u32| {
            let address = Ipv4Addr::from_bits(0x0a00_0000 + i + 1);
            format!("[[pool.backend]]\nname = \"n{i}\"\naddress = \"{address}\"\n")
        };
        format!("[[pool]]\nname = \"p{pool}\"\n{}", (0..2621).map(backend).collect::<Vec<_>>().concat())
    };
    let pools = (0..24).map(pool).collect::<Vec<_>>().concat();
    let config =
        good(&GOOD.replace("[tunnel]", "slots = 262144\n[tunnel]").replace("[[service]]", &(pools + "[[service]]")));
    assert_eq!(config.pools.iter().map(|pool| pool.backends.len()).sum::<usize>(), 24 * 2621 + 1);
    assert_eq!(config.limits.backends, 65_535);
}
