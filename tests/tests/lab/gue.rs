//! Tunnels in UDP: nginx at two providers, every pairing of IP versions in both variants, and backends without
//! decapsulation.

use std::{collections::BTreeSet, fs};

use edge_tests::lab::{
    Lab, Options,
    configuration::Configuration,
    load::TIMEOUT,
    small::{BACKENDS, CLIENT, Mode, SERVED, Served, Small},
    tcp_echo,
    topology::{Backend, EDGE, Part, Protocol, Provider, Service},
    wait_until,
};

const EDGES: [&str; 2] = ["10.0.0.1", "fd00::1"];
/// Total length of an outer IPv6 header, UDP and GUE, bytes.
const LONGEST: u32 = 40 + 8 + 4;

/// The lab's services at the providers.
fn tunnelled() -> impl Iterator<Item = Service> {
    Service::of(Protocol::Tcp).filter(|service| service.part == Part::Wan)
}

/// Names of the backends that answer thirty requests of a client.
fn served(lab: &Lab, service: Service) -> BTreeSet<String> {
    let url = format!("http://{}/", service.address());
    (0..30).map(|_| lab.curl("client1", &url).unwrap_or_else(|error| panic!("{}: {error}", service.name))).collect()
}

fn of(provider: Provider) -> BTreeSet<String> {
    Backend::of(provider).map(|backend| backend.to_string()).collect()
}

/// Number of packets that left an edge by an exit.
fn exit(lab: &Lab, name: &str) -> u64 {
    let status = lab.status().expect("a status");
    status["exits"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|exit| exit["name"] == name)
        .map_or(0, |exit| exit["packets"].as_u64().expect("a number"))
}

#[test]
fn nginx_at_two_providers_is_served_through_a_death_and_a_failover() {
    let edge_ctl = edge_tests::built("edge-ctl").expect("edge-ctl is built");
    let configuration = Configuration { gue: true, ..Configuration::default() };
    let mut lab = Lab::up(&Options { edge_ctl: Some(edge_ctl), configuration }).expect("the lab comes up");
    lab.wait_for_health(|_| "up").expect("every backend is seen up, by probes in UDP");
    for service in tunnelled() {
        assert_eq!(served(&lab, service), of(Provider::A), "{}", service.name);
    }
    assert!(exit(&lab, "gue_redirect") + exit(&lab, "gue_tx") > 0);
    assert_eq!(exit(&lab, "ipip_redirect") + exit(&lab, "ipip_tx"), 0);

    let a2 = Backend::named("a2").expect("a backend");
    lab.kill_backend(a2).expect("it dies");
    lab.wait_for_health(|backend| if backend == a2 { "down" } else { "up" }).expect("that is seen");
    std::thread::sleep(TIMEOUT);
    for service in tunnelled() {
        assert_eq!(served(&lab, service), ["a1".to_owned(), "a3".to_owned()].into(), "{}", service.name);
    }
    for backend in Backend::of(Provider::A).filter(|backend| *backend != a2) {
        lab.kill_backend(backend).expect("it dies");
    }
    lab.wait_for_health(|backend| if backend.provider == Provider::A { "down" } else { "up" }).expect("that is seen");
    for service in tunnelled() {
        assert_eq!(served(&lab, service), of(Provider::B), "{}", service.name);
    }
}

/// A small lab with tunnels in UDP, in this variant.
fn in_udp(variant: u16, mode: Mode, from: &[&str]) -> Small {
    let mut lab = Small::on_veth().expect("the lab comes up");
    if mode == Mode::Generic {
        // The kernel redirects probes through a service, and generic programs do not see such packets again.
        lab.probe_addresses();
    }
    let from: Vec<_> = from.iter().flat_map(|from| ["--from", from]).collect();
    let mode_name = mode.to_string();
    for backend in lab.backends() {
        let line = [&["--gue", "--mode", &mode_name, "--vip", "192.0.2.0/24", "--vip", "2001:db8::/64"][..], &from];
        lab.decap(&backend, &line.concat()).expect("decapsulation attaches");
    }
    let path = lab.prepare(mode, "").expect("a load balancer").configuration();
    let text = fs::read_to_string(&path).expect("a configuration");
    let text = text.replace("mode = \"ipip\"", "mode = \"gue\"");
    let text = text.replace("[tunnel]\n", &format!("[tunnel]\ngue_variant = {variant}\n"));
    // No packet that is too long is reported: uploads depend on the MSS of SYN-ACKs.
    let text = text.replace("[limits]\n", "[limits]\ntoo_big_per_second = 0\n");
    fs::write(&path, text).expect("it is written");
    lab
}

#[test]
fn every_pairing_of_ip_versions_is_served_in_both_variants_and_modes() {
    for (variant, mode) in [(0, Mode::Native), (1, Mode::Native), (0, Mode::Generic), (1, Mode::Generic)] {
        let mut lab = in_udp(variant, mode, &EDGES);
        lab.start_daemon().expect("the load balancer sees the backends up");
        assert_eq!(lab.attached(EDGE, "eth0").expect("ip shows a program").map(|(mode, _)| mode), Some(mode));
        for service in SERVED.into_iter().filter(Served::is_tunnel) {
            let name = service.name;
            let served = lab.use_it(service.vip);
            let served = served.unwrap_or_else(|error| panic!("{name}, variant {variant}, {mode}: {error}"));
            assert_eq!(served, lab.backends(), "{name}, variant {variant}, {mode}");
            upload(&lab, service);
        }
        for backend in lab.backends() {
            let status: serde_json::Value =
                serde_json::from_str(&lab.decap(&backend, &["--status", "--json"]).expect("a status")).expect("JSON");
            assert_eq!((&status["gue"], &status["mode"]), (&6080.into(), &mode.to_string().into()));
            let exits = status["exits"].as_array().expect("exits");
            for exit in exits.iter().filter(|exit| exit["name"].as_str().is_some_and(|name| name.starts_with("gue_"))) {
                assert_eq!(exit["packets"], 0, "{exit}");
            }
            assert!(exits.iter().any(|exit| exit["name"] == "decapsulated" && exit["packets"].as_u64() > Some(0)));
        }
    }
}

/// Uploads 300 kB in segments of the size that the backend's SYN-ACK allows.
fn upload(lab: &Small, service: Served) {
    let data: Vec<u8> = (0..=250).cycle().take(300_000).collect();
    let exchange = lab.netns(CLIENT).within(|| tcp_echo::exchange(service.at(edge_tests::lab::topology::ECHO), &data));
    let exchange = exchange.expect("the client is there").unwrap_or_else(|error| panic!("{}: {error}", service.name));
    let headers = if service.vip.is_ipv4() { 20 } else { 40 } + 20 + 12;
    assert_eq!(exchange.segments, [1500 - LONGEST - headers; 2], "{}: as the SYN-ACK allows", service.name);
}

#[test]
fn a_backend_that_takes_nothing_in_udp_is_seen_down() {
    let mut lab = in_udp(1, Mode::Native, &EDGES);
    lab.start_daemon().expect("the load balancer sees backends through the tunnel");
    let [first, second] = BACKENDS;
    let line = ["--from", EDGES[0], "--from", EDGES[1], "--vip", "192.0.2.0/24", "--vip", "2001:db8::/64"];
    lab.decap(first, &line).expect("without --gue it takes other tunnels alone");
    let service = Served::named("4in4");
    let gone = wait_until(edge_tests::lab::patience::patience(std::time::Duration::from_secs(10)), || {
        // Until the fault is detected, datagrams are lost.
        Ok(lab.request(service.vip, 10).is_ok_and(|served| served == [second.to_owned()].into()))
    });
    assert!(gone.expect("the other one serves"), "{}", lab.ctl(&["status"]).expect("a status"));
    assert!(lab.ctl(&["status"]).expect("a status").contains("through the tunnel"));
    lab.decap(first, &[&["--gue"], &line[..]].concat()).expect("with it, in UDP too");
    let both = wait_until(edge_tests::lab::patience::patience(std::time::Duration::from_secs(10)), || {
        Ok(lab.request(service.vip, 20).is_ok_and(|served| served == lab.backends()))
    });
    assert!(both.expect("both serve"));
}

/// In `ipip`, packets come from a prefix that no host has, and routers' errors about them come back to the edge.
#[test]
fn packets_in_ipip_come_from_a_range() {
    let mut lab = in_udp(1, Mode::Native, &["10.0.0.1", "10.9.0.0/24", "fd00:9::/112"]);
    let path = lab.edge().expect("a load balancer").configuration();
    let text = fs::read_to_string(&path).expect("a configuration").replace("mode = \"gue\"", "mode = \"ipip\"");
    let ranges = "[tunnel]\nsource_v4_range = \"10.9.0.0/24\"\nsource_v6_range = \"fd00:9::/112\"\n";
    fs::write(&path, text.replace("[tunnel]\n", ranges)).expect("it is written");
    lab.start_daemon().expect("the load balancer sees backends through the tunnel");
    for service in SERVED.into_iter().filter(Served::is_tunnel) {
        let served = lab.use_it(service.vip).unwrap_or_else(|error| panic!("{}: {error}", service.name));
        assert_eq!(served, lab.backends(), "{}", service.name);
    }
}
