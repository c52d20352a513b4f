//! veth pairs whose packets XDP programs can work with.
//!
//! A locally sent packet keeps a partial checksum, to be completed by hardware that isn't there: to an XDP program it
//! looks wrong, and after encapsulation nobody completes it. `tx off` makes the sender complete it.

use std::process::Command;

use anyhow::Result;

use crate::lab::{netns::Netns, tool};

/// One end of a pair: the namespace that it lives in, and its name there.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub netns: &'a Netns,
    pub name: &'a str,
}

/// Makes a veth pair with an end in each namespace, both up. The namespaces own it: deleting one deletes the pair.
pub fn pair(one: End<'_>, other: End<'_>) -> Result<()> {
    let (one_name, other_name) = (one.name, other.name);
    one.netns.ip(&format!("link add {one_name} type veth peer name {other_name} netns {}", other.netns.name()))?;
    for end in [one, other] {
        offload_checksums(end.netns, end.name, false)?;
        end.netns.ip(&format!("link set {} up", end.name))?;
    }
    Ok(())
}

/// Whether what `device` sends leaves without checksums, and in segments as large as the sender likes: the kernel's
/// default, which costs least between namespaces.
pub fn offload_checksums(netns: &Netns, device: &str, on: bool) -> Result<()> {
    let mut ethtool: Command = netns.command("ethtool")?;
    tool::run(ethtool.args(["-K", device, "tx", if on { "on" } else { "off" }]))?;
    Ok(())
}
