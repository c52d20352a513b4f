//! Identifies a connection's backend right after the handshake: each backend announces an MSS of its own.
//!
//! Otherwise a connection that breaks before its first answer would have no known backend, and a test would have to
//! excuse it whenever any backend dies.

use std::os::fd::AsFd;

use anyhow::Result;
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

use crate::lab::{
    Lab,
    topology::{Backend, Family},
};

/// The MSS of the first backend; each further backend announces one more. The segments fit into 1,500 bytes with any
/// tunnel.
pub(super) const FIRST: u32 = 1340;
/// Bytes of the time stamp option in each segment (RFC 7323), which a connection's effective MSS excludes.
const OPTIONS: u32 = 12;

/// Sets each backend's MSS on its routes to all clients.
pub fn sign(lab: &Lab) -> Result<()> {
    for (backend, mss) in Backend::all().zip(FIRST..) {
        let [v4, v6] = [Family::V4, Family::V6].map(|family| backend.provider.router(family));
        lab.netns(&backend.to_string()).ip(&format!(
            "route replace default via {v4} dev wan advmss {mss}\nroute replace default via {v6} dev wan advmss {mss}\n"
        ))?;
    }
    Ok(())
}

/// The backend that accepted this connection.
pub fn of(connection: &impl AsFd) -> Option<Backend> {
    let mss = getsockopt(connection, TcpMaxSeg).ok()?;
    let number = (mss + OPTIONS).checked_sub(FIRST)?;
    Backend::all().nth(number as usize)
}
