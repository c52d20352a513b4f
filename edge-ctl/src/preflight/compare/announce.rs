//! Checks that the kernel answers for the VIPs that are announced on an interface.

use std::net::{IpAddr, Ipv4Addr};

use super::{Findings, Host};
use crate::{config::Service, preflight::of_interface};

/// Settings of `arp_ignore` with which the kernel answers only for addresses in the sender's network, and not at all.
const IN_NETWORK: i64 = 2;
const NEVER: i64 = 8;

/// Checks the VIPs of a service that the daemon adds to `interface`.
pub(super) fn announced(findings: &mut Findings, service: &Service, interface: &str, host: &Host) {
    let subject = format!("service {}", service.name);
    let v4 = service.vips.iter().find_map(|vip| match vip {
        IpAddr::V4(vip) => Some(*vip),
        IpAddr::V6(_) => None,
    });
    if let Some(vip) = v4 {
        arp(findings, &subject, vip, interface, host);
    }
    let outside = service.vips.iter().find_map(|vip| match vip {
        IpAddr::V4(vip) => (!is_in_network(*vip, interface, host)).then_some(*vip),
        IpAddr::V6(_) => None,
    });
    if let (Some(vip), (name, IN_NETWORK)) = (outside, arp_ignore(interface, host)) {
        let message =
            format!("{name} is 2: the kernel answers ARP requests only for networks of {interface}, not for {vip}");
        findings.fail(&subject, message, format!("sysctl -w {name}=1"));
    }
    let name = of_interface("ipv6", interface, "disable_ipv6");
    if let Some(vip) = service.vips.iter().find(|vip| vip.is_ipv6())
        && host.sysctls.get(&name).is_some_and(|value| *value != 0)
    {
        let message = format!("{name} is 1: {interface} can't have the address {vip}");
        findings.fail(&subject, message, format!("sysctl -w {name}=0"));
    }
}

fn arp(findings: &mut Findings, subject: &str, vip: Ipv4Addr, interface: &str, host: &Host) {
    if let (name, NEVER) = arp_ignore(interface, host) {
        let message = format!("{name} is 8: the kernel answers no ARP request for {vip}");
        findings.fail(subject, message, format!("sysctl -w {name}=1"));
    }
    if host.network.interfaces.get(interface).is_some_and(|found| found.no_arp) {
        let message = format!("{interface} does no ARP: the kernel answers no request for {vip}");
        findings.fail(subject, message, format!("ip link set {interface} arp on"));
    }
}

/// The setting of `arp_ignore` that applies to an interface, which is the larger one of two, and its name.
fn arp_ignore(interface: &str, host: &Host) -> (String, i64) {
    let value = |name: String| {
        let value = host.sysctls.get(&name).copied().unwrap_or_default();
        (name, value)
    };
    let [all, own] = ["all", interface].map(|name| value(of_interface("ipv4", name, "arp_ignore")));
    if all.1 >= own.1 { all } else { own }
}

/// Whether the interface has another address in a network with this one, so that a neighbour can be in it as well.
fn is_in_network(vip: Ipv4Addr, interface: &str, host: &Host) -> bool {
    let Some(found) = host.network.interfaces.get(interface) else { return true };
    found.networks.iter().any(|(address, length)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
        *length < 32 && u32::from(*address) & mask == u32::from(vip) & mask
    })
}
