//! How soon probes detect a dead backend, for each kind of probe.

use std::time::{Duration, Instant};

use edge_tests::lab::{
    nginx,
    process::Process,
    small::{Mode, Small},
    status,
    topology::EDGE,
    wait_until,
};

/// Health of the backends of this name, as the daemon reports it.
fn health(lab: &Small, name: &str) -> Vec<String> {
    let seen = status::backends(&lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("a status"))
        .expect("backends");
    seen.into_iter().filter(|backend| backend.name == name).map(|backend| backend.health).collect()
}

/// A pool that no service uses, whose backend is the lab's first one.
fn pool(name: &str, probe: &str) -> String {
    format!(
        "\n[[pool]]\nname = \"{name}\"\ndamping = \"0s\"\nprobe = {{ {probe} }}\n\
         backend = [{{ name = \"{name}\", address = \"10.1.1.11\" }}]\n"
    )
}

#[test]
fn a_silent_death_is_detected_after_one_interval_and_one_timeout() {
    let mut lab = Small::on_veth().unwrap();
    lab.probe_addresses();
    // Different timeouts prevent that the two pools share a probe.
    let fast = pool("fast", "type = \"tcp\", port = 7, interval = \"2s\", timeout = \"400ms\", rise = 1, jitter = 0");
    let slow = "type = \"tcp\", port = 7, interval = \"2s\", fast_interval = \"2s\", timeout = \"500ms\", rise = 1, jitter = 0";
    lab.prepare(Mode::Native, &(fast + &pool("slow", slow))).unwrap();
    lab.start_daemon().unwrap();
    let up = |name: &str| health(&lab, name) == ["up"];
    assert!(wait_until(Duration::from_secs(10), || Ok(up("fast") && up("slow"))).unwrap());
    // Packets are dropped silently, as by a machine that is off.
    lab.netns("be1").ip("route add blackhole 10.1.1.1/32\n").unwrap();
    let start = Instant::now();
    let known = |name: &str| {
        assert!(wait_until(Duration::from_secs(15), || Ok(health(&lab, name) == ["down"])).unwrap());
        start.elapsed()
    };
    let fast = known("fast");
    let slow = known("slow");
    // An interval until the first failure, two quarters of it, and the timeout; at the steady rate two intervals more.
    assert!(fast < Duration::from_millis(3400 + 300), "{fast:?}");
    assert!(slow > Duration::from_secs(4), "{slow:?}");
}

const PEM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/pem");

/// Starts nginx with TLS, the lab's certificate, and both versions of HTTP; at port 445 only for clients that name the
/// host.
fn web(lab: &Small, dir: &std::path::Path) -> Process {
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {dir}/nginx.pid;\nevents {{ }}\nhttp {{\n\
         access_log off;\nclient_body_temp_path {dir}/b;\nproxy_temp_path {dir}/p;\nfastcgi_temp_path {dir}/f;\n\
         uwsgi_temp_path {dir}/u;\nscgi_temp_path {dir}/s;\n\
         server {{\nlisten 443 ssl http2;\nlisten [::]:443 ssl http2;\nlisten 444 ssl;\nserver_name www.example.org;\n\
         ssl_certificate {PEM}/server.pem;\nssl_certificate_key {PEM}/server.key;\n\
         location / {{ return 200 \"$server_protocol is ready\\n\"; }}\n}}\n\
         server {{\nlisten 445 ssl default_server;\nssl_reject_handshake on;\n}}\n\
         server {{\nlisten 445 ssl;\nserver_name www.example.org;\nssl_certificate {PEM}/server.pem;\n\
         ssl_certificate_key {PEM}/server.key;\n}}\n}}\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("nginx.conf"), text).expect("the lab has nginx");
    let mut command = lab.netns("be1").command(nginx::binary().expect("the lab has nginx")).expect("the lab has nginx");
    command.arg("-p").arg(dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(dir.join("nginx.conf"));
    Process::start("nginx with TLS", &mut command, &dir.join("output.log")).expect("the lab has nginx")
}

#[test]
fn every_kind_of_probe_finds_real_servers_up_and_what_is_not_there_down() {
    let mut lab = Small::on_veth().unwrap();
    lab.probe_addresses();
    let dir = tempfile::tempdir().unwrap();
    let _web = web(&lab, dir.path());
    let tls = format!("host = \"www.example.org\", ca = \"{PEM}/ca.pem\"");
    let up = [
        ("https-2", format!("type = \"https\", port = 443, {tls}, body = \"HTTP/2.0 is ready\"")),
        ("https-1", format!("type = \"https\", port = 444, {tls}, body_regex = '^HTTP/1\\.1 is'")),
        ("https-alpn", format!("type = \"https\", port = 443, {tls}, alpn = [\"http/1.1\"], body = \"HTTP/1.1 is\"")),
        ("tls", "type = \"tls\", port = 443, verify = false".to_owned()),
        ("tls-name", "type = \"tls\", port = 445, verify = false, server_name = \"www.example.org\"".to_owned()),
        ("icmp", "type = \"icmp\"".to_owned()),
        (
            "command",
            "type = \"command\", user = \"root\", command = [\"/bin/ping\", \"-c1\", \"10.1.1.11\"]".to_owned(),
        ),
    ];
    let down = [
        (
            "https-name",
            "type = \"https\", port = 443, host = \"www.example.net\"".to_owned(),
            "invalid peer certificate",
        ),
        (
            "https-body",
            format!("type = \"https\", port = 443, {tls}, body = \"no\""),
            "the body has not what is expected",
        ),
        (
            "tls-no-name",
            "type = \"tls\", port = 445, verify = false, server_name = \"www.example.net\"".to_owned(),
            "UnrecognisedName",
        ),
        ("tls-plain", "type = \"tls\", port = 7, verify = false".to_owned(), "no answer within 1s"),
        ("udp-gone", "type = \"udp\", port = 99, send = 'hi', expect = 'ho'".to_owned(), "1 probe failed"),
        ("dns-gone", "type = \"dns\", port = 53, query = \"example.org\"".to_owned(), "1 probe failed"),
        ("grpc-gone", "type = \"grpc\", port = 443".to_owned(), "HTTP"),
        (
            "command-user",
            "type = \"command\", command = [\"/bin/sh\", \"-c\", \"echo $(id -un) in $(id -Gn) at $EDGE_PORT; exit 2\"], port = 5"
                .to_owned(),
            "ended with 2: nobody in nogroup at 5",
        ),
        ("command-no", "type = \"command\", user = \"root\", command = [\"/bin/false\"]".to_owned(), "ended with 1"),
    ];
    let times = ", timeout = \"1s\", rise = 1, fall = 1";
    // Settings of a single backend.
    let own = [
        ("own-port", "type = \"tcp\", port = 9999".to_owned(), "probe_port = 7"),
        (
            "own-host",
            format!("type = \"https\", port = 443, host = \"www.example.net\", ca = \"{PEM}/ca.pem\""),
            "probe_host = \"www.example.org\"",
        ),
    ];
    let mut more: String = up.iter().map(|(name, probe)| pool(name, &format!("{probe}{times}"))).collect();
    more.extend(down.iter().map(|(name, probe, _)| pool(name, &format!("{probe}{times}"))));
    more.extend(own.iter().map(|(name, probe, own)| {
        pool(name, &format!("{probe}{times}")).replace("\"10.1.1.11\"", &format!("\"10.1.1.11\", {own}"))
    }));
    lab.prepare(Mode::Native, &more).unwrap();
    lab.start_daemon().unwrap();
    let up = up.iter().map(|up| up.0).chain(own.iter().map(|own| own.0)).map(|name| (name, "up"));
    for (name, wanted) in up.chain(down.iter().map(|down| (down.0, "down"))) {
        let is = wait_until(Duration::from_secs(15), || Ok(health(&lab, name) == [wanted])).unwrap();
        assert!(is, "{name} is not {wanted}:\n{}", lab.ctl(&["status"]).unwrap());
    }
    let status = lab.ctl(&["status"]).unwrap();
    for (name, _, reason) in down {
        assert!(status.contains(reason), "{name}: {reason}\n{status}");
    }
}
