//! A command that is told of an event: as JSON on its standard input, and by variables.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;

use super::Message;
use crate::probe::child;

/// Runs the command as `user`. It is killed, with the processes that it has started, when the future is dropped.
///
/// # Errors
/// If the command does not start, or does not end with 0; with the beginning of its output.
pub(super) async fn run(argv: &[String], user: &str, message: &Message<'_>, text: &str) -> Result<(), String> {
    let mut command = child::command(argv, user)?;
    let event = message.event;
    command.env("EDGE_EVENT", event.kind.name()).env("EDGE_SEVERITY", message.severity).env("EDGE_HOST", message.host);
    // No argument and no variable of a process has a zero byte.
    let plain = |text: &str| text.replace('\0', " ");
    command.env("EDGE_SUBJECT", plain(&event.subject)).env("EDGE_MESSAGE", plain(&event.message));
    command.env("EDGE_AT", event.at.to_string()).env("EDGE_SERVICES", plain(&event.services.join(" ")));
    command.stdin(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| format!("the command does not start: {}", child::reason(&error)))?;
    let input = child.stdin.take();
    let written = async {
        if let Some(mut input) = input {
            // A command that does not read its input is no failure.
            let _unread = input.write_all(format!("{text}\n").as_bytes()).await;
        }
    };
    let (outcome, ()) = tokio::join!(child::outcome(child), written);
    let outcome = outcome.map_err(|error| format!("the command can't be waited for: {error}"))?;
    outcome.failure().map_or(Ok(()), |why| Err(format!("the command {why}")))
}
