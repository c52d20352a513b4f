//! Removal of announced addresses, links, programs and maps.

use std::collections::HashSet;

use tracing::warn;

use super::{chain, operations::Outcome};
use crate::{
    bpf::PinDir,
    config::{Announce, Config},
    net::{self, Announced, NetError},
    xdp::{self, XdpError},
};

/// VIPs that are to be announced by the configuration, each once.
pub(crate) fn announced(config: &Config) -> Vec<Announced> {
    let (mut announced, mut known) = (Vec::new(), HashSet::new());
    for service in &config.services {
        if let Announce::L2 { interface } = &service.announce {
            let all = service.vips.iter().map(|&vip| Announced { vip, interface: interface.clone() });
            announced.extend(all.filter(|one| known.insert(one.vip)));
        }
    }
    announced
}

/// Removes announced VIPs from their interfaces, and returns a text for each.
pub(crate) async fn withdraw(vips: &[Announced], warnings: &mut Vec<String>) -> Vec<String> {
    let taken: Result<_, NetError> = net::withdraw(vips).await;
    match taken {
        Ok(taken) => taken.iter().map(|one| format!("{} from {}", one.vip, one.interface)).collect(),
        Err(error) => {
            warn!(%error, "announced VIPs could not be withdrawn");
            warnings.push(format!("announced VIPs stay on their interfaces: {}", chain(&error)));
            Vec::new()
        }
    }
}

/// Removes everything: announced addresses, links, programs and maps.
pub(crate) async fn detach(pins: &PinDir, vips: &[Announced], mut warnings: Vec<String>) -> Result<Outcome, XdpError> {
    // The address goes first: a client without an answer is better off than one whose packets reach no program.
    let withdrawn = withdraw(vips, &mut warnings).await;
    let interfaces = xdp::detach_all(pins)?;
    let mut message = match &interfaces[..] {
        [] => "nothing was attached; the pinned maps are removed".to_owned(),
        interfaces => format!("detached from {}; the pinned maps are removed", interfaces.join(", ")),
    };
    if !withdrawn.is_empty() {
        message = format!("{message}; withdrawn: {}", withdrawn.join(", "));
    }
    Ok(Outcome { changed: true, message, warnings })
}
