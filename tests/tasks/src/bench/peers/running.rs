//! A running load balancer: its start, the proof that it carries the traffic, and its end.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use edge_tests::lab::{
    self, Lab,
    netns::Netns,
    process::Process,
    tool,
    topology::{Backend, CLIENTS, EDGE, HTTP, Provider},
};

use super::{
    contender::{Contender, VIP},
    tools::Tools,
};

/// Network of the clients, and the balancer's address in the backends' network.
const CLIENTS_NET: &str = "10.0.0.0/24";
const GATEWAY: &str = "10.0.1.1";

/// A running load balancer; the lab has room for one at a time.
#[derive(Debug)]
pub(super) struct Running {
    contender: Contender,
    process: Option<Process>,
}

impl Running {
    /// Starts the load balancer; returns once it answers for the backends.
    pub(super) fn start(lab: &mut Lab, contender: Contender, tools: &Tools) -> Result<Self> {
        let mut running = Self { contender, process: None };
        match contender {
            Contender::EdgeDsr | Contender::EdgeIpip | Contender::EdgeNat => {
                if contender == Contender::EdgeIpip {
                    lab.decapsulate(&tools.edge_ctl)?;
                }
                lab.install_edge(&tools.edge_ctl, &contender.text())?;
                lab.wait_for_health(|_| "up")?;
            }
            Contender::NftNumgen | Contender::NftMasquerade => {
                running.process = Some(nftables(lab, contender, "numgen inc")?);
            }
            Contender::NftJhash => running.process = Some(nftables(lab, contender, "jhash ip saddr . tcp sport")?),
            Contender::HaProxy | Contender::Nginx => running.process = Some(proxy(lab, contender, tools)?),
            Contender::Direct => (),
        }
        for target in running.targets() {
            for client in CLIENTS {
                let answers = lab::wait_until(Duration::from_secs(5), || connects(lab.netns(client), target))?;
                ensure!(answers, "{target} does not answer {client}{}", logged(lab, contender));
            }
        }
        Ok(running)
    }

    /// Addresses that clients connect to: one address or, without a balancer, that of each backend.
    pub(super) fn targets(&self) -> Vec<SocketAddr> {
        if self.contender.balances() {
            vec![SocketAddr::new(VIP.parse().expect("this is an address"), HTTP)]
        } else {
            self.contender.addresses().into_iter().map(|address| SocketAddr::new(address, HTTP)).collect()
        }
    }

    /// Traffic carried since the start: packets for an edge, connections for the others.
    pub(super) fn carried(&self, lab: &Lab) -> Result<u64> {
        let count = match self.contender {
            Contender::EdgeDsr | Contender::EdgeIpip | Contender::EdgeNat => {
                lab.status()?["services"][0]["traffic"]["packets"].as_u64()
            }
            Contender::NftNumgen | Contender::NftJhash | Contender::NftMasquerade => {
                let list = tool::run(lab.netns(EDGE).command("nft")?.args(["-j", "list", "counters"]))?;
                let list: serde_json::Value = serde_json::from_str(&list)?;
                let of = |item: &serde_json::Value| item["counter"]["packets"].as_u64();
                list["nftables"].as_array().and_then(|items| items.iter().find_map(of))
            }
            Contender::HaProxy | Contender::Nginx => {
                // The thread's own file, since `/proc/net` is that of the process.
                let snmp = lab.netns(EDGE).within(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))??;
                tcp_counter(&snmp, "PassiveOpens")
            }
            Contender::Direct => Some(0),
        };
        count.with_context(|| format!("{} does not count what it carries", self.contender.name()))
    }

    /// Checks that `carried` fits the `connections` that clients made meanwhile.
    ///
    /// # Errors
    /// If most connections bypassed the load balancer.
    pub(super) fn has_carried(&self, carried: u64, connections: u64) -> Result<()> {
        // An edge receives at least six packets per connection: SYN, its ACK, the request, the answer's ACK, FIN, an
        // ACK.
        let each = if self.contender.is_xdp() { 4 } else { 1 };
        let enough = !self.contender.balances() || carried * 10 >= connections * each * 9;
        ensure!(enough, "it carried {carried}, but clients made {connections} connections");
        Ok(())
    }

    /// Stops the load balancer, and restores the lab.
    pub(super) fn stop(self, lab: &mut Lab, tools: &Tools) -> Result<()> {
        if let Some(process) = self.process {
            process.kill()?;
        }
        let edge = lab.netns(EDGE);
        match self.contender {
            Contender::EdgeDsr | Contender::EdgeIpip | Contender::EdgeNat => {
                lab.remove_edge()?;
                if self.contender == Contender::EdgeIpip {
                    lab.stop_decapsulating(&tools.edge_ctl)?;
                }
            }
            Contender::NftNumgen | Contender::NftJhash | Contender::NftMasquerade => {
                tool::run(edge.command("nft")?.args(["delete", "table", "ip", "balancer"]))?;
                if is_answered_itself(self.contender) {
                    return Ok(());
                }
                for backend in Backend::of(Provider::A) {
                    lab.netns(&backend.to_string()).ip(&format!("route del {CLIENTS_NET} via {GATEWAY} dev lan"))?;
                }
            }
            Contender::HaProxy | Contender::Nginx => edge.ip(&format!("addr del {VIP}/32 dev lo"))?,
            Contender::Direct => (),
        }
        Ok(())
    }
}

/// Whether backends answer to the balancer, so that they need no route through it.
fn is_answered_itself(contender: Contender) -> bool {
    contender == Contender::NftMasquerade
}

/// Loads the rules, and starts the script that checks the backends.
fn nftables(lab: &Lab, contender: Contender, choose: &str) -> Result<Process> {
    for backend in Backend::of(Provider::A).filter(|_| !is_answered_itself(contender)) {
        lab.netns(&backend.to_string()).ip(&format!("route add {CLIENTS_NET} via {GATEWAY} dev lan"))?;
    }
    let edge = lab.netns(EDGE);
    tool::run_with_input(edge.command("nft")?.args(["-f", "-"]), &contender.text())?;
    // With the default, each connection stays in the table for two minutes after its end, and the machine's table is
    // full within seconds.
    edge.set("netfilter/nf_conntrack_tcp_timeout_time_wait", "10")?;
    let mut check = contained(edge, Path::new("sh"))?;
    check.args(["-c", include_str!("nft-check.sh"), "nft-check.sh", choose, VIP]);
    check.args(contender.addresses().iter().map(ToString::to_string));
    // Its temporary files are deleted with the lab.
    check.env("TMPDIR", lab.dir());
    Process::start("nft-check.sh", &mut check, &log(lab, contender))
}

fn proxy(lab: &Lab, contender: Contender, tools: &Tools) -> Result<Process> {
    let edge = lab.netns(EDGE);
    edge.ip(&format!("addr add {VIP}/32 dev lo"))?;
    let dir = lab.dir().join(EDGE);
    std::fs::create_dir_all(&dir)?;
    let file = dir.join(contender.configuration().context("a proxy has a configuration")?);
    std::fs::write(&file, contender.text())?;
    let mut command = if contender == Contender::HaProxy {
        let mut haproxy = contained(edge, &tools.haproxy)?;
        haproxy.args(["-db", "-f"]).arg(&file);
        haproxy
    } else {
        let mut nginx = contained(edge, &tools.nginx)?;
        let here = format!("daemon off; pid {}/nginx.pid; load_module {};", dir.display(), tools.stream.display());
        nginx.arg("-p").arg(&dir).arg("-e").arg(dir.join("error.log")).arg("-c").arg(&file).args(["-g", &here]);
        nginx
    };
    Process::start(contender.name(), &mut command, &log(lab, contender))
}

/// A command in `netns` whose children end with it, even if it is killed.
fn contained(netns: &Netns, program: &Path) -> Result<Command> {
    let mut command = netns.command("unshare")?;
    command.args(["--pid", "--fork", "--kill-child", "--"]).arg(program);
    Ok(command)
}

fn log(lab: &Lab, contender: Contender) -> PathBuf {
    lab.dir().join(format!("{contender:?}.log"))
}

/// The log of a load balancer, for a message about its failure.
fn logged(lab: &Lab, contender: Contender) -> String {
    let text = std::fs::read_to_string(log(lab, contender)).unwrap_or_default();
    if text.is_empty() { text } else { format!(":\n{}", text.trim()) }
}

fn connects(netns: &Netns, address: SocketAddr) -> Result<bool> {
    netns.within(|| TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok())
}

/// A counter of TCP in one namespace, in the kernel's format: a line with names, then a line with values.
fn tcp_counter(snmp: &str, name: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    names.split(' ').zip(values.split(' ')).find(|(found, _)| *found == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_found_by_its_name() {
        let snmp = "Ip: Forwarding\nIp: 1\nTcp: RtoMin ActiveOpens PassiveOpens\nTcp: 200 7 42\n";
        assert_eq!(tcp_counter(snmp, "PassiveOpens"), Some(42));
        assert_eq!(tcp_counter(snmp, "Sorrows"), None);
    }
}
