//! The host as far as the configuration depends on it, as `check --host` judges it, and the drivers of its interfaces.

use super::Checked;
use crate::{net::AttachedXdp, preflight::Finding};

#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) interfaces: Vec<Interface>,
    /// The findings of the preflight; why there are none; or absent, if nothing is configured.
    pub(crate) findings: Option<Result<Vec<Finding>, String>>,
}

/// An interface of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// The name of the driver; absent if it has none, or can't be asked.
    pub(crate) driver: Option<String>,
    pub(crate) xdp: Option<AttachedXdp>,
    /// Whether the configuration asks for generic mode.
    pub(crate) generic: bool,
}

impl Host {
    pub(super) fn check(&self) -> Checked {
        let interfaces = self.interfaces.iter().map(|Interface { name, driver, xdp, .. }| {
            let mode = match xdp {
                Some(AttachedXdp { generic: true, .. }) => "generic mode",
                Some(AttachedXdp { generic: false, .. }) => "native mode",
                None => "no program",
            };
            format!("{name} ({}, {mode})", driver.as_deref().unwrap_or("no driver"))
        });
        let interfaces: Vec<_> = interfaces.collect();
        let seen = if interfaces.is_empty() { "no interface is configured".to_owned() } else { interfaces.join(", ") };
        let mut check = Checked::new("host", seen);
        for Interface { name, xdp, generic, .. } in &self.interfaces {
            if xdp.is_some_and(|xdp| xdp.generic) {
                let message = format!("the program on {name} runs in generic mode, at several times its cost");
                let remedy = if *generic {
                    "mode = \"native\" if the driver can do it, then edge-ctl reload"
                } else {
                    "edge-ctl detach, then start the daemon: an interface's mode can't be changed in place"
                };
                check.warn(message, remedy);
            }
        }
        match &self.findings {
            Some(Ok(findings)) => check.findings.extend(findings.iter().cloned()),
            Some(Err(why)) => check.warn(format!("it can't be examined: {why}"), "run `edge-ctl doctor` as root"),
            None => {}
        }
        check.findings.sort();
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Severity;

    #[test]
    fn the_findings_of_the_preflight_and_of_the_driver() {
        let interface = |generic| Interface {
            name: "eth0".to_owned(),
            driver: Some("ixgbe".to_owned()),
            xdp: Some(AttachedXdp { program: 7, generic }),
            generic: false,
        };
        let finding = Finding {
            severity: Severity::Error,
            subject: "service web".to_owned(),
            message: "no route".to_owned(),
            remedy: "a route".to_owned(),
        };
        let host = |generic, findings| Host { interfaces: vec![interface(generic)], findings }.check();
        assert_eq!(host(false, Some(Ok(Vec::new()))).seen, "eth0 (ixgbe, native mode)");
        assert!(host(false, None).findings.is_empty());
        let both = host(true, Some(Ok(vec![finding])));
        assert_eq!((both.findings.len(), both.findings[0].severity), (2, Severity::Error));
        assert_eq!(host(false, Some(Err("not permitted".to_owned()))).findings.len(), 1);
    }
}
