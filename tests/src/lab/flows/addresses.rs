//! Additional addresses of a client, and with them additional ports.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::Result;

use crate::lab::{Lab, topology::CLIENTS};

/// Gives the client `count` additional addresses of each family, at most 64; returns the addresses.
pub fn add(lab: &Lab, client: &str, count: u8) -> Result<Vec<IpAddr>> {
    let index = CLIENTS.iter().position(|name| *name == client).unwrap_or_default();
    let first = 64 + 64 * u8::try_from(index)?;
    let hosts = first..first + count.min(64);
    let v4 = hosts.clone().map(|host| IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)));
    let v6 = hosts.map(|host| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, u16::from(host))));
    let addresses: Vec<_> = v4.chain(v6).collect();
    let mut lines = String::new();
    for address in &addresses {
        let (length, more) = if address.is_ipv4() { (24, "") } else { (64, " nodad") };
        writeln!(lines, "addr add {address}/{length} dev eth0{more}")?;
    }
    lab.netns(client).ip(&lines)?;
    Ok(addresses)
}
