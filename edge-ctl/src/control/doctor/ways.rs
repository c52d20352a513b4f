//! The way to each backend: its next hop, and the MTU of its path.

use super::Checked;
use crate::control::few;

/// Most names in a finding.
const NAMED: usize = 3;

#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    pub(crate) backends: Vec<Way>,
    /// Whether a daemon keeps the next hops fresh: without one they are of earlier.
    pub(crate) fresh: bool,
}

/// The way to a backend.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// `POOL/BACKEND`.
    pub(crate) backend: String,
    /// Whether the MAC address of the next hop is known.
    pub(crate) is_resolved: bool,
    /// MTU of the egress interface, bytes of IP packet; absent if it is not known.
    pub(crate) egress_mtu: Option<u32>,
    /// MTU that a router has reported below the egress interface's.
    pub(crate) path_mtu: Option<u16>,
    /// MTU that IPv6 in the tunnel needs, where the path has less.
    pub(crate) needed_mtu: Option<u16>,
}

impl Ways {
    pub(super) fn check(&self) -> Checked {
        let all = self.backends.len();
        let resolved = self.backends.iter().filter(|way| way.is_resolved).count();
        let least = self.backends.iter().filter_map(|way| way.path_mtu.map(u32::from).or(way.egress_mtu)).min();
        let mtu = least.map_or(String::new(), |mtu| format!(", smallest MTU {mtu}"));
        let mut check = Checked::new("ways", format!("{resolved} of {all} backends have a known next hop{mtu}"));
        let names = |is_meant: &dyn Fn(&&Way) -> bool| -> Vec<&str> {
            self.backends.iter().filter(is_meant).map(|way| way.backend.as_str()).collect()
        };
        let unknown = names(&|way| !way.is_resolved);
        if self.fresh && !unknown.is_empty() {
            check.warn(
                format!("the MAC address of the next hop is not known for {}", few(&unknown, NAMED)),
                "ip neigh; ip route get ADDRESS; look at the router or the backend: does it answer ARP?",
            );
        }
        let narrow = names(&|way| way.needed_mtu.is_some());
        if let Some(needed) = self.backends.iter().filter_map(|way| way.needed_mtu).max() {
            check.warn(
                format!("the path is too narrow for IPv6 in the tunnel: {}", few(&narrow, NAMED)),
                format!(
                    "an MTU of {needed} bytes or more on the whole path: ip link set DEV mtu {needed}, and routers"
                ),
            );
        }
        let learnt = names(&|way| way.path_mtu.is_some() && way.needed_mtu.is_none());
        if !learnt.is_empty() {
            check.warn(
                format!("a router has reported a smaller MTU than the egress interface's, for {}", few(&learnt, NAMED)),
                "nothing, if clients receive ICMP; else the MSS limit of `edge-ctl decap --mtu` on the backends",
            );
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_way() {
        let good = || Way {
            backend: "a/a1".to_owned(),
            is_resolved: true,
            egress_mtu: Some(1500),
            path_mtu: None,
            needed_mtu: None,
        };
        let found = |way: Way, fresh| Ways { backends: vec![good(), way], fresh }.check();
        assert_eq!(found(good(), true).seen, "2 of 2 backends have a known next hop, smallest MTU 1500");
        assert_eq!(found(good(), true).findings, []);
        assert_eq!(found(Way { is_resolved: false, ..good() }, true).findings.len(), 1);
        assert_eq!(found(Way { is_resolved: false, ..good() }, false).findings.len(), 0);
        let learnt = found(Way { path_mtu: Some(1400), ..good() }, true);
        assert!(learnt.findings.len() == 1 && learnt.seen.ends_with("smallest MTU 1400"), "{learnt:?}");
        assert_eq!(found(Way { path_mtu: Some(1300), needed_mtu: Some(1320), ..good() }, true).findings.len(), 1);
    }
}
