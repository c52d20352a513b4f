//! Hooks: commands and webhooks that are told of events (`[[notify]]`). Each has a task of its own, so that a hook that hangs
//! delays nothing but its own next events.

mod command;
mod webhook;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::{
    select,
    sync::broadcast::{Receiver, error::RecvError},
    task::AbortHandle,
    time::timeout,
};
use tracing::info;

use crate::{
    config::{Hook, HookTarget},
    control::{
        events::{Event, EventKind, Events},
        status::HookStatus,
    },
};

/// Most events that wait for a hook; later ones are dropped, and counted.
const WAITING: usize = 100;

/// The hooks of the configuration in force.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    running: Vec<Running>,
}

/// A hook whose task ends when this value is dropped; a command that runs is killed then.
#[derive(Debug)]
struct Running {
    hook: Hook,
    counts: Arc<Mutex<Counts>>,
    task: AbortHandle,
}

/// What a hook has done since it was first configured.
#[derive(Debug, Default)]
struct Counts {
    runs: u64,
    failures: u64,
    dropped: u64,
    /// Why the last run failed.
    failing: Option<String>,
    /// Whether events were dropped since the queue was empty.
    is_full: bool,
}

/// The message to a hook.
#[derive(Debug, Serialize)]
struct Message<'a> {
    host: &'a str,
    severity: &'static str,
    #[serde(flatten)]
    event: &'a Event,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hooks {
    /// Applies the configured hooks. One that stays the same goes on, with its counts and its waiting events.
    pub(super) fn follow(&mut self, wanted: &[Hook], events: &Events) {
        let mut before = std::mem::take(&mut self.running);
        for hook in wanted {
            let known = before.iter().position(|running| running.hook == *hook);
            self.running.push(known.map_or_else(|| start(hook, events), |at| before.swap_remove(at)));
        }
    }

    pub(super) fn status(&self) -> Vec<HookStatus> {
        let status = |Running { hook, counts, .. }: &Running| {
            let counts = locked(counts);
            HookStatus {
                name: hook.name.clone(),
                runs: counts.runs,
                failures: counts.failures,
                dropped: counts.dropped,
                failing: counts.failing.clone(),
            }
        };
        self.running.iter().map(status).collect()
    }
}

fn start(hook: &Hook, events: &Events) -> Running {
    let counts = Arc::default();
    let (_, coming) = events.subscribe();
    let delivery = Delivery { hook: hook.clone(), events: events.clone(), counts: Arc::clone(&counts) };
    let task = tokio::spawn(delivery.deliver(coming)).abort_handle();
    Running { hook: hook.clone(), counts, task }
}

fn locked(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    // A panic leaves nothing half done in the counts.
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The task of a hook.
struct Delivery {
    hook: Hook,
    events: Events,
    counts: Arc<Mutex<Counts>>,
}

type Attempt = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

impl Delivery {
    async fn deliver(self, mut coming: Receiver<Event>) {
        let mut waiting = VecDeque::new();
        let mut running: Option<Attempt> = None;
        loop {
            if running.is_none() {
                running = waiting.pop_front().map(|event| self.attempt(event));
                locked(&self.counts).is_full &= !waiting.is_empty();
            }
            select! {
                event = coming.recv() => match event {
                    Ok(event) if !self.is_wanted(&event) => {}
                    Ok(event) if waiting.len() < WAITING => waiting.push_back(event),
                    Ok(_) => self.drop_events(1),
                    Err(RecvError::Lagged(lost)) => self.drop_events(lost),
                    Err(RecvError::Closed) => return,
                },
                ended = ended(&mut running) => {
                    running = None;
                    self.note(ended);
                }
            }
        }
    }

    /// Whether the hook is to be told: of the chosen kinds, but not of its own failure, which would call it again.
    fn is_wanted(&self, event: &Event) -> bool {
        self.hook.events.contains(&event.kind) && event.subject != self.subject()
    }

    fn subject(&self) -> String {
        format!("notify {}", self.hook.name)
    }

    fn attempt(&self, event: Event) -> Attempt {
        let Hook { target, timeout: patience, .. } = self.hook.clone();
        Box::pin(async move {
            let host = host_name();
            let severity = if event.kind.needs_attention() { "warning" } else { "info" };
            let message = Message { host: &host, severity, event: &event };
            let text = serde_json::to_string(&message).map_err(|error| error.to_string())?;
            let told = async {
                match target {
                    HookTarget::Command { argv, user } => command::run(&argv, &user, &message, &text).await,
                    HookTarget::Webhook(webhook) => webhook::post(&webhook, text.clone()).await,
                }
            };
            // A command is killed when its future is dropped.
            timeout(patience, told)
                .await
                .unwrap_or_else(|_| Err(format!("it took longer than {} s", patience.as_secs())))
        })
    }

    fn note(&self, ended: Result<(), String>) {
        let mut counts = locked(&self.counts);
        counts.runs += 1;
        match ended {
            Ok(()) => {
                if counts.failing.take().is_some() {
                    info!("{}: it works again", self.subject());
                }
            }
            Err(why) => {
                counts.failures += 1;
                let is_news = counts.failing.replace(why.clone()).is_none();
                drop(counts);
                // Once, and again only after it has worked: two hooks that fail must not call each other for ever.
                if is_news {
                    let message =
                        format!("{why}; traffic is not affected, and the next event is delivered all the same");
                    self.events.report(EventKind::LocalFault, &self.subject(), message);
                }
            }
        }
    }

    fn drop_events(&self, count: u64) {
        let mut counts = locked(&self.counts);
        counts.dropped += count;
        if !std::mem::replace(&mut counts.is_full, true) {
            drop(counts);
            let message = "events come faster than it takes them: some are dropped, and `edge-ctl status` counts them";
            self.events.report(EventKind::LocalFault, &self.subject(), message);
        }
    }
}

/// The result of the attempt; never ready without one.
async fn ended(running: &mut Option<Attempt>) -> Result<(), String> {
    match running {
        Some(attempt) => attempt.await,
        None => std::future::pending().await,
    }
}

fn host_name() -> String {
    nix::sys::utsname::uname().map_or_else(|_| String::new(), |name| name.nodename().to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hook(name: &str, script: &str, events: &[EventKind]) -> Hook {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let user = "root".to_owned();
        let target = HookTarget::Command { argv, user };
        Hook { name: name.to_owned(), target, events: events.to_vec(), timeout: Duration::from_mins(1) }
    }

    async fn until(reached: impl Fn() -> bool) {
        for _ in 0..2000 {
            if reached() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not reached");
    }

    #[tokio::test]
    async fn a_hook_is_told_of_its_kinds_alone_and_a_failure_is_reported_once() {
        let (events, mut hooks) = (Events::new(), Hooks::default());
        let directory = tempfile::tempdir().unwrap();
        let told = directory.path().join("told");
        let script = format!("cat >> {0}; echo $EDGE_EVENT $EDGE_SUBJECT >> {0}", told.display());
        let fails = hook("fails", "echo why; exit 3", &[EventKind::PoolLeft, EventKind::LocalFault]);
        hooks.follow(&[hook("good", &script, &[EventKind::PoolLeft]), fails], &events);
        events.report(EventKind::BackendDown, "a/a1", "nobody is told of this");
        for number in 0..3 {
            events.report(EventKind::PoolLeft, "a", format!("number {number}"));
        }
        until(|| hooks.status().iter().all(|status| status.runs == 3)).await;
        let told = std::fs::read_to_string(told).unwrap();
        assert!(told.contains("\"kind\":\"pool_left\"") && told.contains("\"severity\":\"warning\""), "{told}");
        assert!(told.contains("pool_left a\n") && told.contains("number 2") && !told.contains("a/a1"), "{told}");
        let status = hooks.status();
        assert_eq!((status[0].failures, &status[0].failing), (0, &None));
        assert_eq!((status[1].failures, status[1].failing.as_deref()), (3, Some("the command ended with 3: why")));
        let faults: Vec<_> = events.kept().into_iter().filter(|event| event.kind == EventKind::LocalFault).collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert_eq!(faults[0].subject, "notify fails");
    }

    #[tokio::test]
    async fn a_hook_that_hangs_drops_what_it_can_not_take_and_is_killed() {
        let (events, mut hooks) = (Events::new(), Hooks::default());
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("echo $$ > {}; sleep 1000", pid.display());
        let hanging = hook("hangs", &script, &[EventKind::PoolLeft]);
        hooks.follow(std::slice::from_ref(&hanging), &events);
        events.report(EventKind::PoolLeft, "a", "the first");
        let read = || std::fs::read_to_string(&pid).ok().and_then(|text| text.trim().parse::<i32>().ok());
        until(|| read().is_some()).await;
        for number in 0..WAITING + 7 {
            events.report(EventKind::PoolLeft, "a", format!("number {number}"));
        }
        until(|| hooks.status()[0].dropped == 7).await;
        let faults = events.kept().into_iter().filter(|event| event.kind == EventKind::LocalFault).count();
        assert_eq!(faults, 1);
        // The same configuration changes nothing; another one ends it.
        hooks.follow(&[hanging], &events);
        assert_eq!(hooks.status()[0].dropped, 7);
        hooks.follow(&[], &events);
        let process = nix::unistd::Pid::from_raw(read().unwrap());
        until(|| nix::sys::signal::kill(process, None).is_err()).await;
    }
}
