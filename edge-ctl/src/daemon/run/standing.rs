//! Notifications to the service manager each second: a sign of life, readiness, and the daemon's condition in one line.

use std::time::Duration;

use edge_common::abi::State;

use super::Daemon;
use crate::{control::events::unix_ms, daemon::controller::Controller};

/// The daemon reports readiness after this time in any case: it serves, whatever keeps its program from being loaded.
const LONGEST_START: Duration = Duration::from_secs(30);

impl Daemon {
    /// Sends the notifications. The loop calls this each second: a loop that hangs sends no sign of life.
    pub(super) fn notify_manager(&mut self) {
        self.notify.alive();
        let standing = self.standing();
        self.notify.status(standing);
        let since_start = Duration::from_millis(unix_ms().saturating_sub(self.started));
        if !self.program.is_pending() || since_start >= LONGEST_START {
            self.notify.ready();
        }
    }

    /// The daemon's condition in one line, the worst fault first.
    fn standing(&self) -> String {
        let Controller { inventory, plane, .. } = &self.controller;
        let fault = if self.program.is_pending() {
            Some("the program is being loaded".to_owned())
        } else if let Some(why) = self.program.why_not() {
            Some(format!("NOT LOADED: {why}"))
        } else if let Some(interface) = self.program.missing_on() {
            Some(format!("NOT ATTACHED to {interface}"))
        } else {
            self.refused.as_ref().map(|why| format!("REFUSED: {}", why.lines().next().unwrap_or_default()))
        };
        let numbers = inventory.members().map(|member| plane.state(member.number));
        let (mut up, mut all) = (0_u32, 0_u32);
        for state in numbers {
            all += 1;
            up += u32::from(state.has_all(State::UP));
        }
        let summary = format!("{}; {up} of {all} backends up", self.controller.summary());
        fault.map_or(summary.clone(), |fault| format!("{fault}; {summary}"))
    }
}
