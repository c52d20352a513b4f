//! Limits that the load balancer comes near: file descriptors, and entries for translated flows.

use super::Checked;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// Open file descriptors of the daemon, and its limit.
    pub(crate) descriptors: Option<(u64, u64)>,
    /// Entries for translated flows in use, and how many there are.
    pub(crate) nat: Option<(u64, u64)>,
}

/// Less than this is left: one in so many.
const LITTLE: u64 = 5;

impl Limits {
    pub(super) fn check(self) -> Checked {
        let parts = [("descriptors", self.descriptors), ("translated flows", self.nat)];
        let known = parts.iter().filter_map(|(what, found)| {
            let (used, most) = (*found)?;
            Some(format!("{used} of {most} {what}"))
        });
        let known: Vec<_> = known.collect();
        let seen = if known.is_empty() { "none to compare".to_owned() } else { known.join(", ") };
        let mut check = Checked::new("limits", seen);
        let is_near =
            |found: Option<(u64, u64)>| found.filter(|(used, most)| used.saturating_add(most / LITTLE) > *most);
        if let Some((used, most)) = is_near(self.descriptors) {
            check.warn(
                format!("the daemon has {used} of {most} file descriptors: probes wait for each other"),
                "LimitNOFILE= in the unit (systemctl edit edge), then systemctl restart edge",
            );
        }
        if let Some((used, most)) = is_near(self.nat) {
            check.warn(
                format!("{used} of {most} entries for translated flows are in use: new flows will be refused"),
                "a larger limits.nat_flows, then edge-ctl reload",
            );
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_left_is_a_finding() {
        let found = |descriptors, nat| Limits { descriptors, nat }.check().findings.len();
        assert_eq!(found(None, None), 0);
        assert_eq!(found(Some((80, 100)), Some((0, 1024))), 0);
        assert_eq!(found(Some((81, 100)), Some((1000, 1024))), 2);
        assert_eq!(found(Some((7, u64::MAX)), None), 0);
    }
}
