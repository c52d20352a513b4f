//! The kernel: its version, the JIT, and the bpffs for pins.

use super::Checked;

#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    /// As printed by `uname -r`.
    pub(crate) release: String,
    /// Why this kernel can't run the load balancer.
    pub(crate) too_old: Option<String>,
    /// `net.core.bpf_jit_enable`; absent if it can't be read.
    pub(crate) jit: Option<i64>,
    /// Why the pin directory can't be used.
    pub(crate) no_bpffs: Option<String>,
    /// Whether this process may load programs: without that right the kernel was not tried.
    pub(crate) privileged: bool,
}

impl Kernel {
    pub(super) fn check(&self) -> Checked {
        let jit = match self.jit {
            Some(0) => "off",
            Some(_) => "on",
            None => "unknown",
        };
        let mut check = Checked::new("kernel", format!("Linux {}, JIT {jit}", self.release));
        if let Some(why) = &self.too_old {
            check.fail(why, "boot a newer kernel");
        }
        if self.jit == Some(0) {
            check.warn(
                "net.core.bpf_jit_enable is 0: the kernel interprets the program, at several times its cost",
                "sysctl -w net.core.bpf_jit_enable=1, and the same in a file in /etc/sysctl.d",
            );
        }
        if let Some(why) = &self.no_bpffs {
            check.fail(why, "mount -t bpf bpf /sys/fs/bpf, or another --pin-dir");
        }
        if !self.privileged {
            check.warn(
                "not all could be examined: this user may not load BPF programs, nor read pinned maps",
                "run `edge-ctl doctor` as root",
            );
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{control::doctor::found, preflight::Severity};

    #[test]
    fn what_is_wrong_with_a_kernel() {
        let good = Kernel { release: "6.1.0".to_owned(), jit: Some(1), privileged: true, ..Kernel::default() };
        assert_eq!((good.check().seen.as_str(), found(&good.check())), ("Linux 6.1.0, JIT on", Vec::new()));
        let old = Kernel { too_old: Some("it is too old".to_owned()), jit: Some(0), ..good.clone() };
        let severities: Vec<_> = found(&old.check()).into_iter().map(|(severity, _)| severity).collect();
        assert_eq!(severities, [Severity::Error, Severity::Warning]);
        let none = Kernel { no_bpffs: Some("/x is not on a bpffs".to_owned()), ..good.clone() };
        assert_eq!(found(&none.check()), [(Severity::Error, "/x is not on a bpffs")]);
        assert_eq!(found(&Kernel { privileged: false, ..good }.check()).len(), 1);
    }
}
