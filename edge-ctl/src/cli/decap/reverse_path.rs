//! Reverse-path filtering of decapsulated packets, which the kernel applies before the backend sees them.

use std::{fs, net::IpAddr};

use super::DecapArgs;
use crate::{
    net::{self, Destination, SurveyedRoute},
    preflight::of_interface,
};

/// An address that only a default route leads to: answers to most clients go that way.
const ANY_CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(240, 0, 0, 1));

/// Value of `rp_filter` with which the kernel drops packets whose source its routes reach by another interface. With 2,
/// any interface suffices; with 0, packets are not filtered.
const STRICT: u32 = 1;

/// The warning about this host's settings, if any.
pub(super) fn warning(args: &DecapArgs) -> Option<String> {
    // There is no such setting for IPv6, and client and VIP have the same IP version.
    if args.vip.iter().all(|vip| vip.is_ipv6()) {
        return None;
    }
    let read = |name: &str| {
        let value = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).ok()?;
        value.trim().parse().ok()
    };
    let settings = [read("all"), read(&args.interface)];
    if !args.egress.is_empty() {
        return strict(&args.interface, &args.egress, settings);
    }
    let default = default_egress()?;
    let text = strict(&args.interface, std::slice::from_ref(&default), settings)?;
    Some(format!("{text}\n  and give --egress {default}, so that the segment sizes of those answers are lowered, too"))
}

/// The interface of the default route, if there is one and it can be looked up.
fn default_egress() -> Option<String> {
    let any_client = Destination::of(ANY_CLIENT);
    let survey = net::survey(&[any_client].into(), &[]).ok()?;
    match survey.routes.get(&any_client)? {
        SurveyedRoute::Via { egress, .. } => Some(egress.clone()),
        SurveyedRoute::None(_) => None,
    }
}

/// The warning for packets that come to the host by `interface`, and whose answers leave by `egress`. `settings` are the
/// values of `rp_filter` for all interfaces and for this one, where known.
fn strict(interface: &str, egress: &[String], settings: [Option<u32>; 2]) -> Option<String> {
    let others: Vec<_> = egress.iter().filter(|other| *other != interface).map(String::as_str).collect();
    // The kernel goes by the larger of the two.
    if others.is_empty() || settings.into_iter().flatten().max() != Some(STRICT) {
        return None;
    }
    Some(format!(
        "rp_filter is 1 on {interface}, where decapsulated packets come to the host, and answers leave by {}: the kernel \
         drops IPv4 packets of clients to whom its route leads there\n  run: sysctl -w {}=2",
        others.join(", "),
        of_interface("ipv4", interface, "rp_filter"),
    ))
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{decap, in_bpf_lab},
        *,
    };
    use crate::net::lab::sh;

    #[test]
    fn strict_filtering_matters_where_answers_leave_by_another_interface() {
        let warns = |egress: &[&str], settings| {
            let egress: Vec<_> = egress.iter().map(|&name| name.to_owned()).collect();
            strict("eth0.7", &egress, settings).is_some()
        };
        assert!(warns(&["eth1"], [Some(1), Some(0)]));
        assert!(warns(&["eth1"], [Some(0), Some(1)]));
        assert!(warns(&["eth0.7", "eth1"], [None, Some(1)]), "some answers leave by another interface");
        assert!(!warns(&["eth1"], [Some(1), Some(2)]), "the larger value counts, and 2 is satisfied by any route");
        assert!(!warns(&["eth1"], [Some(0), Some(0)]));
        assert!(!warns(&["eth1"], [None, None]), "a kernel without the setting filters nothing");
        assert!(!warns(&[], [Some(1), Some(1)]), "answers leave by the same interface");
        assert!(!warns(&["eth0.7"], [Some(1), Some(1)]));
    }

    #[test]
    fn the_remedy_names_the_setting() {
        let text = strict("eth0.7", &["eth1".to_owned()], [Some(1), None]).unwrap();
        assert!(text.ends_with("run: sysctl -w net.ipv4.conf.eth0/7.rp_filter=2"), "{text}");
    }

    #[test]
    fn decap_warns_by_this_hosts_settings() {
        in_bpf_lab(|_, pins| {
            fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
            for (value, egress, vip, warns) in [
                (1, "lo", "192.0.2.10", true),
                (1, "edge0", "192.0.2.10", false),
                (1, "lo", "2001:db8::10", false),
                (2, "lo", "192.0.2.10", false),
            ] {
                fs::write("/proc/sys/net/ipv4/conf/edge0/rp_filter", value.to_string()).unwrap();
                let line = format!("--interface edge0 --from 10.0.0.2 --vip {vip} --egress {egress}");
                let output = decap(pins, &line).unwrap();
                assert_eq!(output.contains("sysctl -w net.ipv4.conf.edge0.rp_filter=2"), warns, "{line}: {output}");
            }
            fs::write("/proc/sys/net/ipv4/conf/edge0/rp_filter", "1").unwrap();
            let without = || decap(pins, "--interface edge0 --from 10.0.0.2 --vip 192.0.2.10").unwrap();
            assert!(!without().contains("warning"), "no default route: {}", without());
            sh("ip link add other0 type veth peer name other1 && ip link set other0 up && ip link set other1 up");
            for (egress, warns) in [("other0", true), ("edge0", false)] {
                sh(&format!("ip route replace default dev {egress}"));
                assert_eq!(without().contains(&format!("--egress {egress}")), warns, "{}", without());
            }
        });
    }
}
