//! Decapsulation on this host, where it is a tunnel's other end.

use super::Checked;

#[derive(Clone, Debug, Default)]
pub(crate) struct Decap {
    /// Interfaces with pins of a decapsulation, each with what it accepts or why it can't be read.
    pub(crate) interfaces: Vec<(String, Result<String, String>)>,
    /// Why backends are probed at their addresses only, so that a missing decapsulation there is not found.
    pub(crate) unprobed: Option<String>,
}

impl Decap {
    pub(super) fn check(&self) -> Checked {
        let names: Vec<_> = self.interfaces.iter().map(|(name, _)| name.as_str()).collect();
        let seen = if names.is_empty() { "none on this host".to_owned() } else { format!("on {}", names.join(", ")) };
        let mut check = Checked::new("decap", seen);
        for (name, result) in &self.interfaces {
            if let Err(why) = result {
                check.fail(
                    format!("the decapsulation on {name} does not work: {why}"),
                    "systemctl restart edge-decap, or edge-ctl decap with the same options again",
                );
            }
        }
        if let Some(why) = &self.unprobed {
            let first = why.lines().next().unwrap_or_default();
            check.warn(
                format!("backends are probed at their addresses only, so a missing tunnel end is not found: {first}"),
                "edge-ctl status has all of the reason; the daemon tries it again",
            );
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decapsulation_that_does_not_work_is_a_finding() {
        let good = ("eth0".to_owned(), Ok("from 10.0.0.1".to_owned()));
        let bad = ("eth1".to_owned(), Err("not attached".to_owned()));
        let found = |interfaces, unprobed| Decap { interfaces, unprobed }.check();
        assert_eq!(found(vec![good.clone()], None).findings, []);
        let both = found(vec![good, bad], Some("not permitted\nas root".to_owned()));
        assert_eq!((both.seen.as_str(), both.findings.len()), ("on eth0, eth1", 2));
        assert!(both.findings.iter().all(|finding| !finding.message.contains('\n')));
    }
}
