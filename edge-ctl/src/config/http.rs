//! `[http]`: where the status page and the metrics are served, read only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{
    problems::{Problems, Read},
    schema::HTTP,
    services::ServiceDraft,
    values::{self, Entry, Wrong},
    walk::{Located, Table},
};

/// Reachable from this host only.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

const LISTEN: &str = "listen = \"127.0.0.1:9180\"";

/// `None` if the file has no `[http]`.
pub(super) fn read(root: &Table<'_>) -> Read<Option<Located<SocketAddr>>> {
    let Some(table) = root.table("http", &HTTP)? else { return Ok(None) };
    let listen = table.optional("listen", listen)?;
    Ok(Some(listen.unwrap_or(Located { value: DEFAULT, at: table.at })))
}

fn listen(entry: &Entry<'_>) -> Result<SocketAddr, Wrong> {
    let text = entry.string(LISTEN)?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        let why = match text.parse::<IpAddr>() {
            Ok(_) => "which lacks a port",
            Err(_) => "which is not an IP address with a port",
        };
        return Err(entry.wrong(why, LISTEN));
    };
    let is_ours = address.ip().is_loopback() || address.ip().is_unspecified();
    match values::unfit(address.ip()) {
        Some(why) if !is_ours => Err(entry.wrong(why, LISTEN)),
        _ if address.port() == 0 => Err(entry.wrong("which lacks a port", LISTEN)),
        _ => Ok(address),
    }
}

/// A VIP's packets go to backends, and not to this host.
pub(super) fn check(problems: &Problems<'_>, listen: &Located<SocketAddr>, services: &[ServiceDraft]) {
    let vip = services.iter().flat_map(ServiceDraft::vips).find(|vip| vip.value == listen.value.ip());
    if let Some(vip) = vip {
        let what = format!(
            "`listen` is at {}, the VIP on line {}: packets to this address go to backends",
            vip.value,
            problems.line(vip.at)
        );
        problems.add(listen.at, what, "an address of this host that is no VIP");
    }
}
