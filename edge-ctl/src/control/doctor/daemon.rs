//! The daemon, and what it says about itself and about the traffic.

use super::Checked;
use crate::control::{headline::Headline, status::Level};

#[derive(Clone, Debug, Default)]
pub(crate) struct Daemon {
    /// Absent if no daemon answers.
    pub(crate) pid: Option<u32>,
    /// Why no daemon answers, or why the maps can't be read instead.
    pub(crate) why: Option<String>,
    /// Whether maps are pinned, so that packets are forwarded.
    pub(crate) pinned: bool,
    /// The judgement of `status`, if there is a status.
    pub(crate) headline: Option<Headline>,
}

impl Daemon {
    pub(super) fn check(&self) -> Checked {
        let seen = match (self.pid, self.pinned) {
            (Some(pid), _) => format!("it answers, PID {pid}"),
            (None, true) => "it does not answer; packets are forwarded by the last states".to_owned(),
            (None, false) => "it does not answer, and nothing is pinned".to_owned(),
        };
        let mut check = Checked::new("daemon", seen);
        if self.pid.is_none() {
            let why = self.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            let effect = if self.pinned {
                "backends are not probed, and a failure goes unnoticed"
            } else {
                "no packet is forwarded"
            };
            check.fail(format!("{effect}{why}"), "systemctl start edge; journalctl -u edge shows why it stopped");
        }
        match self.headline.as_ref().map(|headline| (headline.level, &headline.text)) {
            // A daemon that does not answer was reported above.
            Some((Level::Warning, _)) if self.pid.is_none() => {}
            Some((Level::Warning, text)) => check.warn(text, "edge-ctl status --trouble; edge-ctl incident --last"),
            Some((Level::Critical, text)) => check.fail(text, "edge-ctl status --trouble; edge-ctl incident --last"),
            Some((Level::Ok, _)) | None => {}
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::doctor::found, preflight::Severity};

    #[test]
    fn a_daemon_that_is_silent_and_what_one_says() {
        let says = |level, pid| {
            let headline = Some(Headline { level, text: "so it is".to_owned() });
            Daemon { pid, why: None, pinned: true, headline }.check()
        };
        assert!(says(Level::Ok, Some(7)).findings.is_empty());
        assert_eq!(found(&says(Level::Warning, Some(7))), [(Severity::Warning, "so it is")]);
        assert_eq!(found(&says(Level::Critical, Some(7))), [(Severity::Error, "so it is")]);
        assert_eq!(says(Level::Warning, None).findings.len(), 1);
        assert_eq!(says(Level::Critical, None).findings.len(), 2);
        let nothing = Daemon { why: Some("no socket".to_owned()), ..Daemon::default() };
        assert_eq!(found(&nothing.check()), [(Severity::Error, "no packet is forwarded: no socket")]);
    }
}
