//! The effect of `[defaults]`, and what is refused in it.

use super::{
    catalogue::{catalogue, check},
    *,
};

#[test]
fn defaults_equal_the_same_keys_in_each_table() {
    let short = r#"hash_key = "000102030405060708090a0b0c0d0e0f"
[defaults.pool]
min_healthy = 2
[defaults.probe]
type = "http"
port = 80
path = "/healthz"
[defaults.service]
ports = ["53/tcp"]
mode = "ipip"
pools = ["a", "b"]
flow_table = false
"#;
    let pool = |name: &str, more: &str| {
        format!(
            "[[pool]]\nname = \"{name}\"\n{more}\n[[pool.backend]]\nname = \"1\"\naddress = \"10.1.0.11\"\n\
             [[pool.backend]]\nname = \"2\"\naddress = \"10.1.0.12\"\n"
        )
    };
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\nvips = [\"192.0.2.10\"]\n{more}\n");
    let rest = "[tunnel]\nsource_v4 = \"10.0.0.1\"\n[[interface]]\nname = \"eth0\"\n";
    let config = good(
        &[
            short,
            rest,
            &pool("a", ""),
            &pool("b", "min_healthy = 1\n[pool.probe]\ntype = \"tcp\""),
            &pool("c", "probe = false"),
            &service("tcp", ""),
            &service("udp", "ports = [\"53/udp\"]\npools = [\"c\"]"),
        ]
        .concat(),
    );
    let [a, b, c] = config.pools.as_slice() else { panic!("three pools") };
    assert_eq!([a.min_healthy, b.min_healthy, c.min_healthy], [2, 1, 2]);
    let path = |pool: &Pool| match &pool.probe.as_ref()?.kind {
        ProbeKind::Http { path, .. } => Some(path.clone()),
        _ => None,
    };
    assert_eq!(path(a).as_deref(), Some("/healthz"));
    assert_eq!(
        b.probe.as_ref().map(|probe| (&probe.kind, probe.port)),
        Some((&ProbeKind::Tcp, 80)),
        "without the path"
    );
    assert_eq!(c.probe, None);
    let [tcp, udp] = config.services.as_slice() else { panic!("two services") };
    assert_eq!(
        (tcp.ports[0].to_string(), tcp.mode, tcp.ports[0].tracking, tcp.pools.as_slice()),
        ("53/tcp".to_owned(), Mode::Ipip, Tracking::Stateless, &[0, 1][..])
    );
    let ports = &udp.ports[0];
    assert_eq!(
        (ports.to_string(), ports.tracking, udp.pools.as_slice()),
        ("53/udp".to_owned(), Tracking::Stateless, &[2][..])
    );
}

/// What has an effect only in `nat` is a default for the services in `nat`.
#[test]
fn keys_of_nat_are_ignored_in_other_modes() {
    let defaults = "[defaults.pool]\nport = 8443\n[defaults.service]\nbackend_port = 8443\non_backend_down = \"stick\"\n\
                    client_address = \"toa\"\n";
    let config = good(&GOOD.replace("[tunnel]", &format!("{defaults}[tunnel]")));
    let has = |config: &Config| {
        let service = &config.services[0];
        (service.backend_port, service.sticks, service.tells_client)
    };
    assert_eq!(has(&config), (None, false, false));
    let nat = GOOD.replace("[tunnel]", &format!("{defaults}[nat]\nsource_v4 = [\"198.51.100.5\"]\n[tunnel]"));
    let config = good(&nat.replace("mode = \"ipip\"", "mode = \"nat\""));
    assert_eq!(has(&config), (Some(8443), true, true));
}

#[test]
fn what_is_wrong_there() {
    let with = |more: &str| format!("[defaults.{more}\n[tunnel]");
    let more: Vec<_> = [
        "pool]\nname = \"p\"",
        "pool]\nmin_healthy = 2",
        "probe]\ntimeout = \"2s\"",
        "probe]\nfast_interval = \"2s\"",
        "probe]\nkind = \"tcp\"",
        "service]\nvips = [\"192.0.2.1\"]",
        "service]\nprots = [\"80/tcp\"]",
        "services]\nports = [\"80/tcp\"]",
    ]
    .map(with)
    .into();
    let cases: Vec<_> = more.iter().map(|more| ("[tunnel]", more.as_str())).collect();
    check!(catalogue(&cases));
}
