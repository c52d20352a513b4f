//! A real name server that is only responsible for `example.org`.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::lab::{netns::Netns, process::Process};

/// Address of `www.example.org`.
pub const WWW: &str = "192.0.2.77";
/// Length of each text of `long.example.org`, whose texts do not fit a datagram without EDNS.
pub const LONG: usize = 200;
const TEXTS: usize = 4;

/// Starts the name server in `netns`, at all addresses. It answers for `www.example.org`, the texts of
/// `long.example.org`, and `server.example.org`, whose text is the namespace's name. It reports all other names in
/// `example.org` as missing, and refuses names outside.
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

/// Path of the dnsmasq that set-up unpacked below `target/tools`.
fn binary() -> Result<PathBuf> {
    let path = crate::workspace().join("target/tools/dnsmasq/run/dnsmasq");
    ensure!(path.exists(), "there is no dnsmasq: run `cargo xtask setup`");
    Ok(path)
}
