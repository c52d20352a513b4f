//! Rates of traffic as cells of a table.

use super::Cell;
use crate::control::{short, status::TrafficStatus};

/// Packets, bits and flows per second.
pub(in crate::cli) fn rates(traffic: &TrafficStatus) -> [Cell; 3] {
    let cell = |text: String| Cell::from(text);
    match traffic.rates {
        Some(rates) => [cell(short(rates.packets)), cell(short(rates.bytes * 8.0)), cell(short(rates.flows))],
        None => [cell("-".to_owned()), cell("-".to_owned()), cell("-".to_owned())],
    }
}
