//! All changes of interfaces that `ip link` can make under the daemon: configured interfaces get their program again,
//! packets take the remaining paths, and `status` reports the current state.

#![expect(clippy::unwrap_used, reason = "all of it is tests")]

use std::{collections::BTreeSet, time::Duration};

use edge_tests::lab::{
    patience::patience,
    small::{BACKENDS, CLIENT, Mode, Served, Small},
    topology::EDGE,
    wait_until,
};

const SOURCES: [&str; 2] = ["10.0.0.1", "fd00::1"];
/// Time from a change to its effect, even if only the periodic scan of the host's network detects it.
const SOON: Duration = Duration::from_secs(20);
/// Time from the first failed probe until the backend is down, with a margin.
const FALL: Duration = Duration::from_secs(2);
/// Services in both tunnels and in the other mode.
const SEEN: [&str; 3] = ["4in4", "6in4", "dsr4"];

fn lab() -> Small {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    lab.balance(Mode::Native).unwrap();
    lab
}

/// Waits until exactly these backends serve a client, in each mode.
fn served(lab: &Small, by: &[&str], after: &str) {
    let by: BTreeSet<_> = by.iter().map(|name| (*name).to_owned()).collect();
    let mut last = String::new();
    let reached = wait_until(patience(SOON), || {
        let seen: Vec<_> = SEEN.iter().map(|name| lab.request(Served::named(name).vip, 8)).collect();
        last = format!("{seen:?}");
        Ok(seen.iter().all(|seen| seen.as_ref().is_ok_and(|seen| *seen == by)))
    });
    assert!(reached.unwrap(), "{after}: served by {last}\n{}", lab.ctl(&["status"]).unwrap());
}

/// Waits until `status` contains `what`.
fn status_contains(lab: &Small, what: &str, after: &str) {
    let reached = wait_until(patience(SOON), || Ok(lab.ctl(&["status"])?.contains(what)));
    assert!(reached.unwrap(), "{after}: {what:?} is not in\n{}", lab.ctl(&["status"]).unwrap());
}

const BOTH: [&str; 2] = BACKENDS;

/// Commands that restore the addresses of a device.
fn addresses(device: &str, number: usize) -> String {
    let (v4, v6) = if number == 0 {
        ("10.0.0.1/24".to_owned(), "fd00::1/64".to_owned())
    } else {
        (format!("10.1.{number}.1/24"), format!("fd01:{number}::1/64"))
    };
    format!("addr replace {v4} dev {device}\naddr replace {v6} dev {device} nodad\n")
}

#[test]
fn the_route_to_a_backend_follows_every_change_of_its_link() {
    let lab = lab();
    let edge = lab.netns(EDGE);
    let other = lab.netns(BACKENDS[1]).name().to_owned();
    let flush = || lab.netns(BACKENDS[0]).ip("neigh flush dev eth0\n").unwrap();
    served(&lab, &BOTH, "the start");

    edge.ip("link set eth1 down\n").unwrap();
    served(&lab, &BOTH[1..], "eth1 is down");
    status_contains(&lab, "unreachable from this host", "eth1 is down");
    // Under another name it is also a path.
    edge.ip(&format!("link set eth1 name other1\nlink set other1 up\n{}", addresses("other1", 1))).unwrap();
    served(&lab, &BOTH, "eth1 is other1");
    edge.ip("link property add dev other1 altname eth1\n").unwrap();
    served(&lab, &BOTH, "other1 is called eth1, too");
    edge.ip("link property del dev other1 altname eth1\nlink set other1 down\nlink set other1 name eth1\nlink set eth1 up\n")
        .unwrap();
    edge.ip(&addresses("eth1", 1)).unwrap();
    served(&lab, &BOTH, "it is eth1 again");

    edge.ip("link set eth1 address 02:00:00:00:77:01\n").unwrap();
    flush();
    served(&lab, &BOTH, "eth1 has another MAC address");
    edge.ip("link set eth1 mtu 1400\n").unwrap();
    served(&lab, &BOTH, "eth1 has another MTU");
    edge.ip("link set eth1 mtu 1500\n").unwrap();

    edge.ip(&format!("link set eth1 netns {other} name away0\n")).unwrap();
    served(&lab, &BOTH[1..], "eth1 is in another namespace");
    status_contains(&lab, "unreachable from this host", "eth1 is in another namespace");
    lab.netns(BACKENDS[1]).ip(&format!("link set away0 netns {} name eth1\n", edge.name())).unwrap();
    edge.ip(&format!("link set eth1 up\n{}", addresses("eth1", 1))).unwrap();
    served(&lab, &BOTH, "eth1 is back");

    edge.ip("link del eth1\n").unwrap();
    served(&lab, &BOTH[1..], "eth1 is gone");
    lab.cable(BACKENDS[0], "eth1").unwrap();
    edge.ip(&addresses("eth1", 1)).unwrap();
    lab.netns(BACKENDS[0])
        .ip("addr add 10.1.1.11/24 dev eth0\naddr add fd01:1::11/64 dev eth0 nodad\n\
             route add default via 10.1.1.1\nroute add default via fd01:1::1\n")
        .unwrap();
    // The program went with the device. Probes detect this, whichever of them is first.
    status_contains(&lab, "1 of 2 available", "eth1 is another one");
    lab.decapsulate(BACKENDS[0], Mode::Native, &SOURCES).unwrap();
    served(&lab, &BOTH, "eth1 is another one");
}

#[test]
fn an_interface_of_the_file_has_its_program_whatever_becomes_of_it() {
    let mut lab = lab();
    let edge_name = lab.netns(EDGE).name().to_owned();
    let other = lab.netns(BACKENDS[1]).name().to_owned();
    let ip = |lab: &Small, lines: &str| lab.netns(EDGE).ip(lines).unwrap();
    let flush = |lab: &Small| lab.netns(CLIENT).ip("neigh flush dev eth0\n").unwrap();

    ip(&lab, "link set eth0 down\n");
    status_contains(&lab, "is down, or has no carrier", "eth0 is down");
    ip(&lab, "link set eth0 name other0\nlink set other0 up\n");
    status_contains(&lab, "eth0 NOT ATTACHED", "eth0 is other0");
    ip(&lab, "link set other0 down\nlink set other0 name eth0\nlink set eth0 up\n");
    ip(&lab, &addresses("eth0", 0));
    served(&lab, &BOTH, "it is eth0 again");

    ip(&lab, "link set eth0 address 02:00:00:00:77:00\n");
    flush(&lab);
    served(&lab, &BOTH, "eth0 has another MAC address");
    ip(&lab, "link set eth0 mtu 1400\nlink property add dev eth0 altname front\n");
    served(&lab, &BOTH, "eth0 has another MTU and one more name");
    ip(&lab, "link set eth0 mtu 1500\n");

    ip(&lab, "link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0\naddr flush dev eth0\n");
    ip(&lab, &addresses("br0", 0));
    flush(&lab);
    served(&lab, &BOTH, "eth0 is a port of a bridge");
    ip(&lab, "link set eth0 nomaster\nlink del br0\n");
    ip(&lab, &addresses("eth0", 0));
    flush(&lab);
    served(&lab, &BOTH, "eth0 is no port any more");

    ip(&lab, &format!("link set eth0 netns {other} name away0\n"));
    status_contains(&lab, "eth0 NOT ATTACHED", "eth0 is in another namespace");
    lab.netns(BACKENDS[1]).ip(&format!("link set away0 netns {edge_name} name eth0\n")).unwrap();
    ip(&lab, &format!("link set eth0 up\n{}", addresses("eth0", 0)));
    served(&lab, &BOTH, "eth0 is back");

    ip(&lab, "link del eth0\n");
    status_contains(&lab, "this host has no interface of this name", "eth0 is gone");
    lab.cable(CLIENT, "eth0").unwrap();
    ip(&lab, &addresses("eth0", 0));
    lab.netns(CLIENT)
        .ip("addr add 10.0.0.2/24 dev eth0\naddr add fd00::2/64 dev eth0 nodad\n\
             route add default via 10.0.0.1\nroute add default via fd00::1\n")
        .unwrap();
    lab.pass(CLIENT).unwrap();
    served(&lab, &BOTH, "eth0 is another one");
    let events = lab.ctl(&["events"]).unwrap();
    let count = |kind: &str| events.lines().filter(|line| line.contains(&format!("  {kind} "))).count();
    // An interface that was gone only for a moment may have been seen only as replaced.
    assert!((2..=3).contains(&count("detached")) && count("attached") >= 3, "{events}");
}

/// MAC addresses of a macvlan interface, and of the interface below it.
const OVER: &str = "02:00:00:00:77:03";
const UNDER: &str = "02:00:00:00:77:04";

/// XDP can't send through these devices: frames leave through the interface below them.
/// Whether an interface of the edge has an XDP program.
fn has_program(lab: &Small, interface: &str) -> anyhow::Result<bool> {
    let shown = lab.netns(EDGE).command("ip")?.args(["link", "show", interface]).output()?;
    Ok(String::from_utf8_lossy(&shown.stdout).contains("xdp"))
}

#[test]
fn an_interface_keeps_its_program_until_those_that_the_file_names_instead_have_theirs() {
    let mut lab = Small::on_veth().unwrap();
    BACKENDS.iter().try_for_each(|backend| lab.pass(backend)).unwrap();
    lab.prepare(Mode::Native, "").unwrap();
    lab.start_daemon().unwrap();
    let path = lab.edge().unwrap().configuration();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("name = \"eth0\""), "{text}");
    let new = path.with_file_name("new.toml");
    std::fs::write(&new, text.replacen("name = \"eth0\"", "name = \"eht0\"", 1)).unwrap();
    let new = new.display().to_string();

    let requests = lab.start_requests().unwrap();
    let refused = lab.ctl(&["apply", &new, "--allow-unfit"]).unwrap_err().to_string();
    assert!(refused.contains("interface eth0 is removed") && refused.contains("--allow-removal 1"), "{refused}");
    let applied =
        lab.edge().unwrap().output(lab.netns(EDGE), &["apply", &new, "--allow-removal", "1", "--allow-unfit"]).unwrap();
    let output = format!("{}{}", String::from_utf8_lossy(&applied.stdout), String::from_utf8_lossy(&applied.stderr));
    assert!(applied.status.success() && output.contains("the program stays on eth0"), "{output}");
    std::thread::sleep(Duration::from_millis(2500));
    let counts = requests.stop().unwrap();
    assert!(counts.answered > 1000 && counts.lost == 0, "{counts:?}");
    assert!(has_program(&lab, "eth0").unwrap());

    lab.netns(EDGE).ip("link add eht0 type veth peer name eht1\nlink set eht0 up\nlink set eht1 up\n").unwrap();
    let moved = || Ok(has_program(&lab, "eht0")? && !has_program(&lab, "eth0")?);
    assert!(wait_until(patience(SOON), moved).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
}

#[test]
fn an_mtu_that_the_driver_refuses_a_program_for_is_named_with_its_remedy_until_it_is_lowered() {
    let mut lab = Small::on_veth().unwrap();
    lab.decapsulate_all(Mode::Native, &SOURCES).unwrap();
    lab.prepare(Mode::Native, "[[interface]]\nname = \"jumbo0\"\n").unwrap();
    // The driver of a veth pair goes by the MTU of the other end.
    let set = |lab: &Small, mtu: u32| {
        let both = format!("link set jumbo0 mtu {mtu} up\nlink set jumbo1 mtu {mtu} up\n");
        lab.netns(EDGE).ip(&both).unwrap();
    };
    lab.netns(EDGE).ip("link add jumbo0 type veth peer name jumbo1\n").unwrap();
    set(&lab, 9000);
    let file = lab.edge().unwrap().configuration().display().to_string();
    let checked = lab.edge().unwrap().output(lab.netns(EDGE), &["check", "--host", &file]).unwrap();
    let output = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert!(output.contains("jumbo0") && output.contains("its MTU is 9000"), "{output}");
    lab.start_daemon().unwrap();
    served(&lab, &BOTH, "one interface of two has its program");
    status_contains(&lab, "ip link set dev jumbo0 mtu 1500", "its MTU is 9000");
    set(&lab, 1500);
    let attached = || has_program(&lab, "jumbo0");
    assert!(wait_until(patience(SOON), attached).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    assert!(!lab.ctl(&["status"]).unwrap().contains("mtu 1500"));
}

#[test]
fn backends_behind_a_bridge_and_a_macvlan_interface_of_the_edge_are_sent_to() {
    let lab = lab();
    let edge = lab.netns(EDGE);
    let flush = || lab.netns(BACKENDS[0]).ip("neigh flush dev eth0\n").unwrap();
    // Without an address of its own, a bridge has the address of one of its ports, which changes when ports come or go:
    // neighbours take seconds to notice.
    let bridge = "link add br1 address 02:00:00:00:77:02 type bridge\nlink set br1 up\nlink set eth1 master br1\naddr flush dev eth1\n";
    edge.ip(&format!("{bridge}{}", addresses("br1", 1))).unwrap();
    flush();
    served(&lab, &BOTH, "eth1 is a port of a bridge");

    // The port by which it would leave is unknown, so native mode can't send it.
    edge.ip("link add more0 type veth peer name more1\nlink set more0 master br1\nlink set more0 up\n").unwrap();
    status_contains(&lab, "its egress is a bridge that has not just one port", "the bridge has another port");
    served(&lab, &BOTH[1..], "the bridge has another port");
    edge.ip("link del more0\n").unwrap();
    served(&lab, &BOTH, "the bridge has one port again");

    edge.ip(&format!(
        "link del br1\nlink set eth1 address {UNDER}\n\
             link add link eth1 name over1 address {OVER} type macvlan mode bridge\nlink set over1 up\n"
    ))
    .unwrap();
    edge.ip(&addresses("over1", 1)).unwrap();
    flush();
    served(&lab, &BOTH, "eth1 has a macvlan interface on it");
    // Both interfaces answer for the address, and the backend uses the first answer.
    let neighbour = |mac: &str| format!("neigh replace 10.1.1.1 lladdr {mac} dev eth0 nud permanent\n");
    for mac in [OVER, UNDER] {
        lab.netns(BACKENDS[0]).ip(&neighbour(mac)).unwrap();
        let silent = wait_until(patience(FALL), || Ok(lab.ctl(&["status"])?.contains("1 of 2 available")));
        assert!(!silent.unwrap(), "it sends to {mac}:\n{}", lab.ctl(&["status"]).unwrap());
    }
    // The reason of a transition remains, for as long as flows have records.
    let quiet = wait_until(patience(SOON), || Ok(lab.ctl(&["status"])?.starts_with("OK")));
    assert!(quiet.unwrap(), "{}", lab.ctl(&["status"]).unwrap());
}

/// Replaces a line of the configuration, and has the daemon read it.
fn reload_with(lab: &Small, from: &str, to: &str) {
    let file = lab.edge().unwrap().configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    lab.ctl(&["reload", "--allow-removal", "1"]).unwrap();
}

/// Upgrades to maps of another size, so that a program that goes on with the older maps would be noticed when a backend
/// dies.
fn upgrade_and_lose_a_backend(lab: &Small, flows: [u32; 2], after: &str) {
    let [before, now] = flows.map(|flows| format!("flows = {flows}\n"));
    reload_with(lab, &before, &now);
    let upgraded = lab.ctl(&["upgrade"]).unwrap();
    assert!(upgraded.contains("its program is attached\n"), "{after}: {upgraded}");
    served(lab, &BOTH, after);
    lab.decap(BACKENDS[0], &["--detach"]).unwrap();
    lab.netns(EDGE).ip("link set eth1 down\n").unwrap();
    served(lab, &BOTH[1..], after);
    lab.netns(EDGE).ip(&format!("link set eth1 up\n{}", addresses("eth1", 1))).unwrap();
    lab.decapsulate(BACKENDS[0], Mode::Native, &SOURCES).unwrap();
    served(lab, &BOTH, after);
}

#[test]
fn a_program_follows_its_interface_to_another_name() {
    let mut lab = lab();
    let ip = |lab: &Small, lines: &str| lab.netns(EDGE).ip(lines).unwrap();
    let before = lab.attached(EDGE, "eth0").unwrap();
    ip(&lab, "link set eth0 down\nlink set eth0 name lan0\nlink set lan0 up\n");
    ip(&lab, &addresses("lan0", 0));
    reload_with(&lab, "name = \"eth0\"", "name = \"lan0\"");
    served(&lab, &BOTH, "eth0 is lan0");
    assert_eq!(lab.attached(EDGE, "lan0").unwrap(), before, "it is the same program");
    status_contains(&lab, "interfaces  lan0\n", "eth0 is lan0");
    upgrade_and_lose_a_backend(&lab, [1024, 4096], "eth0 is lan0");

    // Both interfaces have the program, and exchange their names.
    ip(&lab, "link add wan0 type veth peer name wan1\nlink set wan0 up\nlink set wan1 up\n");
    reload_with(
        &lab,
        "[[interface]]\nname = \"lan0\"",
        "[[interface]]\nname = \"wan0\"\n[[interface]]\nname = \"lan0\"",
    );
    status_contains(&lab, "interfaces  wan0, lan0\n", "there is wan0");
    ip(
        &lab,
        "link set lan0 down\nlink set wan0 down\nlink set lan0 name x0\nlink set wan0 name lan0\nlink set x0 name wan0\n\
              link set lan0 up\nlink set wan0 up\n",
    );
    ip(&lab, &addresses("wan0", 0));
    served(&lab, &BOTH, "they have exchanged their names");
    upgrade_and_lose_a_backend(&lab, [4096, 2048], "they have exchanged their names");
    assert!(!lab.ctl(&["status"]).unwrap().contains("NOT ATTACHED"), "{}", lab.ctl(&["status"]).unwrap());
    lab.detach().unwrap();
}

/// A backend that is exchanged for another machine, or fails over to another NIC, and does not announce its MAC address:
/// the kernel believes in the old one for half a minute.
#[test]
fn another_mac_address_of_a_backend_is_found_without_an_announcement() {
    let lab = lab();
    served(&lab, &BOTH, "the start");
    lab.netns(BACKENDS[0]).ip("link set eth0 address 02:00:00:00:88:01\n").unwrap();
    let is_out = || Ok(lab.ctl(&["status"])?.contains("1 of 2 available"));
    assert!(wait_until(patience(SOON), is_out).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    let is_back = || Ok(!lab.ctl(&["status"])?.contains("1 of 2 available"));
    assert!(wait_until(patience(Duration::from_secs(10)), is_back).unwrap(), "{}", lab.ctl(&["status"]).unwrap());
    served(&lab, &BOTH, "it has another MAC address");
}
