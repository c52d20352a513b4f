//! Host VIPs: stored in the index and preserved by publications.

use std::{collections::BTreeMap, net::IpAddr};

use super::*;

fn host(pinned: &PinnedMaps) -> Vec<IpAddr> {
    super::super::vips::of_host(&pinned.maps).into_iter().collect()
}

#[test]
fn they_change_and_outlive_a_publication_and_a_restart() {
    let bpffs = Bpffs::mount();
    let mut pinned = started(&bpffs.pins(), &config());
    let vip = config().services[0].vips[0];
    assert_eq!(host(&pinned), [] as [IpAddr; 0], "none before any is known");
    let no_vip: IpAddr = "198.51.100.99".parse().expect("an address");
    pinned.set_host_vips(&BTreeMap::from([(vip, true), (no_vip, true)]));
    assert_eq!(host(&pinned), [vip]);
    pinned.publish(&plan(&pinned, &config())).expect("published");
    assert_eq!(host(&pinned), [vip], "after a publication");

    let mut successor = reopened(&bpffs.pins());
    successor.publish(&plan(&successor, &config())).expect("published");
    assert_eq!(host(&successor), [vip], "a successor carries on what it finds");
    successor.set_host_vips(&BTreeMap::new());
    assert_eq!(host(&successor), [vip], "nothing is reported");
    successor.set_host_vips(&BTreeMap::from([(vip, false)]));
    assert_eq!(host(&successor), [] as [IpAddr; 0]);
    successor.publish(&plan(&successor, &config())).expect("published");
    assert_eq!(host(&successor), [] as [IpAddr; 0]);
}
