//! Renders the use of translated flows.

use super::shaded;
use crate::{
    cli::table::{Cell, Shade, Table},
    control::status::NatStatus,
};

/// Percentage of ports in use from which the number is highlighted: the backend should then have another source
/// address, or more ports.
const MANY: u64 = 75;

/// The used ports of each backend and source, and the number of translated flows; empty if nothing is translated.
pub(super) fn nat(nat: Option<&NatStatus>, colour: bool) -> String {
    let Some(NatStatus { flows, room, ports }) = nat else { return String::new() };
    let mut rows = Table::new(colour, ["TRANSLATED", "FROM", "PORTS USED", "OF", "HALF OPEN", "CLOSED"]);
    for port in ports {
        let many = u64::from(port.used) * 100 >= u64::from(port.of) * MANY;
        let used = port.used.to_string();
        rows.row([
            Cell::from(port.backend.as_deref().unwrap_or("-")),
            Cell::from(port.source.as_deref().unwrap_or("-")),
            if many { shaded(&used, Shade::Yellow) } else { Cell::from(used) },
            Cell::from(port.of),
            Cell::from(format!("{} %", port.half_open_percent)),
            Cell::from(port.closed),
        ]);
    }
    format!("{}translated flows: {flows}, room for {room}\n", rows.finish())
}
