//! A program as health check: it passes if it exits with 0, and otherwise prints the reason.

use std::net::IpAddr;

use super::super::{
    child,
    classify::{Stage, classify},
};
use crate::health::Verdict;

/// Descriptors of a child while it starts: both ends of its standard output and error, its handle, the pipe that reports
/// whether it started, and its input.
pub(super) const DESCRIPTORS: u32 = 8;

pub(super) async fn look(address: IpAddr, port: u16, argv: &[String], user: &str) -> Result<(), Verdict> {
    let mut command = child::command(argv, user).map_err(Verdict::Inconclusive)?;
    command.env("EDGE_ADDRESS", address.to_string()).env("EDGE_PORT", port.to_string());
    let started = command.spawn().map_err(|error| {
        // A command that can't be started is no evidence about the backend.
        let program = argv.first().map_or("", String::as_str);
        Verdict::Inconclusive(format!("{program} does not start: {}", child::reason(&error)))
    })?;
    let outcome = child::outcome(started).await.map_err(|error| classify(&error, Stage::Local))?;
    outcome.failure().map_or(Ok(()), |why| Err(Verdict::Fail(format!("command {why}"))))
}
