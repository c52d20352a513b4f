//! Tools that examine a path: `iperf3` and `traceroute`, which set-up unpacks below `target/tools`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::lab::{netns::Netns, tool};

/// Port of the iperf3 server.
pub const IPERF3: u16 = 5201;

/// Iperf3's result for datagrams in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagrams {
    pub sent: u64,
    pub lost: u64,
}

/// Path of one of the tools.
pub fn binary(folder: &str, name: &str) -> Result<PathBuf> {
    let path = crate::workspace().join("target/tools").join(folder).join("run").join(name);
    ensure!(path.exists(), "there is no {folder}: run `cargo xtask setup`");
    Ok(path)
}

/// Sends UDP at `bits` a second between `netns` and the server at `to`; the server sends if `reverse` is set.
pub fn iperf3_udp(netns: &Netns, to: &str, bits: u64, lasts: Duration, reverse: bool) -> Result<Datagrams> {
    let mut command = netns.command(binary("iperf3", "iperf3")?)?;
    let (seconds, bits) = (lasts.as_secs().max(1).to_string(), bits.to_string());
    command.args(["--client", to, "--udp", "--bitrate", &bits, "--time", &seconds, "--length", "1200", "--json"]);
    if reverse {
        command.arg("--reverse");
    }
    let report: Value = serde_json::from_str(&tool::run(&mut command)?).context("the report of iperf3")?;
    let sum = &report["end"]["sum"];
    let count = |name: &str| sum[name].as_u64().with_context(|| format!("no {name} in {sum}"));
    Ok(Datagrams { sent: count("packets")?, lost: count("lost_packets")? })
}

/// The hops that a traceroute from `netns` finds, by UDP to `port`; the last hop is `to` if it answers.
pub fn traceroute(netns: &Netns, to: &str, port: u16) -> Result<Vec<String>> {
    let mut command = netns.command(binary("traceroute", "traceroute.db")?)?;
    let port = port.to_string();
    command.args(["-n", "-q", "2", "-w", "2", "-m", "5", "-U", "-p", &port, to]);
    let output = tool::run(&mut command)?;
    let hop = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    Ok(output.lines().skip(1).filter_map(hop).collect())
}
