//! Versions: this executable, the running daemon, the attached program and the pinned maps.

use super::Checked;

#[derive(Clone, Debug, Default)]
pub(crate) struct Versions {
    /// Version of this executable, and of the layout of its maps.
    pub(crate) own: String,
    pub(crate) abi: u32,
    /// Version of the daemon; absent if none answers.
    pub(crate) daemon: Option<String>,
    /// Whether the daemon's executable was replaced since it started; absent if that can't be read.
    pub(crate) replaced: Option<bool>,
    /// Why the daemon's program is not loaded.
    pub(crate) program: Option<String>,
    /// Whether an older program is still attached while the daemon's is loaded.
    pub(crate) loading: bool,
    /// Whether maps of this layout are pinned.
    pub(crate) pinned: bool,
    /// Directories of pins of other layouts.
    pub(crate) others: Vec<String>,
}

impl Versions {
    pub(super) fn check(&self) -> Checked {
        let daemon = self.daemon.as_ref().map_or("no daemon".to_owned(), |version| format!("daemon {version}"));
        let maps = if self.pinned { format!("maps v{}", self.abi) } else { "no maps".to_owned() };
        let mut check = Checked::new("versions", format!("edge-ctl {}, {daemon}, {maps}", self.own));
        if let Some(daemon) = self.daemon.as_ref().filter(|daemon| **daemon != self.own) {
            check.warn(format!("the daemon is of version {daemon}, this edge-ctl of {}", self.own), "edge-ctl upgrade");
        } else if self.replaced == Some(true) {
            check.warn("the daemon runs an executable that was replaced or removed since", "edge-ctl upgrade");
        }
        if let Some(why) = &self.program {
            let first = why.lines().next().unwrap_or_default();
            let message = format!("this version's program is not loaded, and the attached one goes on: {first}");
            check.fail(message, "edge-ctl status has all of the reason; the daemon tries it again");
        } else if self.loading {
            check.warn("this version's program is still being loaded", "wait some seconds, and look again");
        }
        let others = self.others.join(", ");
        if !self.pinned && !self.others.is_empty() {
            let message = format!("there are only maps of another version: {others}");
            check.fail(message, "edge-ctl upgrade, or start the daemon: it carries their state over");
        } else if !self.others.is_empty() {
            let message = format!("maps of another version are pinned as well: {others}");
            check.warn(message, "the daemon removes them when this generation is good; `edge-ctl status` shows that");
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::Severity;

    #[test]
    fn what_is_wrong_with_versions() {
        use Severity::{Error, Warning};
        let good = || Versions {
            own: "2.0.0".to_owned(),
            abi: 7,
            daemon: Some("2.0.0".to_owned()),
            replaced: Some(false),
            pinned: true,
            ..Versions::default()
        };
        assert_eq!(good().check().seen, "edge-ctl 2.0.0, daemon 2.0.0, maps v7");
        let others = || vec!["/sys/fs/bpf/edge/v6".to_owned()];
        for (versions, expected) in [
            (good(), &[][..]),
            (Versions { daemon: None, replaced: None, ..good() }, &[]),
            (Versions { daemon: Some("1.0.0".to_owned()), ..good() }, &[Warning]),
            (Versions { replaced: Some(true), ..good() }, &[Warning]),
            (Versions { program: Some("refused\nby the verifier".to_owned()), ..good() }, &[Error]),
            (Versions { loading: true, ..good() }, &[Warning]),
            (Versions { others: others(), ..good() }, &[Warning]),
            (Versions { others: others(), pinned: false, ..good() }, &[Error]),
        ] {
            let severities: Vec<_> = versions.check().findings.iter().map(|finding| finding.severity).collect();
            assert_eq!(severities, expected, "{versions:?}");
        }
    }
}
