//! VIPs: those that the daemon announces must be addresses of their interfaces.

use std::{collections::BTreeSet, net::IpAddr};

use super::Checked;
use crate::{control::few, net::Announced};

/// Most names in a finding.
const NAMED: usize = 3;

#[derive(Clone, Debug, Default)]
pub(crate) struct Vips {
    /// All VIPs.
    pub(crate) all: BTreeSet<IpAddr>,
    pub(crate) announced: Vec<Announced>,
    /// Addresses of this host; absent if they can't be read.
    pub(crate) own: Option<BTreeSet<IpAddr>>,
    /// Whether a daemon runs, which announces them.
    pub(crate) daemon: bool,
}

impl Vips {
    pub(super) fn check(&self) -> Checked {
        let seen = format!("{} VIPs, {} of them announced", self.all.len(), self.announced.len());
        let mut check = Checked::new("vips", seen);
        let Some(own) = &self.own else { return check };
        let missing: Vec<_> = self.announced.iter().filter(|one| !own.contains(&one.vip)).collect();
        let names: Vec<_> = missing.iter().map(|one| format!("{} on {}", one.vip, one.interface)).collect();
        if self.daemon && !missing.is_empty() {
            check.fail(
                format!("this host does not have VIPs that it is to announce: {}", few(&names, NAMED)),
                "edge-ctl events shows why; the daemon adds them again each second",
            );
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announced_vip_is_an_address_of_the_host() {
        let vip: IpAddr = "192.0.2.10".parse().unwrap();
        let announced = || vec![Announced { vip, interface: "eth0".to_owned() }];
        let found = |own: &[IpAddr], daemon| {
            let own = Some(own.iter().copied().collect());
            Vips { all: [vip].into(), announced: announced(), own, daemon }.check().findings.len()
        };
        assert_eq!((found(&[vip], true), found(&[], true), found(&[], false)), (0, 1, 0));
        assert_eq!(Vips { announced: announced(), daemon: true, ..Vips::default() }.check().findings, []);
    }
}
