//! Channels to the loop from the tasks beside it.

use tokio::sync::mpsc;

use crate::{daemon::fit, net::NetEvent, probe::Report};

/// Maximum number of messages queued for the loop in each of the busy channels.
pub(super) const WAITING: usize = 1024;

/// The ends of the tasks beside the loop, which send their observations.
#[derive(Debug)]
pub(super) struct Senders {
    pub(super) reports: mpsc::Sender<Report>,
    pub(super) net_events: mpsc::Sender<NetEvent>,
    pub(super) findings: mpsc::Sender<fit::Findings>,
}

/// The ends of the loop.
#[derive(Debug)]
pub(super) struct Receivers {
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) net_events: mpsc::Receiver<NetEvent>,
    pub(super) findings: mpsc::Receiver<fit::Findings>,
}

pub(super) fn channels() -> (Senders, Receivers) {
    let (reports, report_receiver) = mpsc::channel(WAITING);
    let (net_events, net_receiver) = mpsc::channel(WAITING);
    let (findings, findings_receiver) = mpsc::channel(1);
    let receivers = Receivers { reports: report_receiver, net_events: net_receiver, findings: findings_receiver };
    (Senders { reports, net_events, findings }, receivers)
}
