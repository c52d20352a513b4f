//! One repeated probe of one address, for all of its subjects.

use std::{
    net::IpAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use edge_common::abi::BackendNumber;
use futures::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use tokio::{
    select,
    sync::{
        Notify, SemaphorePermit,
        mpsc::{Sender, error::SendError},
    },
    time::{Instant, sleep_until, timeout},
};

use super::{
    Audience, Limits, Report, Subject,
    carrier::Arrival,
    dial::{Dial, Network, Through},
    gap,
    kinds::PreparedProbe,
    lock,
    look::Look,
    pace::{Pace, Tempo},
    quick::Plan,
    second_look::SecondLook,
};
use crate::{health::Verdict, net};

/// Probes one address in one way.
#[derive(Clone, Debug)]
pub(super) struct Prober {
    pub(super) address: IpAddr,
    pub(super) kind: Arc<PreparedProbe>,
    /// Services through which the address is probed; a probe passes if it passes through all of them. If empty, the own
    /// address is probed.
    pub(super) through: Vec<Through>,
    /// Whether answers to clients have to be translated by the packet path.
    pub(super) translated: bool,
    pub(super) audience: Audience,
    pub(super) network: Network,
    pub(super) limits: Limits,
    /// Has the target looked at at once.
    pub(super) suspected: Arc<Notify>,
}

/// The place of a prober's look in the queue for descriptors.
struct PlaceInLine<'a>(&'a AtomicBool);

impl Drop for PlaceInLine<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Prober {
    pub(super) async fn run(self, first: Instant, reports: Sender<Report>) {
        let in_line = AtomicBool::new(false);
        let mut pace = Pace::new(first);
        let (mut looks, mut series) = (FuturesUnordered::new(), FuturesUnordered::new());
        let mut second_look = None;
        let (prober, how, in_line) = (&self, self.kind.how(), &in_line);
        loop {
            let fall = lock(&self.audience).fall;
            let tempo = Tempo { gap: gap(how, rand::random()), fast: how.fast_interval, fall };
            select! {
                () = sleep_until(pace.due()) => {
                    let now = Instant::now();
                    // If descriptors are short, additional looks would only take them from other probes.
                    let may =
                        || self.limits.descriptors.available_permits() > 0 && lock(&self.limits.allowance).take(now);
                    if pace.start(now, tempo, may) {
                        looks.push(async move { prober.probe(now, in_line, how.timeout).await });
                    }
                }
                Some(look) = looks.next() => {
                    if pace.end(look.start, Instant::now(), &look.verdict, tempo)
                        && self.report(look, &mut second_look, &reports).await.is_err()
                    {
                        return;
                    }
                }
                () = self.suspected.notified(), if series.is_empty() => {
                    let (start, usual) = (Instant::now(), pace.usual());
                    if let Some(plan) = Plan::of(how.timeout, usual, fall, start, &mut lock(&self.limits.quick))
                        && !self.kind.takes_silence()
                    {
                        series.push(plan.run(move |due, limit| prober.probe(due, in_line, limit)));
                    }
                }
                Some(seen) = series.next() => {
                    for look in seen {
                        if self.report(look, &mut second_look, &reports).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Reports a look to all subjects.
    async fn report(
        &self,
        Look { verdict, took, through, .. }: Look,
        second_look: &mut Option<SecondLook>,
        reports: &Sender<Report>,
    ) -> Result<(), SendError<Report>> {
        let verdict = self.explained(verdict, through, second_look).await;
        let subjects = lock(&self.audience).all.clone();
        let certificate_end = self.kind.certificate_end();
        let answers_at_address = second_look.as_ref().is_some_and(SecondLook::is_answered);
        for subject in subjects {
            let verdict = verdict.clone();
            reports.send(Report { subject, verdict, certificate_end, took, answers_at_address }).await?;
        }
        Ok(())
    }

    /// Adds the result at the backend's own address to a failure through a service. The own address is probed once per
    /// run of failures, whatever the tempo.
    async fn explained(
        &self,
        verdict: Verdict,
        through: Option<Through>,
        second_look: &mut Option<SecondLook>,
    ) -> Verdict {
        second_look.take_if(|look| look.was_in_vain());
        let at_address = || SecondLook::start(self.clone().at_address());
        match (verdict, through) {
            (Verdict::Fail(why), Some(through)) => {
                Verdict::Fail(second_look.get_or_insert_with(at_address).explain(&through, &why).await)
            }
            (Verdict::Unreachable(why), Some(through)) => {
                Verdict::Unreachable(second_look.get_or_insert_with(at_address).explain(&through, &why).await)
            }
            (Verdict::Silent(why), Some(through)) => {
                Verdict::Silent(second_look.get_or_insert_with(at_address).explain(&through, &why).await)
            }
            (verdict, _) => {
                *second_look = None;
                verdict
            }
        }
    }

    /// Makes one probe through each service, with the timeout `limit` counted from when it has its descriptors. Returns the
    /// first failure as soon as it is known, with its service.
    ///
    /// A probe keeps its place in the queue for descriptors: if it returned to the end after each timeout, it might
    /// never be served. Looks that are due in the meantime are skipped.
    async fn probe(&self, due: Instant, in_line: &AtomicBool, limit: Duration) -> Look {
        let is_carried = self.backend().is_some_and(|backend| self.network.to(backend).is_some());
        let through = if is_carried { &self.through[..] } else { &[] };
        if in_line.swap(true, Ordering::Relaxed) {
            return self.looked(due, self.too_few(), None);
        }
        // With fewer descriptors than services, some exchanges have to wait for others.
        let at_once = through.len().clamp(1, (self.limits.most / self.kind.descriptors() as usize).max(1));
        // A look that is not needed any more is dropped, in the queue as well.
        let place = PlaceInLine(in_line);
        let permit = self.descriptors(at_once).await;
        drop(place);
        let start = Instant::now();
        let Some(_descriptors) = permit else { return self.looked(start, self.too_few(), None) };
        if through.is_empty() {
            return self.looked(start, self.exchange(None, limit).await, None);
        }
        let each = |through: &Through| {
            let through = Some(*through);
            async move { self.looked(start, self.exchange(through, limit).await, through) }
        };
        let mut exchanges = pin!(stream::iter(through.iter().map(each)).buffer_unordered(at_once));
        let mut found = Look { start, verdict: Verdict::Pass, took: None, through: None };
        while let Some(next) = exchanges.next().await {
            match next.verdict {
                Verdict::Fail(_) | Verdict::Unreachable(_) | Verdict::Silent(_) => return next,
                Verdict::Inconclusive(_) => found = next,
                // The slowest one is the last.
                Verdict::Pass => found.took = next.took,
            }
        }
        found.took = found.took.filter(|_| found.verdict == Verdict::Pass);
        found
    }

    /// A look that has just ended. Silence that counts as a pass is no answer.
    fn looked(&self, start: Instant, verdict: Verdict, through: Option<Through>) -> Look {
        let took = Some(start.elapsed()).filter(|took| verdict == Verdict::Pass && *took < self.kind.how().timeout);
        Look { start, verdict, took, through }
    }

    async fn at_address(self) -> Verdict {
        match timeout(self.kind.how().timeout, self.descriptors(1)).await {
            Ok(Some(_descriptor)) => self.exchange(None, self.kind.how().timeout).await,
            Ok(None) | Err(_) => self.too_few(),
        }
    }

    fn too_few(&self) -> Verdict {
        self.limits.is_short.store(true, Ordering::Relaxed);
        Verdict::Inconclusive("this process has too few file descriptors for its probes".to_owned())
    }

    /// All are acquired together: probes that each lack their last one would block one another.
    async fn descriptors(&self, count: usize) -> Option<SemaphorePermit<'_>> {
        let count = u32::try_from(count).ok()?.checked_mul(self.kind.descriptors())?;
        let count = count.min(u32::try_from(self.limits.most).unwrap_or(u32::MAX));
        self.limits.descriptors.acquire_many(count).await.ok()
    }

    /// Makes one exchange with the backend, through a service or at its own address.
    async fn exchange(&self, through: Option<Through>, limit: Duration) -> Verdict {
        let how = self.kind.how();
        let started = Instant::now();
        let arrival = Arrival::default();
        let dial = Dial {
            network: &self.network,
            backend: self.backend(),
            address: self.address,
            port: how.port,
            through,
            arrival: arrival.clone(),
        };
        if let Ok(verdict) = timeout(limit, self.kind.look(&dial)).await {
            return if verdict == Verdict::Pass { self.answered(&arrival) } else { verdict };
        }
        let verdict = if limit < how.timeout {
            timed_out_within(limit, started.elapsed(), limit)
        } else {
            timed_out(limit, started.elapsed())
        };
        if self.kind.takes_silence() && matches!(verdict, Verdict::Silent(_)) { Verdict::Pass } else { verdict }
    }

    /// The verdict about a good answer. Where the packet path does not see it, it does not see the answers to clients either.
    fn answered(&self, arrival: &Arrival) -> Verdict {
        match arrival.by().filter(|interface| self.translated && self.network.watched.lacks(*interface)) {
            None => Verdict::Pass,
            Some(interface) => {
                let name = net::name_of(interface).ok().flatten().unwrap_or_else(|| format!("interface {interface}"));
                Verdict::Fail(format!("answers arrive by {name}, which the edge is not attached to"))
            }
        }
    }

    /// One of the backends of this probe: all of them have the same route.
    fn backend(&self) -> Option<BackendNumber> {
        lock(&self.audience).all.iter().find_map(|subject| match subject {
            Subject::Backend(backend) => Some(*backend),
            Subject::Reference(_) => None,
        })
    }
}

#[cfg(test)]
impl Prober {
    /// A prober of a target, in the host's own network.
    pub(super) fn of(target: &super::ProbeTarget) -> Self {
        use tokio::sync::Semaphore;

        Self {
            address: target.destination.address,
            kind: Arc::new(PreparedProbe::new(target.destination.address, target.probe.clone(), Arc::default())),
            through: Vec::new(),
            translated: false,
            audience: Audience::default(),
            network: Network::default(),
            limits: Limits {
                descriptors: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
                most: Semaphore::MAX_PERMITS,
                is_short: Arc::default(),
                allowance: Arc::new(std::sync::Mutex::new(super::pace::Allowance::new(Instant::now()))),
                quick: Arc::new(std::sync::Mutex::new(super::quick::allowance(Instant::now()))),
            },
            suspected: Arc::default(),
        }
    }

    /// Makes one probe.
    pub(super) async fn once(&self) -> Verdict {
        self.probe(Instant::now(), &AtomicBool::new(false), self.kind.how().timeout).await.verdict
    }
}

/// The verdict for no answer within `limit`. If much more time has passed, this process stood still (stopped, starved of
/// processor time), and the backend's silence is no evidence.
pub(super) fn timed_out(limit: Duration, elapsed: Duration) -> Verdict {
    timed_out_within(limit, elapsed, limit.max(Duration::from_millis(100)))
}

/// Like [`timed_out`], if this process may be late by `tolerated`.
fn timed_out_within(limit: Duration, elapsed: Duration, tolerated: Duration) -> Verdict {
    let late = elapsed.saturating_sub(limit);
    if late > tolerated {
        return Verdict::Inconclusive(format!("this host was late by {} ms", late.as_millis()));
    }
    Verdict::Silent(format!("no answer within {}", humantime::format_duration(limit)))
}
