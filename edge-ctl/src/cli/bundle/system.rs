//! What the host says: links, routes, settings, and the logs of the kernel and of the unit.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use super::{Item, MOST};
use crate::{cli::tool, control::doctor::PROPERTIES};

/// Time for one program, and for all of them.
const PATIENCE: Duration = Duration::from_secs(5);
const PATIENCE_FOR_ALL: Duration = Duration::from_mins(1);

/// Interfaces with details of their drivers.
const INTERFACES: usize = 16;

/// Files with a program's output: name, program, arguments.
const TOOLS: [(&str, &str, &[&str]); 14] = [
    ("network/link.txt", "ip", &["-d", "-s", "link"]),
    ("network/address.txt", "ip", &["address"]),
    ("network/route4.txt", "ip", &["-4", "-d", "route", "show", "table", "all"]),
    ("network/route6.txt", "ip", &["-6", "-d", "route", "show", "table", "all"]),
    ("network/rule4.txt", "ip", &["-4", "rule"]),
    ("network/rule6.txt", "ip", &["-6", "rule"]),
    ("network/neigh4.txt", "ip", &["-4", "neigh"]),
    ("network/neigh6.txt", "ip", &["-6", "neigh"]),
    ("network/nexthop.txt", "ip", &["nexthop"]),
    ("network/sockets.txt", "ss", &["-s"]),
    ("bpf/net.txt", "bpftool", &["net"]),
    ("bpf/programs.txt", "bpftool", &["prog"]),
    ("clock.txt", "timedatectl", &["show"]),
    ("journal.txt", "journalctl", &["-u", "edge", "-u", "edge-decap", "-n", "20000", "-o", "short-iso", "--no-pager"]),
];

/// Files that are copied.
const FILES: [(&str, &str); 6] = [
    ("host/version.txt", "/proc/version"),
    ("host/os-release.txt", "/etc/os-release"),
    ("host/meminfo.txt", "/proc/meminfo"),
    ("host/loadavg.txt", "/proc/loadavg"),
    ("network/devices.txt", "/proc/net/dev"),
    ("network/netstat.txt", "/proc/net/netstat"),
];

/// Directories of settings.
const SETTINGS: [&str; 5] = ["net/core", "net/ipv4", "net/ipv6", "net/ipv4/neigh/default", "net/ipv6/neigh/default"];
/// Settings of each interface.
const OF_INTERFACE: [&str; 6] =
    ["forwarding", "arp_ignore", "arp_announce", "rp_filter", "disable_ipv6", "accept_local"];

/// Everything about the host.
pub(super) async fn items(interfaces: &[String]) -> Vec<Item> {
    let start = Instant::now();
    let mut items: Vec<_> = FILES
        .iter()
        .map(|(name, path)| Item {
            name: (*name).to_owned(),
            content: fs::read_to_string(path).map_err(|error| format!("{path}: {error}")),
        })
        .collect();
    items.push(Item { name: "sysctl.txt".to_owned(), content: Ok(settings(interfaces)) });
    for (name, program, args) in TOOLS {
        items.push(Item { name: name.to_owned(), content: output(program, args, start).await });
    }
    let property = format!("--property={PROPERTIES},MemoryCurrent,TasksCurrent,LimitNOFILE");
    let unit = output("systemctl", &["show", "edge.service", &property], start).await;
    items.push(Item { name: "unit.txt".to_owned(), content: unit });
    for interface in interfaces.iter().take(INTERFACES) {
        for (what, option) in [("driver", "-i"), ("offloads", "-k")] {
            let name = format!("network/{}-{what}.txt", interface.replace('/', "_"));
            items.push(Item { name, content: output("ethtool", &[option, interface], start).await });
        }
    }
    let log = output("dmesg", &[], start).await;
    items.push(Item { name: "kernel-log.txt".to_owned(), content: log.map(|log| about_bpf(&log)) });
    items
}

async fn output(program: &str, args: &[&str], start: Instant) -> Result<String, String> {
    let left = PATIENCE_FOR_ALL.saturating_sub(start.elapsed()).min(PATIENCE);
    if left.is_zero() {
        return Err("no time was left for it".to_owned());
    }
    let bytes = tool::output(program, args, left, MOST as u64).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The lines that may be about the load balancer.
fn about_bpf(log: &str) -> String {
    let words = ["bpf", "xdp", "edge-ctl", "out of memory", "oom"];
    let is_meant = |line: &&str| words.iter().any(|word| line.to_lowercase().contains(word));
    log.lines().filter(is_meant).flat_map(|line| [line, "\n"]).collect()
}

/// Settings of the kernel, without those that are secrets themselves.
fn settings(interfaces: &[String]) -> String {
    let root = Path::new("/proc/sys");
    let mut paths: Vec<_> = SETTINGS.iter().flat_map(|folder| files(&root.join(folder))).collect();
    for name in ["all", "default"].into_iter().chain(interfaces.iter().map(String::as_str)) {
        for family in ["ipv4", "ipv6"] {
            let folder = root.join("net").join(family).join("conf").join(name);
            paths.extend(OF_INTERFACE.iter().map(|key| folder.join(key)));
        }
    }
    paths.push(root.join("kernel/unprivileged_bpf_disabled"));
    let mut text = String::new();
    for path in paths {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if is_secret(&name) {
            continue;
        }
        if let Ok(value) = fs::read_to_string(&path) {
            let _ = writeln!(text, "{} = {}", name.replace('/', "."), value.trim());
        }
    }
    text
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// Whether a setting is a key, such as that of TCP Fast Open.
fn is_secret(name: &str) -> bool {
    name.ends_with("_key") || name.contains("secret") || name.ends_with("rss_key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_keys_are_left_out() {
        for secret in ["net/ipv4/tcp_fastopen_key", "net/ipv6/conf/eth0/stable_secret", "net/core/netdev_rss_key"] {
            assert!(is_secret(secret), "{secret}");
        }
        let settings = settings(&["lo".to_owned()]);
        assert!(settings.contains("net.ipv4.conf.lo.forwarding = ") && settings.contains("net.core.bpf_jit_enable"));
        assert!(!settings.contains("_key"), "{settings}");
    }

    #[test]
    fn of_the_kernels_log_only_what_concerns() {
        assert_eq!(about_bpf("usb 1-1: new\nbpf: failed\nnet: XDP off\n"), "bpf: failed\nnet: XDP off\n");
    }
}
