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
    pub(super) found: mpsc::Sender<fit::Found>,
}

/// The ends of the loop.
#[derive(Debug)]
pub(super) struct Receivers {
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) net_events: mpsc::Receiver<NetEvent>,
    pub(super) found: mpsc::Receiver<fit::Found>,
}

pub(super) fn channels() -> (Senders, Receivers) {
    let (reports, report_receiver) = mpsc::channel(WAITING);
    let (net_events, net_receiver) = mpsc::channel(WAITING);
    let (found, found_receiver) = mpsc::channel(1);
    let receivers = Receivers { reports: report_receiver, net_events: net_receiver, found: found_receiver };
    (Senders { reports, net_events, found }, receivers)
}
