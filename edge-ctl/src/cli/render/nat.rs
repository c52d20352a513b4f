//! Translated flows.

use super::shaded;
use crate::{
    cli::table::{Cell, Shade, Table},
    control::status::NatStatus,
};

/// In percent of all ports: who has more in use should have another source address, or more ports.
const MANY: u64 = 75;

/// How full the table is, and who uses which ports; empty where nothing is translated.
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
