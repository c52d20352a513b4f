//! A configuration that can't work on its host is reported, both before it is used and while it is in use.

use std::{net::UdpSocket, time::Duration};

use edge_tests::lab::{
    small::{BACKENDS, CLIENT, Mode, SERVED, Served, Small, UNSERVED},
    topology::{ECHO, EDGE},
    wait_until,
};
use serde_json::Value;

/// Longest time from a change of the host to its report in `status`.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_does_not_go_with_the_host_is_named() {
    let mut lab = Small::on_veth().unwrap();
    lab.prepare(Mode::Native, "[[interface]]\nname = \"eth1\"\n").unwrap();
    let check = |more: &[&str]| {
        let edge = lab.edge().unwrap();
        let file = edge.configuration();
        let file = file.to_str().unwrap();
        let output = edge.output(lab.netns(EDGE), &[&["check", file, "--host"], more].concat()).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let ip = |commands: &str| lab.netns(EDGE).ip(commands).unwrap();
    let (code, text, _) = check(&[]);
    assert_eq!(code, Some(0), "{text}");

    ip("link set eth1 mtu 3600\n");
    let (code, text, _) = check(&[]);
    assert!(code == Some(0) && text.contains("its MTU is 3600") && text.contains("ip link set eth1 mtu"), "{text}");
    assert_eq!(check(&["--strict"]).0, Some(2));
    ip("link set eth1 mtu 1500\n");

    ip("address del 10.0.0.1/24 dev eth0\n");
    let (_, text, _) = check(&[]);
    assert!(text.contains("10.0.0.1 is no address of this host"), "{text}");
    ip("address add 10.0.0.1/24 dev eth0\n");

    // All backends of the dsr services' pool are behind a router then.
    let away = "route add 10.1.1.11/32 via 10.1.2.11\nroute add 10.1.2.11/32 via 10.1.1.11 onlink dev eth1\n";
    ip(away);
    let (code, text, error) = check(&[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("are behind a router (10.1.1.11 behind 10.1.2.11)")
            && error.contains("does not go with this host"),
        "{text}\n{error}"
    );
    let (_, json, _) = check(&["--json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["findings"][0]["severity"], "error", "{json}");
    ip("route del 10.1.1.11/32\nroute del 10.1.2.11/32\n");

    ip("link set eth0 down\nlink set eth0 name other0\n");
    let (code, text, _) = check(&[]);
    assert!(code == Some(2) && text.contains("this host has no interface of this name"), "{text}");
}

#[test]
fn a_probe_that_can_not_be_made_is_named() {
    let mut lab = Small::on_veth().unwrap();
    let edge = lab.prepare(Mode::Native, "").unwrap();
    let (file, text) = (edge.configuration(), std::fs::read_to_string(edge.configuration()).unwrap());
    let dir = file.parent().unwrap();
    let no_program = dir.join("no-program");
    std::fs::write(&no_program, "#!/bin/sh\n").unwrap();
    let no_program = no_program.display();
    let pool = |probe: &str| {
        format!(
            "{text}\n[[pool]]\nname = \"rest\"\nbackend = [{{ name = \"r1\", address = \"10.1.2.11\" }}]\n\
             [[service]]\nname = \"lab\"\nvips = [\"{}\"]\nports = [\"{ECHO}/tcp\", \"{ECHO}/udp\"]\nmode = \"ipip\"\n\
             pools = [\"lab\", \"rest\"]\n\
             [[pool]]\nname = \"lab\"\nbackend = [{{ name = \"l1\", address = \"10.1.1.11\" }}]\n\
             [pool.probe]\ninterval = \"100ms\"\ntimeout = \"100ms\"\nport = 80\n{probe}\n",
            UNSERVED[0]
        )
    };
    let rows = [
        ("type = \"https\"\nca = \"/nowhere/ca.pem\"".to_owned(), "/nowhere/ca.pem: No such file", "/nowhere/ca.pem"),
        (
            "type = \"command\"\ncommand = [\"/nowhere/look\"]".to_owned(),
            "/nowhere/look: No such file",
            "does not start",
        ),
        (format!("type = \"command\"\ncommand = [\"{no_program}\"]"), "may execute", "no-program does"),
        (
            "type = \"command\"\nuser = \"nobody-here\"\ncommand = [\"/bin/true\"]".to_owned(),
            "no user nobody-here",
            "nobody-here",
        ),
    ];
    let ctl = |args: &[&str]| lab.edge().unwrap().output(lab.netns(EDGE), args).unwrap();
    for (probe, why, _) in &rows {
        std::fs::write(&file, pool(probe)).unwrap();
        let output = ctl(&["check", file.to_str().unwrap(), "--host"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(2) && text.contains("pool lab") && text.contains(why), "{probe}: {text}");
    }
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    std::fs::write(&file, pool(&rows[0].0)).unwrap();
    lab.launch_daemon().unwrap();
    for (probe, _, reason) in &rows {
        std::fs::write(&file, pool(probe)).unwrap();
        lab.ctl(&["reload", "--allow-unfit"]).unwrap();
        let is_said = || {
            let status = lab.ctl(&["status"])?;
            Ok(status.lines().any(|line| line.contains("could not be made") && line.contains(reason)))
        };
        assert!(wait_until(SOON, is_said).unwrap(), "{probe}: {}", lab.ctl(&["status"]).unwrap());
        // It is not known to be down, and so it serves.
        let served = lab.request(UNSERVED[0], 4).unwrap();
        assert_eq!(served, [BACKENDS[0].to_owned()].into(), "{probe}: {}", lab.ctl(&["status"]).unwrap());
    }
    std::thread::sleep(Duration::from_secs(1));
    let events = lab.ctl(&["events"]).unwrap();
    let about = events.lines().filter(|line| line.contains("could not be made")).count();
    assert_eq!(about, rows.len(), "{events}");
}

/// A pool with a probe that can't be made, and more backends than the others have.
#[test]
fn a_probe_that_can_not_be_made_keeps_no_other_pool_from_failing_over() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    let backends: Vec<_> =
        (1..=9).map(|number| format!("{{ name = \"l{number}\", address = \"10.1.2.{}\" }}", 20 + number)).collect();
    let more = format!(
        "\n[[pool]]\nname = \"lab\"\nbackend = [{}]\n[pool.probe]\ntype = \"https\"\nport = 443\n\
         ca = \"/nowhere/ca.pem\"\ninterval = \"100ms\"\ntimeout = \"100ms\"\n",
        backends.join(", ")
    );
    lab.prepare(Mode::Native, &more).unwrap();
    lab.start_daemon().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    lab.decap(BACKENDS[0], &["--detach"]).unwrap();
    let is_out = || Ok(lab.ctl(&["status"])?.matches("1 of 2 available").count() >= 2);
    assert!(wait_until(SOON, is_out).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    let events = lab.ctl(&["events"]).unwrap();
    assert!(!events.contains("  frozen  "), "{events}");
    let vip = Served::named("4in4").vip;
    assert_eq!(lab.request(vip, 8).unwrap().into_iter().collect::<Vec<_>>(), [BACKENDS[1]]);
}

#[test]
fn an_announced_vip_that_the_kernel_does_not_answer_for_is_named() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    let file = lab.prepare(Mode::Native, "").unwrap().configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("\nports =", "\nannounce = \"l2\"\nports =")).unwrap();
    lab.start_daemon().unwrap();
    let vip = Served::named("4in4").vip.to_string();
    lab.netns(CLIENT).ip(&format!("route add {vip}/32 dev eth0\n")).unwrap();
    let is_answered = || {
        lab.netns(CLIENT).ip("neigh flush dev eth0\n").unwrap();
        let mut ping = lab.netns(CLIENT).command("ping").unwrap();
        ping.args(["-n", "-c", "1", "-W", "1", &vip]).output().unwrap().status.success()
    };
    let check = || {
        let output = lab.edge().unwrap().output(lab.netns(EDGE), &["check", file.to_str().unwrap(), "--host"]).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let edge = lab.netns(EDGE);
    assert!(is_answered() && !check().contains("ARP"), "{}", check());
    edge.set("ipv4/conf/eth0/arp_ignore", "2").unwrap();
    // The daemon's own announcements are known to neighbours as well, in the first seconds.
    let becomes = |answered: bool| wait_until(SOON, || Ok(is_answered() == answered)).unwrap();
    assert!(becomes(false) && check().contains("arp_ignore is 2"), "{}", check());
    edge.ip("address add 192.0.2.1/24 dev eth0\n").unwrap();
    let neighbour = format!("address add 192.0.2.2/24 dev eth0\nroute replace {vip}/32 dev eth0 src 192.0.2.2\n");
    lab.netns(CLIENT).ip(&neighbour).unwrap();
    assert!(becomes(true) && !check().contains("ARP"), "{}", check());
    edge.set("ipv4/conf/eth0/arp_ignore", "0").unwrap();
    edge.ip("link set eth0 arp off\n").unwrap();
    assert!(becomes(false) && check().contains("does no ARP"), "{}", check());
    edge.ip("link set eth0 arp on\n").unwrap();
    edge.set("ipv6/conf/eth0/disable_ipv6", "1").unwrap();
    assert!(check().contains("disable_ipv6 is 1"), "{}", check());
}

#[test]
fn a_change_that_loses_traffic_on_this_host_is_refused_and_an_unrelated_one_is_not() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    lab.balance(Mode::Native).unwrap();
    let path = lab.edge().unwrap().configuration();
    let old = std::fs::read_to_string(&path).unwrap();
    let missing = |name: &str| {
        old.replacen("[[interface]]\n", &format!("[[interface]]\nname = \"{name}\"\n\n[[interface]]\n"), 1)
    };
    let new = path.with_file_name("new.toml");
    let run = |verb: &[&str], text: &str| {
        std::fs::write(&new, text).unwrap();
        let args = [&[verb[0], new.to_str().unwrap()], &verb[1..]].concat();
        let output = lab.edge().unwrap().output(lab.netns(EDGE), &args).unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), text)
    };
    let (code, text) = run(&["plan"], &missing("eth9"));
    assert!(code == Some(0) && text.contains("no interface of this name") && text.contains("--allow-unfit"), "{text}");
    let (code, text) = run(&["apply"], &missing("eth9"));
    assert!(code == Some(2) && text.contains("no interface of this name") && text.contains("--allow-unfit"), "{text}");
    // What it loses and what it removes are one refusal.
    let both = missing("eth9").rsplit_once("\n[[service]]").unwrap().0.to_owned();
    let (code, text) = run(&["apply"], &both);
    assert!(code == Some(2) && text.contains("no interface of this name"), "{text}");
    assert!(
        text.contains(" is removed") && text.contains("add --allow-removal ") && text.contains(" --allow-unfit"),
        "{text}"
    );
    std::fs::write(&path, missing("eth9")).unwrap();
    lab.edge().unwrap().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    let status = || lab.edge().unwrap().status(lab.netns(EDGE)).unwrap();
    let refused = || Ok(status()["daemon"]["refused"].as_str().is_some_and(|why| why.contains("--allow-unfit")));
    assert!(wait_until(SOON, refused).unwrap(), "{}", status());
    std::fs::write(&path, &old).unwrap();

    // The finding is in force from here on, and no reason to refuse another change, or the way back.
    let (code, text) = run(&["apply", "--allow-unfit"], &missing("eth9"));
    assert!(code == Some(0) && text.contains("no interface of this name"), "{text}");
    let (code, text) = run(&["apply"], &format!("{}# more\n", missing("eth9")));
    assert!(code == Some(0) && !text.contains("no interface of this name"), "{text}");
    let (code, text) = run(&["apply"], &missing("eth8"));
    assert!(code == Some(2) && text.contains("interface eth8"), "{text}");
    lab.ctl(&["rollback", "1"]).unwrap();
    lab.kill_daemon().unwrap();
    let output = lab.edge().unwrap().output(lab.netns(EDGE), &["rollback", "3"]).unwrap();
    assert!(output.status.success(), "the way back is never refused");
}

#[test]
fn a_running_daemon_reports_changes_of_its_host() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    lab.balance(Mode::Native).unwrap();
    let expect = |what: &str| {
        wait_until(SOON, || Ok(lab.ctl(&["status"])?.contains(what)))
            .and_then(|seen| if seen { Ok(()) } else { anyhow::bail!("{what}: {}", lab.ctl(&["status"])?) })
            .unwrap();
    };
    lab.netns(EDGE).ip("address del 10.0.0.1/24 dev eth0\n").unwrap();
    expect("10.0.0.1 is no address of this host");
    lab.netns(EDGE).ip("address add 10.0.0.1/24 dev eth0\n").unwrap();
    let over = wait_until(SOON, || Ok(!lab.ctl(&["status"])?.contains("is no address")));
    assert!(over.unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    let events = lab.ctl(&["events"]).unwrap();
    assert!(events.contains("host_unfit") && events.contains("host_fits"), "{events}");
}

#[test]
fn a_size_that_is_not_in_force_is_named_by_check_and_by_the_daemon() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    lab.balance(Mode::Native).unwrap();
    let file = lab.edge().unwrap().configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    let wants = "limits.flows: it is 4096, and not in force: the pinned maps were made for 1024";
    let check = || lab.ctl(&["check", file.to_str().unwrap(), "--host"]).unwrap();
    assert!(!check().contains("limits"), "{}", check());

    std::fs::write(&file, text.replace("flows = 1024", "flows = 4096")).unwrap();
    assert!(check().contains(wants), "{}", check());
    lab.ctl(&["reload"]).unwrap();
    let is_reported = |wanted| wait_until(SOON, || Ok(lab.ctl(&["status"])?.contains(wants) == wanted)).unwrap();
    assert!(is_reported(true), "{}", lab.ctl(&["status"]).unwrap());

    std::fs::write(&file, &text).unwrap();
    lab.ctl(&["reload"]).unwrap();
    assert!(is_reported(false), "{}", lab.ctl(&["status"]).unwrap());
    let events = lab.ctl(&["events"]).unwrap();
    let of_limits =
        |kind: &str| events.lines().filter(|line| line.contains(kind) && line.contains("limits.flows")).count();
    assert_eq!((of_limits("host_unfit"), of_limits("host_fits")), (1, 1), "{events}");
}

/// Number of packets that the edge's kernel has forwarded, of IPv4 and of IPv6.
fn forwarded(lab: &Small) -> [u64; 2] {
    let read = |name: &str| {
        let path = format!("/proc/thread-self/net/{name}");
        lab.netns(EDGE).within(|| std::fs::read_to_string(path)).expect("its network").expect("counters")
    };
    let (v4, v6) = (read("snmp"), read("snmp6"));
    let mut rows = v4.lines().filter(|line| line.starts_with("Ip:")).map(str::split_whitespace);
    let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
    let v4 = names.zip(values).find(|(name, _)| *name == "ForwDatagrams").expect("a counter").1;
    let v6 = v6.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams")).expect("a counter");
    [v4, v6].map(|number| number.trim().parse().expect("a number"))
}

/// The router before the edge routes the prefixes to the edge, and the edge's default route leads back to it.
#[test]
fn packets_to_a_range_of_tunnel_sources_do_not_go_back_and_forth() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1", "10.9.0.0/24", "fd00:9::/112"]).unwrap();
    let file = lab.prepare(Mode::Native, "").unwrap().configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    let ranges = "[tunnel]\nsource_v4_range = \"10.9.0.0/24\"\nsource_v6_range = \"fd00:9::/112\"\n";
    std::fs::write(&file, text.replace("[tunnel]\n", ranges)).unwrap();
    // The client is that router, whose own default route leads to the edge.
    lab.netns(CLIENT).set("ipv4/ip_forward", "1").unwrap();
    lab.netns(CLIENT).set("ipv6/conf/all/forwarding", "1").unwrap();
    lab.netns(EDGE).ip("route add default via 10.0.0.2\nroute add default via fd00::2\n").unwrap();
    lab.start_daemon().unwrap();
    let lab = &lab;
    let send = || {
        let before = forwarded(lab);
        let sent = lab.netns(BACKENDS[0]).within(|| -> std::io::Result<()> {
            UdpSocket::bind("0.0.0.0:0")?.send_to(b"?", "10.9.0.77:9")?;
            UdpSocket::bind("[::]:0")?.send_to(b"?", "[fd00:9::77]:9").map(drop)
        });
        sent.unwrap().unwrap();
        move || [0, 1].map(|at| forwarded(lab)[at] - before[at])
    };
    let remedies = ["10.9.0.0/24", "fd00:9::/112"].map(|range| format!("route add unreachable {range}"));
    let status = lab.ctl(&["check", file.to_str().unwrap(), "--host"]).unwrap();
    assert!(remedies.iter().all(|remedy| status.contains(&format!("do: ip {remedy}\n"))), "{status}");
    let since = send();
    let loops = || Ok(since().iter().all(|count| *count > 20));
    assert!(wait_until(SOON, loops).unwrap(), "without the routes the packets go back and forth: {:?}", since());

    lab.netns(EDGE).ip(&(remedies.join("\n") + "\n")).unwrap();
    let is_known = wait_until(SOON, || Ok(!lab.ctl(&["status"])?.contains("unreachable")));
    assert!(is_known.unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    let since = send();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(since(), [0, 0], "the packets come once, and errors may go back");
    for service in SERVED.into_iter().filter(Served::is_tunnel) {
        assert_eq!(lab.use_it(service.vip).unwrap(), lab.backends(), "{}", service.name);
    }
}

#[test]
fn a_path_that_is_too_narrow_for_ipv6_in_a_tunnel_is_named() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &["10.0.0.1", "fd00::1"]).unwrap();
    lab.balance(Mode::Native).unwrap();
    let lines_with =
        |verb: &str, what: &str| lab.ctl(&[verb]).unwrap().lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines_with("status", "too narrow"), 0, "{}", lab.ctl(&["status"]).unwrap());
    lab.netns(EDGE).ip("link set eth1 mtu 1310\n").unwrap();
    // Only the outer IPv6 header leaves no room.
    let one = || Ok(lines_with("status", "path too narrow for IPv6, which needs 1320 bytes") == 1);
    assert!(wait_until(SOON, one).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    assert!(
        wait_until(SOON, || Ok(lines_with("events", "path_narrow") == 1)).unwrap(),
        "{}",
        lab.ctl(&["events"]).unwrap()
    );
    lab.netns(EDGE).ip("link set eth1 mtu 1299\n").unwrap();
    let two = || Ok(lines_with("status", "path too narrow for IPv6, which needs 1300 bytes") == 1);
    assert!(wait_until(SOON, two).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    lab.netns(EDGE).ip("link set eth1 mtu 1500\n").unwrap();
    assert!(
        wait_until(SOON, || Ok(lines_with("status", "too narrow") == 0)).unwrap(),
        "{}",
        lab.ctl(&["status"]).unwrap()
    );
}
