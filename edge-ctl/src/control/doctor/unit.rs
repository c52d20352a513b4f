//! The service manager's unit.

use std::collections::BTreeMap;

use super::Checked;

/// The properties that are judged, as of `systemctl show`.
pub(crate) const PROPERTIES: &str =
    "LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,MainPID,NeedDaemonReload";

/// Restarts that are no coincidence.
const MANY: u32 = 3;

#[derive(Clone, Debug)]
pub(crate) enum Unit {
    /// There is no service manager to ask, for this reason.
    Unknown(String),
    Shown(BTreeMap<String, String>),
}

impl Unit {
    pub(super) fn check(&self, daemon: Option<u32>) -> Checked {
        let properties = match self {
            Self::Unknown(why) => return Checked::new("unit", format!("no service manager: {why}")),
            Self::Shown(properties) => properties,
        };
        let value = |key: &str| properties.get(key).map_or("", String::as_str);
        if value("LoadState") == "not-found" {
            let mut check = Checked::new("unit", "edge.service is not installed");
            if daemon.is_some() {
                check.warn("the daemon runs without a unit: nothing starts it again", "install the package");
            }
            return check;
        }
        let seen =
            format!("edge.service: {} ({}), {}", value("ActiveState"), value("SubState"), value("UnitFileState"));
        let mut check = Checked::new("unit", seen);
        let restarts = value("NRestarts").parse().unwrap_or(0_u32);
        let main: Option<u32> = value("MainPID").parse().ok().filter(|pid| *pid > 0);
        match (value("ActiveState"), daemon) {
            ("failed", _) => check.fail(
                format!("it has failed: {}", value("Result")),
                "journalctl -u edge -n 50 shows why; then systemctl restart edge",
            ),
            ("active" | "activating" | "reloading", Some(pid)) if main.is_some_and(|main| main != pid) => check.warn(
                format!("the daemon that answers has the PID {pid}, and is not that of the unit"),
                "stop the one that was started by hand: systemctl restart edge",
            ),
            ("inactive" | "deactivating", Some(_)) => check.warn(
                "the daemon runs beside the unit: nothing starts it again",
                format!("kill {}, then systemctl start edge; the traffic goes on", daemon.unwrap_or_default()),
            ),
            _ => {}
        }
        if restarts >= MANY {
            check.warn(
                format!("it was restarted {restarts} times"),
                "journalctl -u edge shows why; systemctl reset-failed edge resets the count",
            );
        }
        if matches!(value("UnitFileState"), "disabled" | "masked") {
            let message = format!("it is {}: nothing starts after a reboot", value("UnitFileState"));
            let unmask = if value("UnitFileState") == "masked" { "systemctl unmask edge; " } else { "" };
            check.warn(message, format!("{unmask}systemctl enable edge"));
        }
        if value("NeedDaemonReload") == "yes" {
            check.warn("its file has changed since it was read", "systemctl daemon-reload");
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::doctor::properties, preflight::Severity};

    #[test]
    fn what_is_wrong_with_a_unit() {
        use Severity::{Error, Warning};
        let good =
            "LoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nMainPID=7\nNRestarts=0\n";
        for (change, daemon, expected) in [
            (("", ""), Some(7), &[][..]),
            (("MainPID=7", "MainPID=8"), Some(7), &[Warning]),
            (("=active", "=failed"), None, &[Error]),
            (("=active", "=inactive"), Some(7), &[Warning]),
            (("=active", "=inactive"), None, &[]),
            (("enabled", "disabled"), Some(7), &[Warning]),
            (("NRestarts=0", "NRestarts=40"), Some(7), &[Warning]),
            (("LoadState=loaded", "LoadState=not-found"), Some(7), &[Warning]),
            (("LoadState=loaded", "LoadState=not-found"), None, &[]),
            (("MainPID", "NeedDaemonReload=yes\nMainPID"), Some(7), &[Warning]),
        ] {
            let check = Unit::Shown(properties(&good.replace(change.0, change.1))).check(daemon);
            let severities: Vec<_> = check.findings.iter().map(|finding| finding.severity).collect();
            assert_eq!(severities, expected, "{change:?}: {check:?}");
        }
        assert!(Unit::Unknown("no systemctl".to_owned()).check(None).findings.is_empty());
    }
}
