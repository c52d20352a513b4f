//! One probe, made again and again: of one address, for all whom it is made for.

use std::{net::IpAddr, sync::Arc, time::Duration};

use edge_common::abi::BackendNumber;
use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::{
    sync::{Semaphore, SemaphorePermit, mpsc::Sender},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Report, Subject, Subjects,
    dial::{Dial, Network, Through},
    exchange, gap, lock,
    second_look::SecondLook,
};
use crate::{
    config::{Probe, ProbeKind},
    health::Verdict,
};

/// What probes one address in one way.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    pub(super) address: IpAddr,
    pub(super) probe: Probe,
    /// Services through which it is probed; a probe passes when it does through all of them. None: its own address is.
    pub(super) through: Vec<Through>,
    pub(super) subjects: Subjects,
    pub(super) network: Network,
    /// Each exchange takes one.
    pub(super) descriptors: Arc<Semaphore>,
}

impl Prober {
    pub(super) async fn run(self, first: Instant, reports: Sender<Report>) {
        let mut next = first;
        let mut second_look = None;
        loop {
            sleep_until(next).await;
            // From now and not from `next`: after a standstill of this host the overdue probes are not caught up.
            next = Instant::now() + gap(&self.probe, rand::random());
            let at_address = || SecondLook::start(self.clone().at_address());
            let verdict = match self.probe().await {
                (Verdict::Fail(why), Some(through)) => {
                    Verdict::Fail(second_look.get_or_insert_with(at_address).explain(&through, &why).await)
                }
                (Verdict::Silent(why), Some(through)) => {
                    Verdict::Silent(second_look.get_or_insert_with(at_address).explain(&through, &why).await)
                }
                (verdict, _) => {
                    second_look = None;
                    verdict
                }
            };
            let subjects = lock(&self.subjects).clone();
            for subject in subjects {
                if reports.send(Report { subject, verdict: verdict.clone() }).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Makes one probe, which takes at most its timeout, through each service. Returns the first failure as soon as it is known,
    /// and through which service it was.
    async fn probe(&self) -> (Verdict, Option<Through>) {
        let through = if self.network.carrier.is_some() { &self.through[..] } else { &[] };
        let Some(_descriptors) = self.descriptors(through.len().max(1)).await else { return (too_few(), None) };
        if through.is_empty() {
            return (self.exchange(None).await, None);
        }
        let each = |through: &Through| {
            let through = *through;
            async move { (self.exchange(Some(through)).await, Some(through)) }
        };
        let mut exchanges: FuturesUnordered<_> = through.iter().map(each).collect();
        let mut found = (Verdict::Pass, None);
        while let Some(next) = exchanges.next().await {
            match next.0 {
                Verdict::Fail(_) | Verdict::Silent(_) => return next,
                Verdict::Inconclusive(_) => found = next,
                Verdict::Pass => {}
            }
        }
        found
    }

    async fn at_address(self) -> Verdict {
        let Some(_descriptor) = self.descriptors(1).await else { return too_few() };
        self.exchange(None).await
    }

    /// All at once, or those who wait for their last one would keep the others' from them.
    async fn descriptors(&self, count: usize) -> Option<SemaphorePermit<'_>> {
        let count = u32::try_from(count).ok()?;
        timeout(self.probe.timeout, self.descriptors.acquire_many(count)).await.ok()?.ok()
    }

    /// One exchange with the backend, through a service or at its own address.
    async fn exchange(&self, through: Option<Through>) -> Verdict {
        let Self { address, probe, network, .. } = self;
        let limit = probe.timeout;
        let started = Instant::now();
        let dial = Dial { network, backend: self.backend(), address: *address, port: probe.port, through };
        let exchange = async {
            match &probe.kind {
                ProbeKind::Tcp => exchange::tcp(&dial).await,
                ProbeKind::Http { path, status, host } => exchange::http(&dial, path, host.as_deref(), status).await,
            }
        };
        match timeout(limit, exchange).await {
            Ok(verdict) => verdict,
            Err(_) => timed_out(limit, started.elapsed()),
        }
    }

    /// One of the backends that have the address: the way to all of them is the same.
    fn backend(&self) -> Option<BackendNumber> {
        lock(&self.subjects).iter().find_map(|subject| match subject {
            Subject::Backend(backend) => Some(*backend),
            Subject::Reference(_) => None,
        })
    }
}

fn too_few() -> Verdict {
    Verdict::Inconclusive("this process has too few file descriptors for its probes".to_owned())
}

/// One probe of a backend by the host's own network.
#[cfg(test)]
pub(super) async fn probe(target: &super::ProbeTarget) -> Verdict {
    let prober = Prober {
        address: target.address,
        probe: target.probe.clone(),
        through: Vec::new(),
        subjects: Subjects::default(),
        network: Network::default(),
        descriptors: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
    };
    prober.probe().await.0
}

/// No answer within `limit`. When much more than that went by, it was this process that stood still (stopped, starved
/// of processor time) and not the backend that was silent.
pub(super) fn timed_out(limit: Duration, elapsed: Duration) -> Verdict {
    let late = elapsed.saturating_sub(limit);
    if late > limit.max(Duration::from_millis(100)) {
        return Verdict::Inconclusive(format!("this host was late by {} ms", late.as_millis()));
    }
    Verdict::Silent(format!("no answer within {}", humantime::format_duration(limit)))
}
