//! A look at a backend's own address after failures through a service, to find out which of the two is faulty.

use edge_common::abi::Mode;
use tokio::task::JoinHandle;

use super::dial::Through;
use crate::health::Verdict;

/// A look that runs beside the probes, once per run of failures: a backend that is down gets hardly more probes than one
/// that is up.
#[derive(Debug)]
pub(super) struct SecondLook {
    task: Option<JoinHandle<Verdict>>,
    found: Option<Verdict>,
}

impl Drop for SecondLook {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl SecondLook {
    pub(super) fn start(look: impl Future<Output = Verdict> + Send + 'static) -> Self {
        Self { task: Some(tokio::spawn(look)), found: None }
    }

    /// Whether this host could not make the look, which may be possible by now.
    pub(super) fn was_in_vain(&self) -> bool {
        matches!(self.found, Some(Verdict::Inconclusive(_)))
    }

    /// Whether the backend is known to answer at its own address.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.found, Some(Verdict::Pass | Verdict::Fail(_)))
    }

    /// The reason why a probe through a service failed, as far as it is known by now.
    pub(super) async fn explain(&mut self, through: &Through, why: &str) -> String {
        if let Some(task) = self.task.take_if(|task| task.is_finished()) {
            self.found = task.await.ok();
        }
        explain(self.found.as_ref(), through, why)
    }
}

/// Kept short, since the reason of a state has a hundred characters.
fn explain(at_address: Option<&Verdict>, Through { mode, vip, .. }: &Through, why: &str) -> String {
    let by = match mode {
        Mode::Dsr | Mode::Nat => "",
        Mode::Ipip | Mode::IpipRange | Mode::Gue => " through the tunnel",
    };
    match at_address {
        Some(Verdict::Pass) if why.starts_with("no answer") => {
            let missing = match mode {
                Mode::Dsr => "VIP missing on its lo?",
                Mode::Ipip | Mode::IpipRange => "decap or VIP missing?",
                Mode::Gue => "decap, its --gue or VIP missing?",
                // In `nat`, backends need neither decapsulation nor the VIP.
                Mode::Nat => "",
            };
            format!("answers on its address, not at {vip}{by}: {missing}")
        }
        Some(Verdict::Pass) => format!("answers on its address, not at {vip}{by}: {why}"),
        // The own address fails as well: the fault is the backend's.
        Some(Verdict::Fail(why) | Verdict::Unreachable(why) | Verdict::Silent(why)) => why.clone(),
        Some(Verdict::Inconclusive(_)) | None => format!("at {vip}{by}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_explanation_names_the_failed_part() {
        let through = |mode| Through { mode, vip: "192.0.2.20".parse().unwrap(), source: None };
        let (tunnel, dsr) = (through(Mode::Ipip), through(Mode::Dsr));
        let refused = Verdict::Fail("connection refused".to_owned());
        let pass = Some(&Verdict::Pass);
        for (found, through, why, explained) in [
            (
                pass,
                &tunnel,
                "no answer within 200ms",
                "answers on its address, not at 192.0.2.20 through the tunnel: decap or VIP missing?",
            ),
            (pass, &dsr, "no answer within 200ms", "answers on its address, not at 192.0.2.20: VIP missing on its lo?"),
            (pass, &dsr, "connection refused", "answers on its address, not at 192.0.2.20: connection refused"),
            (Some(&refused), &dsr, "no answer within 200ms", "connection refused"),
            (None, &tunnel, "no answer within 1s", "at 192.0.2.20 through the tunnel: no answer within 1s"),
        ] {
            assert_eq!(explain(found, through, why), explained);
        }
    }
}
