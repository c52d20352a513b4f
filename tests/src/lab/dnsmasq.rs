//! A real name server, for `example.org` alone.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::lab::{netns::Netns, process::Process};

/// Address of `www.example.org`.
pub const WWW: &str = "192.0.2.77";
/// Texts of `long.example.org`, each of this length: too much for a datagram without EDNS.
pub const LONG: usize = 200;
const TEXTS: usize = 4;

/// Starts it in `netns`, at all addresses. It knows `www.example.org`, the texts of `long.example.org`, and as that of
/// `server.example.org` the name of its namespace; knows that there is nothing else in `example.org`, and refuses to say anything
/// of other names.
pub fn start(netns: &Netns, dir: &Path) -> Result<Process> {
    let mut command = netns.command(&binary()?)?;
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
    command.args(["--pid-file=", "--log-facility=-", "--local=/example.org/"]);
    command.arg(format!("--host-record=www.example.org,{WWW},2001:db8::77"));
    command.arg(format!("--txt-record=server.example.org,{}", netns.name()));
    for number in 0..TEXTS {
        command.arg(format!("--txt-record=long.example.org,{}", number.to_string().repeat(LONG)));
    }
    Process::start("dnsmasq", &mut command, &dir.join("dnsmasq.log"))
}

/// The one that set-up unpacked below `target/tools`.
fn binary() -> Result<PathBuf> {
    let path = crate::workspace().join("target/tools/dnsmasq/run/dnsmasq");
    ensure!(path.exists(), "there is no dnsmasq: run `cargo xtask setup`");
    Ok(path)
}
