//! Probes with TLS and of gRPC through a service: a server that does not listen at the VIP is down, though it answers at its
//! own address.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use edge_tests::lab::{
    nginx,
    patience::patience,
    process::Process,
    small::{BACKENDS, Mode, Served, Small},
    topology::EDGE,
    wait_until,
};
use serde_json::Value;

const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/pem");
/// A service per tunnel and per IP version of `dsr`.
const SERVICES: [&str; 4] = ["4in4", "6in6", "dsr4", "dsr6"];
const SECURE: u16 = 443;
const GRPC: u16 = 50_051;
/// A `HealthCheckResponse` with the status `SERVING`, and its prefix.
const SERVING: [u8; 7] = [0, 0, 0, 0, 2, 8, 1];

/// The kinds of probes with their settings.
fn kinds() -> [(&'static str, u16, String); 3] {
    let tls = format!(", host = \"www.example.org\", ca = \"{PEM}/ca.pem\"");
    [
        ("https", SECURE, format!("{tls}, body = \"ready\"")),
        ("tls", SECURE, format!(", ca = \"{PEM}/ca.pem\", server_name = \"www.example.org\"")),
        ("grpc", GRPC, String::new()),
    ]
}

fn configuration() -> String {
    SERVICES.map(Served::named).iter().map(service).collect()
}

/// A service with a pool for each kind of probe.
fn service(served @ Served { name, vip, .. }: &Served) -> String {
    let interval = patience(Duration::from_secs(1)).as_millis();
    let times = format!("interval = \"{interval}ms\", timeout = \"{interval}ms\", rise = 1");
    let backend = |(number, backend)| format!("{{ name = \"{backend}\", address = \"{}\" }}", address(number, *vip));
    let backends = (1..).zip(BACKENDS).map(backend).collect::<Vec<_>>().join(", ");
    let pool = |(kind, port, settings): (&str, u16, String)| {
        format!(
            "\n[[pool]]\nname = \"{kind}-{name}\"\nbackend = [{backends}]\ndamping = \"0s\"\n\
             probe = {{ type = \"{kind}\", port = {port}, through = \"service\", {times}{settings} }}\n"
        )
    };
    let pools = kinds().map(pool).concat();
    let names = kinds().map(|(kind, ..)| format!("\"{kind}-{name}\"")).join(", ");
    let mode = if served.is_tunnel() { "ipip" } else { "dsr" };
    format!(
        "{pools}\n[[service]]\nname = \"through-{name}\"\nvips = [\"{vip}\"]\n\
         ports = [\"{SECURE}/tcp\", \"{GRPC}/tcp\"]\nmode = \"{mode}\"\npools = [{names}]\n"
    )
}

/// The address of a backend in the IP version of the VIP.
fn address(number: u8, vip: IpAddr) -> IpAddr {
    let text = if vip.is_ipv4() { format!("10.1.{number}.11") } else { format!("fd01:{number}::11") };
    text.parse().expect("an address")
}

/// Starts nginx with TLS and gRPC health at these addresses.
fn serve(lab: &Small, backend: &str, dir: &Path, addresses: &[IpAddr]) -> Process {
    std::fs::create_dir_all(dir).expect("a directory");
    std::fs::write(dir.join("health"), SERVING).expect("a file");
    let listen = |port, how: &str| {
        let one = |address: &IpAddr| format!("listen {} {how};", SocketAddr::new(*address, port));
        addresses.iter().map(one).collect::<Vec<_>>().join("\n")
    };
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {dir}/nginx.pid;\nevents {{ }}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\nfastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
         server {{\n{}\nserver_name www.example.org;\nssl_certificate {PEM}/server.pem;\n\
         ssl_certificate_key {PEM}/server.key;\nlocation / {{ return 200 \"ready\\n\"; }}\n}}\n\
         server {{\n{}\nroot {dir};\n\
         location = /grpc.health.v1.Health/Check {{ error_page 405 =200 /health; return 405; }}\n\
         location = /health {{ default_type application/grpc; add_header grpc-status 0; }}\n}}\n}}\n",
        listen(SECURE, "ssl http2"),
        listen(GRPC, "http2"),
        dir = dir.display()
    );
    std::fs::write(dir.join("nginx.conf"), text).expect("a file");
    let mut command = lab.netns(backend).command(nginx::binary().expect("the lab has nginx")).expect("a command");
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    Process::start("nginx with TLS and gRPC", &mut command, &dir.join("output.log")).expect("it starts")
}

/// Waits until the pools of all kinds and services see `be1` with this health, for a reason that contains `why`, and `be2`
/// up.
fn expect(lab: &Small, health: &str, why: &str) {
    let is_ours = |pool: &Value| {
        let name = pool["name"].as_str().unwrap_or_default();
        kinds().iter().any(|(kind, ..)| name.starts_with(&format!("{kind}-")))
    };
    let is_so = |backend: &Value| {
        let is_first = backend["name"].as_str().is_some_and(|name| name.ends_with(BACKENDS[0]));
        let reason = backend["reason"].as_str().unwrap_or_default();
        if is_first { backend["health"] == health && reason.contains(why) } else { backend["health"] == "up" }
    };
    let seen = || {
        let status = lab.edge()?.status(lab.netns(EDGE))?;
        let pools: Vec<_> = status["pools"].as_array().into_iter().flatten().filter(|pool| is_ours(pool)).collect();
        let mut backends = pools.iter().flat_map(|pool| pool["backends"].as_array().into_iter().flatten());
        Ok(pools.len() == kinds().len() * SERVICES.len() && backends.all(is_so))
    };
    let reached = wait_until(patience(Duration::from_secs(20)), seen).expect("a status");
    assert!(reached, "{health} for {why:?}: {}", lab.ctl(&["status"]).expect("a status"));
}

#[test]
fn a_server_with_tls_or_grpc_that_does_not_listen_at_the_vip_is_down() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).expect("decapsulation");
    let dir = tempfile::tempdir().expect("a directory");
    let everywhere: [IpAddr; 2] = ["0.0.0.0".parse().expect("an address"), "::".parse().expect("an address")];
    let own = SERVICES.map(|name| address(1, Served::named(name).vip));
    let narrow = serve(&lab, BACKENDS[0], &dir.path().join("narrow"), &[own[0], own[1]]);
    let _other = serve(&lab, BACKENDS[1], &dir.path().join("other"), &everywhere);
    lab.prepare(Mode::Native, &configuration()).expect("a configuration");
    lab.launch_daemon().expect("it starts");
    expect(&lab, "down", "answers on its address");
    drop(narrow);
    let _wide = serve(&lab, BACKENDS[0], &dir.path().join("wide"), &everywhere);
    expect(&lab, "up", "");
}
