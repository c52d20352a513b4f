//! Backends that a client can tell apart as soon as a connection stands: each announces an MSS of its own.
//!
//! A connection that breaks before its first answer would else be nobody's, and a test would have to excuse it as soon as
//! any backend died.

use std::os::fd::AsFd;

use anyhow::Result;
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};

use crate::lab::{
    Lab,
    topology::{Backend, Family},
};

/// The MSS that the first backend announces; the others one more each. Together with any tunnel it fits into 1,500 bytes.
const FIRST: u32 = 1340;
/// What time stamps take of each segment (RFC 7323): the MSS that a connection uses is without them.
const OPTIONS: u32 = 12;

/// Gives each backend its MSS, on its way to all clients.
pub fn sign(lab: &Lab) -> Result<()> {
    for (backend, mss) in Backend::all().zip(FIRST..) {
        let [v4, v6] = [Family::V4, Family::V6].map(|family| backend.provider.router(family));
        lab.netns(&backend.to_string()).ip(&format!(
            "route replace default via {v4} dev wan advmss {mss}\nroute replace default via {v6} dev wan advmss {mss}\n"
        ))?;
    }
    Ok(())
}

/// Who accepted this connection.
pub fn of(connection: &impl AsFd) -> Option<Backend> {
    let mss = getsockopt(connection, TcpMaxSeg).ok()?;
    let number = (mss + OPTIONS).checked_sub(FIRST)?;
    Backend::all().nth(number as usize)
}
