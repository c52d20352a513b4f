//! Probes take the path of clients' packets: a fault on this path takes a backend out, and is reported.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use edge_tests::lab::{
    nginx,
    patience::patience,
    process::Process,
    small::{BACKENDS, CLIENT, Mode, SERVED, Served, Small},
    status,
    topology::{EDGE, HTTP},
    wait_until,
};
use serde_json::Value;

/// The tunnels' source addresses.
const SOURCES: [&str; 2] = ["10.0.0.1", "fd00::1"];
/// Time from a fault to its detection by three failed probes, and to packets going elsewhere.
const SOON: Duration = Duration::from_secs(5);

/// The address under which a service reaches a backend.
fn address(number: usize, served: &Served) -> IpAddr {
    let text = if served.name.ends_with('4') { format!("10.1.{number}.11") } else { format!("fd01:{number}::11") };
    text.parse().expect("an address")
}

fn pool(name: &str, through: &str, served: &Served) -> String {
    let backend =
        |(number, name): (usize, &str)| format!("{{ name = \"{name}\", address = \"{}\" }}", address(number, served));
    let backends: Vec<_> = (1..).zip(BACKENDS).map(backend).collect();
    let interval = patience(Duration::from_millis(300)).as_millis();
    format!(
        "\n[[pool]]\nname = \"{name}\"\nbackend = [{}]\ndamping = \"0s\"\nslow_start = \"0s\"\n\
         [pool.probe]\ntype = \"http\"\nthrough = \"{through}\"\n\
         port = {HTTP}\npath = \"/healthz\"\ninterval = \"{interval}ms\"\ntimeout = \"{interval}ms\"\nrise = 1\n\
         fall = 3\n",
        backends.join(", ")
    )
}

/// Services of web servers, one per way of reaching a backend; and the same backends probed at their addresses.
fn web() -> String {
    let mut text = String::new();
    for served @ Served { name, vip, .. } in &SERVED {
        let mode = if served.is_tunnel() { "ipip" } else { "dsr" };
        text += &pool(&format!("web-{name}"), "service", served);
        text += &pool(&format!("at-{name}"), "address", served);
        write!(
            text,
            "\n[[service]]\nname = \"web-{name}\"\nvips = [\"{vip}\"]\nports = [\"{HTTP}/tcp\"]\n\
             mode = \"{mode}\"\npools = [\"web-{name}\"]\n"
        )
        .expect("memory");
    }
    text
}

/// Starts a web server on a backend, at these addresses.
fn serve(lab: &Small, dir: &tempfile::TempDir, backend: &str, addresses: &[IpAddr]) -> Process {
    nginx::start_at(lab.netns(backend), backend, &dir.path().join(backend), addresses).expect("a web server")
}

/// Name of the backend that serves a client.
fn get(lab: &Small, vip: IpAddr) -> Option<String> {
    let get = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(vip, HTTP), patience(Duration::from_secs(1)))?;
        stream.set_read_timeout(Some(patience(Duration::from_secs(1))))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().last().unwrap_or_default().to_owned())
    };
    lab.netns(CLIENT).within(get).expect("a namespace").ok()
}

/// Health and reason of a backend, by pool.
fn seen(lab: &Small, backend: &str) -> BTreeMap<String, (String, String)> {
    let status = lab.edge().and_then(|edge| edge.status(lab.netns(EDGE))).expect("a status");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pools = status["pools"].as_array().expect("a list").iter();
    pools
        .filter_map(|pool| {
            let backends = pool["backends"].as_array().expect("a list");
            let found = backends.iter().find(|one| text(&one["name"]).ends_with(&format!("/{backend}")))?;
            Some((text(&pool["name"]), (text(&found["health"]), text(&found["reason"]))))
        })
        .collect()
}

/// Waits until `be1` is down in exactly the `concerned` services' pools, for a reason that contains `why`.
fn expect(lab: &Small, concerned: impl Fn(&Served) -> bool, why: &str) {
    let mut last = BTreeMap::new();
    let is_so = |(name, (health, reason)): (&String, &(String, String))| match name.split_once('-') {
        Some(("web", name)) if concerned(&Served::named(name)) => health == "down" && reason.contains(why),
        Some(_) => health == "up",
        None => true,
    };
    let reached = wait_until(patience(SOON), || {
        last = seen(lab, BACKENDS[0]);
        Ok(last.iter().all(is_so))
    });
    assert!(reached.expect("a status"), "waited for {why:?}: {last:#?}");
    for served in SERVED.iter().filter(|served| concerned(served)) {
        for _ in 0..8 {
            assert_eq!(get(lab, served.vip).as_deref(), Some(BACKENDS[1]), "{} with {why:?}", served.name);
        }
    }
}

#[test]
fn a_fault_on_the_path_takes_a_backend_out_and_is_reported() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.decapsulate(backend, Mode::Native, &SOURCES)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let everywhere: [IpAddr; 2] = ["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
    let first = serve(&lab, &dir, BACKENDS[0], &everywhere);
    let _second = serve(&lab, &dir, BACKENDS[1], &everywhere);
    lab.prepare(Mode::Native, &web()).expect("a configuration");
    lab.start_daemon().expect("all probes pass");
    expect(&lab, |_| false, "nothing is wrong");

    lab.decap(BACKENDS[0], &["--detach"]).unwrap();
    expect(&lab, Served::is_tunnel, "through the tunnel: decap or VIP missing?");
    lab.decapsulate(BACKENDS[0], Mode::Native, &SOURCES).unwrap();
    expect(&lab, |_| false, "decapsulation is back");

    let vips = |verb: &str, more: [&str; 2]| {
        let line = |served: &Served| {
            let (length, more) = if served.vip.is_ipv4() { ("/32", more[0]) } else { ("/128", more[1]) };
            format!("addr {verb} {}{length} dev lo {more}\n", served.vip)
        };
        lab.netns(BACKENDS[0]).ip(&SERVED.iter().map(line).collect::<String>()).unwrap();
    };
    vips("del", ["", ""]);
    expect(&lab, |_| true, "VIP missing");
    vips("add", ["", "nodad"]);
    expect(&lab, |_| false, "the VIPs are back");

    // It starts before the other server stops, or the backend would be down for another reason.
    let narrow = [address(1, &Served::named("4in4")), address(1, &Served::named("6in6"))];
    let narrow = nginx::start_at(lab.netns(BACKENDS[0]), BACKENDS[0], &dir.path().join("narrow"), &narrow).unwrap();
    // Until then the other server answers instead.
    std::thread::sleep(patience(Duration::from_millis(500)));
    drop(first);
    expect(&lab, |_| true, "answers on its address");
    let reasons = seen(&lab, BACKENDS[0]);
    assert!(reasons["web-4in4"].1.ends_with("through the tunnel: connection refused"), "{reasons:#?}");
    drop(narrow);
    let _first = serve(&lab, &dir, BACKENDS[0], &everywhere);
    expect(&lab, |_| false, "the server is back");
}

#[test]
fn backends_without_their_part_of_the_tunnel_are_no_fault_of_this_host() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    lab.prepare(Mode::Native, "").expect("a configuration");
    lab.launch_daemon().expect("it starts");
    let all = || BACKENDS.iter().flat_map(|backend| seen(&lab, backend).into_values()).collect::<Vec<_>>();
    let mut last = Vec::new();
    let found = wait_until(patience(SOON), || {
        last = all();
        Ok(!last.is_empty()
            && last.iter().all(|(health, why)| health == "down" && why.contains("decap or VIP missing?")))
    });
    let events = lab.ctl(&["events"]).expect("events");
    assert!(found.expect("a status"), "{last:#?}\n{events}");
    assert!(!events.contains("  frozen  "), "{events}");
    BACKENDS.iter().try_for_each(|backend| lab.decapsulate(backend, Mode::Native, &SOURCES)).unwrap();
    let up = wait_until(patience(SOON), || Ok(all().iter().all(|(health, _)| health == "up")));
    assert!(up.expect("a status"), "{:#?}", all());
}

#[test]
fn nothing_is_left_of_probes_when_the_daemon_is_killed() {
    let mut lab = Small::on_veth().expect("the lab comes up");
    BACKENDS.iter().try_for_each(|backend| lab.decapsulate(backend, Mode::Native, &SOURCES)).unwrap();
    lab.balance(Mode::Native).expect("all probes pass");
    let devices = |lab: &Small| {
        let output = lab.netns(EDGE).command("ip").unwrap().args(["-brief", "link"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(devices(&lab).contains("edge-p"), "{}", devices(&lab));
    lab.kill_daemon().unwrap();
    let gone = wait_until(patience(Duration::from_secs(5)), || Ok(!devices(&lab).contains("edge-p")));
    assert!(gone.unwrap(), "{}", devices(&lab));
    // The next daemon makes its own network of probes.
    lab.start_daemon().expect("all probes pass");
    assert!(status::is_by_daemon(&lab.edge().unwrap().status(lab.netns(EDGE)).unwrap()));
    assert!(devices(&lab).contains("edge-p"));
}
