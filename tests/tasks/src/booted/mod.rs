//! Tests the Debian package in a fresh system: it is installed, started, reloaded, hung, upgraded, detached, removed
//! and purged, while datagrams pass through it.

mod root;

use std::{net::SocketAddr, path::Path, process, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{
    link::{self, End},
    netns::Netns,
    sequence::Sequence,
    udp_echo::UdpEcho,
};
use xtask::step::step;

use self::root::Root;

const VIP: &str = "192.0.2.10";
const PER_SECOND: u32 = 500;

/// The installed configuration file, as an operator edits it.
const CONFIGURATION: &str = r#"
hash_key = "5d0b2f1c94e84a7e9a53c7d2e6f80b14"
[nat]
source_v4 = "10.2.0.1"
[[interface]]
name = "eth0"
mode = "generic"
[[interface]]
name = "eth1"
mode = "generic"
[[pool]]
name = "provider-a"
[pool.probe]
type = "icmp"
[[pool.backend]]
name = "a1"
address = "10.2.0.11"
[[pool]]
name = "provider-b"
[pool.probe]
type = "icmp"
[[pool.backend]]
name = "b1"
address = "10.2.0.12"
[[service]]
name = "echo"
vips = ["192.0.2.10"]
ports = ["7007/udp"]
mode = "nat"
pools = ["provider-a", "provider-b"]
# end
"#;

/// Client, edge, and a host with the backends of both providers.
struct Network {
    client: Netns,
    edge: Netns,
    _echoes: UdpEcho,
    _backend: Netns,
}

pub(crate) fn test(deb: &Path, successor: &Path) -> Result<()> {
    let packages = deb.parent().context("packages lie in a folder")?;
    let name = |path: &Path| format!("/packages/{}", path.file_name().unwrap_or_default().to_string_lossy());
    let network = network()?;
    let root = step("booting a fresh Debian 12", || Root::boot(&network.edge, packages))?;
    step("installing: nothing starts", || installed(&root, &name(deb)))?;
    let traffic = step("starting: it serves", || started(&root, &network))?;
    step("the group may send requests, others may not", || requests_by_group(&root))?;
    step("a refused file fails the reload, and is a warning in the journal", || refused(&root))?;
    step("a provider is left, and returned to when its time is over", || evacuated(&root))?;
    step("a hung daemon is ended, and another one follows", || hung(&root))?;
    step("upgrading: the same process", || upgraded(&root, &name(successor)))?;
    let sent = traffic.sent();
    // The last datagrams may still be in flight.
    thread::sleep(Duration::from_secs(1));
    let missing = traffic.missing(0, sent);
    traffic.stop()?;
    eprintln!("xtask: of {} datagrams through all of this, {} were lost", missing.sent, missing.lost);
    ensure!(missing.sent > 0 && missing.lost == 0, "{missing:?}");
    step("detached, it stays away", || detached(&root))?;
    step("removing and purging: nothing is left", || removed(&root))?;
    Ok(())
}

fn network() -> Result<Network> {
    let netns = |host: &str| Netns::create(&format!("edgepackage{}-{host}", process::id()));
    let (client, edge, backend) = (netns("client")?, netns("edge")?, netns("backend")?);
    link::pair(End { netns: &client, name: "eth0" }, End { netns: &edge, name: "eth0" })?;
    link::pair(End { netns: &backend, name: "eth0" }, End { netns: &edge, name: "eth1" })?;
    client.ip(&format!("addr add 10.0.0.2/24 dev eth0\nroute add {VIP}/32 via 10.0.0.1\n"))?;
    edge.ip("addr add 10.0.0.1/24 dev eth0\naddr add 10.2.0.1/24 dev eth1\n")?;
    edge.set("ipv4/ip_forward", "1")?;
    backend.ip("addr add 10.2.0.11/24 dev eth0\naddr add 10.2.0.12/24 dev eth0\nroute add default via 10.2.0.1\n")?;
    let both = [11, 12].map(|last| SocketAddr::from(([10, 2, 0, last], 7007)));
    let echoes = UdpEcho::start_at(&backend, "backend", both.into_iter())?;
    Ok(Network { client, edge, _echoes: echoes, _backend: backend })
}

fn installed(root: &Root, deb: &str) -> Result<()> {
    root.ok(&format!("apt-get -q -y install {deb}"))?;
    ensure!(root.run("systemctl is-active edge")?.status.code() != Some(0), "the package starts something");
    root.fails("systemctl is-enabled edge")?;
    // As installed, the file does nothing.
    let output = root.fails("edge-ctl check")?;
    ensure!(output.contains("nothing is configured"), "{output}");
    root.fails("systemctl start edge")?;
    root.ok("systemctl stop edge && test ! -e /sys/fs/bpf/edge && ! ip -d link show | grep xdp")?;
    let group = root.ok("getent group edge && stat -c %a /etc/edge/edge.toml")?;
    ensure!(group.ends_with("640\n"), "{group}");
    for file in ["man/man1/edge-ctl.1.gz", "man/man5/edge.toml.5.gz", "bash-completion/completions/edge-ctl"] {
        root.ok(&format!("dpkg -L edge | grep -q /usr/share/{file}"))?;
    }
    root.ok("systemd-analyze verify --man=no edge.service edge-decap.service")?;
    let exposure = root.ok("systemd-analyze security --no-pager edge.service | tail -1")?;
    eprintln!("xtask: {}", exposure.trim());
    // Without options, starting it is not a failure either.
    root.ok("systemctl start edge-decap && ! systemctl is-failed edge-decap")?;
    Ok(())
}

fn started(root: &Root, network: &Network) -> Result<Sequence> {
    root.write("/etc/edge/edge.toml", CONFIGURATION)?;
    root.ok("edge-ctl check && systemctl enable --now edge")?;
    // The service is ready once its program is attached.
    root.ok("systemctl is-active edge && ip -d link show eth0 | grep -q xdp && ip -d link show eth1 | grep -q xdp")?;
    root.until("edge-ctl status --json | grep -q '\"state\": \"up\"'", Duration::from_secs(20))?;
    // Probes use their own network.
    root.ok("edge-ctl status --json | grep -q '\"probes\": null'")?;
    root.until("systemctl show edge -p StatusText | grep -q '2 of 2 backends up'", Duration::from_secs(10))?;
    Sequence::start(&network.client, &[format!("{VIP}:7007").parse()?], PER_SECOND)
}

fn requests_by_group(root: &Root) -> Result<()> {
    let socket = root.ok("stat -c '%U %G %a' /run/edge/edge.sock")?;
    ensure!(socket.trim() == "root edge 660", "{socket}");
    root.ok("setpriv --reuid=nobody --regid=nogroup --groups=edge edge-ctl status")?;
    root.fails("setpriv --reuid=nobody --regid=nogroup --clear-groups edge-ctl status")?;
    Ok(())
}

fn refused(root: &Root) -> Result<()> {
    root.write("/etc/edge/edge.toml", &CONFIGURATION.replace("vips", "vip"))?;
    root.fails("systemctl reload edge")?;
    root.ok("journalctl --sync; journalctl -q -u edge -p warning..warning -o cat | grep edge.toml")?;
    root.ok("journalctl -q EDGE_KIND=config_refused -o cat | grep edge.toml")?;
    // Messages of lower levels must not be among the warnings.
    root.fails("journalctl -q -u edge -p warning -o cat | grep 'PID .*, configuration'")?;
    root.ok("journalctl -q -u edge -p info -o cat | grep 'PID .*, configuration'")?;
    root.until("systemctl show edge -p StatusText | grep -q REFUSED", Duration::from_secs(5))?;
    root.write("/etc/edge/edge.toml", CONFIGURATION)?;
    root.ok("systemctl reload edge")?;
    Ok(())
}

fn evacuated(root: &Root) -> Result<()> {
    const NEW_FLOW: &str = "edge-ctl explain udp 10.0.0.2:9 192.0.2.10:7007 --json | grep -A9 '\"starts\"'";
    let goes_to = |backend: &str| root.ok(&format!("{NEW_FLOW} | grep -q '\"name\": \"{backend}\"'"));
    goes_to("provider-a/a1")?;
    let output = root.ok("edge-ctl evacuate provider-a --drain --dry-run")?;
    ensure!(output.contains("dry run") && output.contains("goes to pool provider-b (1 of 1 backends"), "{output}");
    goes_to("provider-a/a1")?;
    let output = root.ok("edge-ctl evacuate provider-a --drain --for 25s --reason maintenance")?;
    ensure!(output.ends_with("undo: edge-ctl return provider-a\n"), "{output}");
    goes_to("provider-b/b1")?;
    root.ok("edge-ctl status | grep 'provider-a EVACUATED' | grep maintenance")?;
    // A restarted daemon knows the evacuation.
    root.ok("systemctl restart edge && edge-ctl status | grep -q 'provider-a EVACUATED'")?;
    root.until("! edge-ctl status | grep -q EVACUATED", Duration::from_mins(1))?;
    goes_to("provider-a/a1")?;
    root.ok("edge-ctl events | grep 'its evacuation is over: its time is over'")?;
    // With patterns as well.
    let output = root
        .ok("edge-ctl drain 'provider-b/*' --dry-run && edge-ctl drain '*1' --reason test && edge-ctl enable a1 b1")?;
    ensure!(output.matches("is drained: it gets no new flows").count() == 3, "{output}");
    root.fails("edge-ctl drain 'c*'")?;
    Ok(())
}

fn hung(root: &Root) -> Result<()> {
    let before = main_pid(root)?;
    root.ok("systemctl kill --kill-who=main -s STOP edge")?;
    let waited = root.until(
        &format!("test $(systemctl show edge -p MainPID --value) -ne {before} && systemctl -q is-active edge"),
        Duration::from_mins(2),
    )?;
    eprintln!("xtask: another daemon was ready after {} s", waited.as_secs());
    root.ok("edge-ctl status >/dev/null && systemctl show edge -p NRestarts | grep -q =1")?;
    Ok(())
}

fn upgraded(root: &Root, deb: &str) -> Result<()> {
    let before = main_pid(root)?;
    root.ok(&format!("apt-get -q -y install {deb}"))?;
    root.ok("dpkg -s edge | grep -q '^Version:.*-2$'")?;
    ensure!(main_pid(root)? == before, "another process");
    root.until("edge-ctl status >/dev/null && systemctl -q is-active edge", Duration::from_secs(20))?;
    let executable = root.ok(&format!("readlink /proc/{before}/exe"))?;
    ensure!(executable.trim() == "/usr/bin/edge-ctl", "the daemon is still {executable}");
    Ok(())
}

fn detached(root: &Root) -> Result<()> {
    root.ok("edge-ctl detach")?;
    // Longer than a restart takes.
    thread::sleep(Duration::from_secs(4));
    root.fails("systemctl is-active edge")?;
    root.fails("systemctl is-failed edge")?;
    root.ok("systemctl show edge -p ExecMainStatus | grep -q =6 && ! ip -d link show | grep xdp")?;
    root.ok("systemctl start edge && ip -d link show eth0 | grep -q xdp")?;
    Ok(())
}

fn removed(root: &Root) -> Result<()> {
    root.ok("apt-get -q -y remove edge")?;
    root.ok("! ip -d link show | grep xdp && test ! -e /usr/bin/edge-ctl && test -e /etc/edge/edge.toml")?;
    root.fails("systemctl is-active edge")?;
    root.ok("apt-get -q -y purge edge")?;
    root.ok(
        "test ! -e /etc/edge && test ! -e /var/lib/edge && test ! -e /run/edge && test ! -e /etc/default/edge-decap",
    )?;
    root.ok("test -z \"$(find /etc/systemd -name 'edge*')\"")?;
    Ok(())
}

fn main_pid(root: &Root) -> Result<String> {
    Ok(root.ok("systemctl show edge -p MainPID --value")?.trim().to_owned())
}
