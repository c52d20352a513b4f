//! veth pairs whose packets XDP programs can work with.
//!
//! A locally sent packet has a partial checksum, which hardware would complete. There is none here: an XDP program sees
//! a wrong checksum, and nothing completes it after encapsulation. With `tx off` the sender completes it.

use std::process::Command;

use anyhow::Result;

use crate::lab::{netns::Netns, tool};

/// One end of a pair: its namespace, and its name there.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub netns: &'a Netns,
    pub name: &'a str,
}

/// Creates a veth pair with one end in each namespace, both up. Deleting either namespace deletes the pair.
pub fn pair(one: End<'_>, other: End<'_>) -> Result<()> {
    let (one_name, other_name) = (one.name, other.name);
    one.netns.ip(&format!("link add {one_name} type veth peer name {other_name} netns {}", other.netns.name()))?;
    for end in [one, other] {
        offload_checksums(end.netns, end.name, false)?;
        end.netns.ip(&format!("link set {} up", end.name))?;
    }
    Ok(())
}

/// Sets whether `device` sends packets without checksums, and segments as large as the sender likes: the kernel's
/// default, which costs least between namespaces.
pub fn offload_checksums(netns: &Netns, device: &str, on: bool) -> Result<()> {
    let mut ethtool: Command = netns.command("ethtool")?;
    tool::run(ethtool.args(["-K", device, "tx", if on { "on" } else { "off" }]))?;
    Ok(())
}
