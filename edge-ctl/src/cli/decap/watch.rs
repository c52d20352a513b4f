//! `edge-ctl decap --watch`: keeps the decapsulation attached when the interface or this host's addresses change.
//!
//! The process holds nothing that packets need: the program stays attached when the process ends, and the next process
//! takes over the attachment.

use std::{
    collections::BTreeMap,
    future::pending,
    path::Path,
    time::{Duration, Instant},
};

use edge_common::abi::{DecapExit, Verdict};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

use super::{DecapArgs, accepted, check, in_words, mss_in_words, mss_plan, reverse_path};
use crate::{
    control::chain,
    net::{self, Changes, HostAddresses, NetError},
    xdp::{self, Accepted, DecapPins, Decapsulation, MssPlan, XdpError},
};

/// Wait after the first notification of a change, since changes come in groups.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Interval of checks and retries without a notification.
const PERIOD: Duration = Duration::from_secs(1);
/// Interval of log messages about a drop reason that lasts.
const REPEAT: Duration = Duration::from_mins(1);

/// Runs until SIGTERM or SIGINT.
pub(super) fn run(args: &DecapArgs, pin_root: &Path, object: &[u8]) -> anyhow::Result<()> {
    check(args)?;
    let mut watcher = Watcher {
        args,
        object,
        pins: DecapPins::new(pin_root, &args.interface)?,
        attached: None,
        egress: Vec::new(),
        fault: None,
        drops: Drops::default(),
        absent: Vec::new(),
        has_notifications: true,
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(watcher.stay())
}

/// All that an attachment depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    accepted: Accepted,
    mss: Option<MssPlan>,
    host: HostAddresses,
    /// Indices of the egress interfaces: an interface that was recreated has lost its program, and has a new index.
    egress: Vec<u32>,
}

struct Watcher<'a> {
    args: &'a DecapArgs,
    object: &'a [u8],
    pins: DecapPins,
    /// The last attachment by this process.
    attached: Option<Wanted>,
    /// Where SYN-ACKs were changed after it: none if the kernel refuses the program.
    egress: Vec<String>,
    /// Why the program is not attached, as last logged.
    fault: Option<String>,
    drops: Drops,
    /// Egress interfaces of `--egress` that do not exist.
    absent: Vec<String>,
    /// False once a failure of the kernel's notifications was logged.
    has_notifications: bool,
}

/// Waits for a notification; for ever without a subscription.
async fn next(notifications: &mut Option<Changes>) -> Result<(), NetError> {
    match notifications {
        Some(changes) => changes.next().await,
        None => pending().await,
    }
}

impl Watcher<'_> {
    async fn stay(&mut self) -> anyhow::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut notifications = self.subscribe();
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    if notifications.is_none() {
                        notifications = self.subscribe();
                    }
                }
                changed = next(&mut notifications) => {
                    if let Err(error) = changed {
                        self.without_notifications(&error);
                        notifications = None;
                    }
                    sleep(DEBOUNCE).await;
                    if let Some(changes) = &mut notifications {
                        changes.forget();
                    }
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
            self.look();
        }
        info!("{}: ends, and leaves everything attached", self.args.interface);
        Ok(())
    }

    /// Subscribes to the kernel's notifications. If that fails, only the ticks trigger a check, and the next tick tries
    /// again.
    fn subscribe(&mut self) -> Option<Changes> {
        match Changes::subscribe() {
            Ok(changes) => {
                self.has_notifications = true;
                Some(changes)
            }
            Err(error) => {
                self.without_notifications(&error);
                None
            }
        }
    }

    /// Logs the first failure in a row.
    fn without_notifications(&mut self, error: &NetError) {
        if std::mem::replace(&mut self.has_notifications, false) {
            warn!("no notifications from the kernel; checking each second until they work: {}", chain(error));
        }
    }

    /// Checks the attachment, restores it if necessary, and logs the result.
    fn look(&mut self) {
        match self.hold() {
            Ok(()) => self.fault = None,
            Err(error) => {
                let fault = match error {
                    XdpError::Net(NetError::NoInterface(name)) | XdpError::NoInterface(name) => {
                        format!(
                            "no interface {name}; present attachments stay, and the program is attached as soon as an interface of this name exists"
                        )
                    }
                    error => chain(&error),
                };
                if self.fault.as_ref() != Some(&fault) {
                    warn!("{}: {fault}", self.args.interface);
                }
                self.fault = Some(fault);
            }
        }
    }

    fn hold(&mut self) -> Result<(), XdpError> {
        let wanted = self.wanted()?;
        let found = match xdp::look_at_decap(&self.pins) {
            Ok(found) => Some(found),
            Err(XdpError::NotAttached { .. }) => None,
            Err(error) => return Err(error),
        };
        if let Some(found) = &found {
            self.drops.report(&self.args.interface, &found.packets, Instant::now());
        }
        let found = found.filter(|found| found.mode == self.args.mode);
        // On kernels without TCX links anybody can remove a filter.
        let lost = found.as_ref().is_some_and(|found| egress(found) != self.egress);
        let takes_as_wanted = found.as_ref().is_some_and(|found| found.accepted == sorted(&wanted.accepted)) && !lost;
        if takes_as_wanted && self.attached.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let mut accepted = wanted.accepted.clone();
        xdp::attach_decap(&self.pins, &mut accepted, wanted.mss.as_ref(), self.args.mode, self.object)?;
        let why = match (&self.attached, found) {
            (None, _) => "takes",
            (Some(_), None) => "its program was missing and is attached again: takes",
            (Some(before), Some(_)) if *before == wanted && lost => {
                "its filter of answers was missing and is attached again: takes"
            }
            (Some(_), Some(_)) => "now takes",
        };
        info!("{}: {why} {}", self.args.interface, in_words(&accepted));
        if self.attached.as_ref().is_none_or(|before| before.mss != wanted.mss) && wanted.mss.is_some() {
            info!("{}: {}", self.args.interface, mss_in_words(wanted.mss.as_ref()).trim());
        }
        // At the start, and for an interface that was made anew.
        if let Some(warning) = reverse_path::warning(self.args) {
            warn!("{}: {warning}", self.args.interface);
        }
        self.attached = Some(wanted);
        self.egress = egress(&xdp::look_at_decap(&self.pins)?);
        Ok(())
    }

    fn wanted(&mut self) -> Result<Wanted, XdpError> {
        let (mut accepted, mut mss, host) = (accepted(self.args), mss_plan(self.args)?, net::host_addresses()?);
        accepted.complete(&host)?;
        let mut egress = Vec::new();
        if let Some(mss) = &mut mss {
            egress = self.present(&mut mss.egress)?;
        }
        Ok(Wanted { accepted, mss, host, egress })
    }

    /// Removes absent interfaces from the list, and returns the indices of the others. Tunnel packets are taken without
    /// them, and their turn comes when they do.
    fn present(&mut self, egress: &mut Vec<String>) -> Result<Vec<u32>, XdpError> {
        let (mut indices, mut names, mut absent) = (Vec::new(), Vec::new(), Vec::new());
        for name in egress.drain(..) {
            match xdp::interface_index(&name) {
                Ok(index) => {
                    indices.push(index);
                    names.push(name);
                }
                Err(XdpError::NoInterface(_)) => absent.push(name),
                Err(error) => return Err(error),
            }
        }
        *egress = names;
        if self.absent != absent && !absent.is_empty() {
            let interface = &self.args.interface;
            warn!("{interface}: no interface {}; answers that leave there keep their segment sizes", absent.join(", "));
        }
        self.absent = absent;
        Ok(indices)
    }
}

/// The interfaces by which SYN-ACKs leave with a changed segment size.
fn egress(found: &Decapsulation) -> Vec<String> {
    found.mss.as_ref().map_or_else(Vec::new, |(plan, _)| plan.egress.clone())
}

/// The lists in the form in which they are read from the maps: sorted and without duplicates.
fn sorted(accepted: &Accepted) -> Accepted {
    let mut sorted = accepted.clone();
    for list in [&mut sorted.from, &mut sorted.vips] {
        list.sort_unstable();
        list.dedup();
    }
    sorted.to.sort_unstable();
    sorted.to.dedup();
    sorted
}

/// Tunnel packets that were not decapsulated, by exit: the counts that were logged.
#[derive(Debug, Default)]
struct Drops(BTreeMap<&'static str, Drop>);

#[derive(Debug)]
struct Drop {
    /// Packets that were logged, or counted before the first report.
    known: u64,
    logged: Option<Instant>,
}

impl Drops {
    /// Logs the increases in `packets`: a new reason at once, and a reason that lasts once per [`REPEAT`].
    fn report(&mut self, interface: &str, packets: &[u64], now: Instant) {
        for line in self.news(packets, now) {
            warn!("{interface}: {line}");
        }
    }

    #[deny(clippy::wildcard_enum_match_arm)]
    fn news(&mut self, packets: &[u64], now: Instant) -> Vec<String> {
        let is_first = self.0.is_empty();
        let mut lines = Vec::new();
        for (exit, count) in DecapExit::ALL.iter().zip(packets) {
            if matches!(exit, DecapExit::NotTunnel | DecapExit::Decapsulated) {
                continue;
            }
            let (what, count) = (if exit.verdict() == Verdict::Drop { "dropped" } else { "not taken" }, *count);
            let drop =
                self.0.entry(exit.name()).or_insert(Drop { known: if is_first { count } else { 0 }, logged: None });
            // Recreated counters start at 0.
            drop.known = drop.known.min(count);
            let more = count - drop.known;
            if more > 0 && drop.logged.is_none_or(|logged| now.duration_since(logged) >= REPEAT) {
                lines.push(format!("{more} tunnel packets {what}: {} ({})", exit.name(), exit.meaning().trim()));
                *drop = Drop { known: count, logged: Some(now) };
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_reason_is_logged_at_once_and_one_that_lasts_once_in_a_while() {
        let (mut drops, start) = (Drops::default(), Instant::now());
        let mut packets = vec![0; DecapExit::ALL.len()];
        packets[DecapExit::UnknownVip as usize] = 7;
        assert_eq!(drops.news(&packets, start), Vec::<String>::new(), "what was there before is not news");
        packets[DecapExit::NotTunnel as usize] = 9;
        packets[DecapExit::Decapsulated as usize] = 9;
        assert_eq!(drops.news(&packets, start), Vec::<String>::new());
        packets[DecapExit::UnknownVip as usize] = 10;
        packets[DecapExit::UnknownSource as usize] = 1;
        let lines = drops.news(&packets, start);
        assert!(lines[0].starts_with("1 tunnel packets not taken: unknown_source ("), "{lines:?}");
        assert!(lines[1].starts_with("3 tunnel packets dropped: unknown_vip (From one of our edges"), "{lines:?}");
        packets[DecapExit::UnknownVip as usize] = 15;
        packets[DecapExit::BadInner as usize] = 2;
        let lines = drops.news(&packets, start + Duration::from_secs(1));
        assert!(matches!(&lines[..], [line] if line.starts_with("2 tunnel packets dropped: bad_inner (")), "{lines:?}");
        let lines = drops.news(&packets, start + REPEAT);
        assert!(
            matches!(&lines[..], [line] if line.starts_with("5 tunnel packets dropped: unknown_vip (")),
            "{lines:?}"
        );
        assert_eq!(drops.news(&packets, start + 3 * REPEAT), Vec::<String>::new(), "it is over");
        packets[DecapExit::UnknownVip as usize] = 1;
        assert_eq!(drops.news(&packets, start + 4 * REPEAT), Vec::<String>::new(), "counters that were made anew");
        packets[DecapExit::UnknownVip as usize] = 2;
        assert_eq!(drops.news(&packets, start + 5 * REPEAT).len(), 1);
    }
}
