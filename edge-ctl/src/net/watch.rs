//! Watches the next hop of every backend by netlink notifications.

use std::{collections::BTreeSet, time::Duration};

use edge_common::abi::BackendNumber;
use futures::{StreamExt, stream};
use rtnetlink::{
    MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
    sys::AsyncSocket as _,
};
use tokio::{
    sync::{
        mpsc,
        watch::{self, Receiver, Sender},
    },
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    agenda::{Agenda, Work},
    doubt::{Heard, doubtful, note},
    events::{NetEvent, Sought},
    netlink::{NetError, PARALLEL, Requests},
    next_hop::{Lookup, Neighbour, NeighbourKey, Tables, neighbours},
    next_hop_objects::NextHopObjects,
    published::{Published, differing},
    queue::{Queue, Slice},
    route::Destination,
    tables::{self, Change},
};

/// Changes are collected for this long, from the first one on, before next hops are evaluated. Short enough to go
/// unnoticed, long enough for a flushed neighbour to answer before it counts as lost.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// Number of routes that are looked up before anything else is attended to.
const SLICE: usize = 8 * PARALLEL;
/// Route lookups may take up at most a fifth of the time, however often the routing table changes.
const REST_FACTOR: u32 = 4;
/// Delay of a second lookup after a change of routes: the kernel sends a link's notification before it removes the
/// link's routes, and sends none for many removals (`fib_sync_down_dev`).
const REPEAT: Duration = Duration::from_millis(300);
/// Interval at which resolution of unresolved neighbours is restarted; the kernel itself retries once a second.
const KICK: Duration = Duration::from_secs(1);
/// Every `RESYNC`th `KICK`, stale neighbours are resolved again and all tables are read again, to find changes without a
/// notification (the path MTU).
const RESYNC: u64 = 10;

const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
];

/// A running watch, ended by dropping it.
#[derive(Debug)]
pub(crate) struct Watch {
    task: AbortHandle,
    heard: Sender<Heard>,
}

impl Watch {
    /// Receives whether these backends' last probes got an answer. A next hop behind which none did may be dead.
    pub(crate) fn hear(&self, found: impl IntoIterator<Item = (BackendNumber, bool)>) {
        self.heard.send_if_modified(|known| note(known, found));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the next hops of backends, and which VIPs are the host's, and sends changes to `events`, until the [`Watch`]
/// is dropped or the receiver is gone. It survives any failure of netlink: the last results stand until netlink works
/// again.
///
/// Must be called in a tokio runtime.
pub(crate) fn watch(sought: Sought, events: mpsc::Sender<NetEvent>) -> Watch {
    watch_with(sought, events, None)
}

/// As [`watch`], with notifications in a socket buffer of `buffer` bytes.
pub(super) fn watch_with(mut sought: Sought, events: mpsc::Sender<NetEvent>, buffer: Option<u32>) -> Watch {
    for (_, destination) in &mut sought.backends {
        destination.address = destination.address.to_canonical();
    }
    let (heard, receiver) = watch::channel(Heard::new());
    let mut watcher = Watcher::new(sought, events, receiver, buffer);
    let task = async move {
        loop {
            match watcher.run().await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "lost the kernel's network notifications; trying again in 1 s"),
            }
            sleep(KICK).await;
        }
    };
    Watch { task: tokio::spawn(task).abort_handle(), heard }
}

/// Whether the receiver of the events still exists.
type Listening = bool;

struct Watcher {
    sought: Sought,
    events: mpsc::Sender<NetEvent>,
    heard: Receiver<Heard>,
    buffer: Option<u32>,
    tables: Tables,
    queue: Queue,
    /// Time spent on the lookups of the present round.
    round_took: Duration,
    /// Whether all routes have been looked up once.
    is_complete: bool,
    published: Published,
    is_host_changed: bool,
    /// Neighbours lost since the last evaluation.
    lost: BTreeSet<NeighbourKey>,
    /// Neighbours that were unresolved at the last evaluation.
    unresolved: BTreeSet<NeighbourKey>,
    /// Neighbours that the kernel has given up on and that have not answered since.
    given_up: BTreeSet<NeighbourKey>,
    /// Neighbours in doubt whose confirmation was requested.
    doubted: BTreeSet<NeighbourKey>,
}

impl Watcher {
    fn new(sought: Sought, events: mpsc::Sender<NetEvent>, heard: Receiver<Heard>, buffer: Option<u32>) -> Self {
        Self {
            tables: Tables { native: sought.native, ..Tables::default() },
            sought,
            events,
            heard,
            buffer,
            queue: Queue::default(),
            round_took: Duration::ZERO,
            is_complete: false,
            published: Published::default(),
            is_host_changed: false,
            lost: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            given_up: BTreeSet::new(),
            doubted: BTreeSet::new(),
        }
    }

    /// Runs until the receiver is gone; fails if netlink does.
    async fn run(&mut self) -> Result<(), NetError> {
        let mut connections = JoinSet::new();
        // Subscribes before reading: a change in between is seen twice rather than not at all.
        let (mut connection, handle, mut notifications) =
            rtnetlink::new_multicast_connection(&GROUPS).map_err(NetError::Open)?;
        if let Some(bytes) = self.buffer {
            connection.socket_mut().socket_ref().set_rx_buf_sz(bytes).map_err(NetError::Open)?;
        }
        connections.spawn(connection);
        let mut objects = NextHopObjects::open().map_err(NetError::Open)?;
        let requests = Requests::open()?;
        let mut agenda = Agenda::default();
        agenda.add(Work::Everything, Duration::ZERO);
        let mut ticks = interval(KICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut tick = 1u64;
        loop {
            tokio::select! {
                biased;
                notification = notifications.next() => {
                    let (message, _) = notification.ok_or(NetError::Closed)?;
                    self.note(&message, &mut agenda);
                    while let Ok((message, _)) = notifications.try_recv() {
                        self.note(&message, &mut agenda);
                    }
                    self.kick_lost(&requests).await;
                }
                changed = objects.changed() => {
                    changed.map_err(NetError::Open)?;
                    agenda.add(Work::Lookups, DEBOUNCE);
                }
                work = agenda.wait() => {
                    agenda.done(work);
                    if !self.start(work, &requests).await? {
                        return Ok(());
                    }
                }
                _ = ticks.tick() => {
                    let resync = tick.is_multiple_of(RESYNC);
                    tick += 1;
                    self.kick_unresolved(&requests, resync).await;
                    if resync {
                        self.doubted.clear();
                        agenda.add(Work::Everything, DEBOUNCE);
                    }
                }
                Ok(()) = self.heard.changed() => {
                    agenda.add(Work::Evaluate, DEBOUNCE);
                }
                () = self.events.closed() => {
                    drop(handle);
                    return Ok(());
                }
                () = std::future::ready(()), if !self.queue.is_empty() => {
                    if !self.look_up_some(&requests, &mut agenda).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn note(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>, agenda: &mut Agenda) {
        match &message.payload {
            NetlinkPayload::InnerMessage(message) => match self.tables.apply(message) {
                Change::Nothing => {}
                Change::Neighbour => agenda.add(Work::Evaluate, DEBOUNCE),
                Change::NeighbourLost(key) => {
                    self.lost.insert(key);
                    agenda.add(Work::Evaluate, DEBOUNCE);
                }
                Change::Link(index) => {
                    self.queue.affect(self.tables.using_link(index));
                    // The kernel limits how often a link's carrier changes.
                    agenda.add_without_rest(Work::Affected, DEBOUNCE);
                    self.routes_changed(agenda);
                }
                Change::Route(prefix) => {
                    self.queue.affect(self.tables.within(prefix));
                    agenda.add(Work::Affected, DEBOUNCE);
                    self.routes_changed(agenda);
                }
                Change::Routes => self.routes_changed(agenda),
            },
            // The socket buffer overflowed, and the kernel dropped notifications.
            NetlinkPayload::Overrun(_) => {
                tracing::warn!("network notifications were lost; reading everything anew");
                agenda.add(Work::Everything, DEBOUNCE);
            }
            _ => {}
        }
    }

    fn routes_changed(&mut self, agenda: &mut Agenda) {
        self.is_host_changed = true;
        agenda.add(Work::Lookups, DEBOUNCE);
        agenda.repeat = Some(Instant::now() + REPEAT);
    }

    /// Starts work. Routes are looked up a few at a time by [`Self::look_up_some`], so that a change in the meantime
    /// does not wait for all of them.
    async fn start(&mut self, work: Work, requests: &Requests) -> Result<Listening, NetError> {
        if work >= Work::Everything {
            self.read_everything(requests).await?;
        }
        if work >= Work::Lookups {
            let vips = self.sought.vips.iter().map(|vip| Destination::of(*vip));
            let backends = self.sought.backends.iter().map(|(_, destination)| *destination);
            self.queue.add_rest(backends.chain(vips));
        }
        if work >= Work::Affected {
            self.queue.admit_affected();
        }
        if self.queue.is_empty() { Ok(self.publish(requests).await) } else { Ok(true) }
    }

    async fn read_everything(&mut self, requests: &Requests) -> Result<(), NetError> {
        // One at a time: the kernel refuses a second dump on a socket (`__netlink_dump_start`).
        let (links, neighbours) = (requests.links().await?, requests.neighbours().await?);
        let before = std::mem::replace(&mut self.tables.links, tables::links(&links));
        self.tables.neighbours = neighbours.iter().filter_map(tables::neighbour).collect();
        for (index, _) in differing(&before, &self.tables.links) {
            self.queue.affect(self.tables.using_link(index));
        }
        Ok(())
    }

    /// Looks up the next few routes of the queue, and publishes at once what became of affected ones.
    async fn look_up_some(&mut self, requests: &Requests, agenda: &mut Agenda) -> Result<Listening, NetError> {
        let started = Instant::now();
        let Slice { destinations, are_affected } = self.queue.take(SLICE);
        self.look_up(requests, destinations).await?;
        let took = started.elapsed();
        self.round_took += took;
        if are_affected {
            agenda.rest(Work::Affected, took * REST_FACTOR);
        }
        let is_round_over = self.queue.is_empty();
        if is_round_over {
            agenda.rest(Work::Lookups, std::mem::take(&mut self.round_took) * REST_FACTOR);
            self.is_complete = true;
        }
        if are_affected || is_round_over { Ok(self.publish(requests).await) } else { Ok(true) }
    }

    /// Looks up routes. If a lookup fails, the previous route stays.
    async fn look_up(&mut self, requests: &Requests, destinations: Vec<Destination>) -> Result<(), NetError> {
        let vrfs = &tables::vrfs(&self.tables.links, &self.sought.interfaces)[..];
        let answers: Vec<(Destination, Result<Lookup, NetError>)> = stream::iter(destinations)
            .map(|destination| async move { (destination, requests.lookup_in(vrfs, destination).await) })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        for (destination, answer) in answers {
            match answer {
                Ok(lookup) => {
                    self.tables.lookups.insert(destination, lookup);
                }
                Err(error @ (NetError::Closed | NetError::Late)) => return Err(error),
                Err(error) => tracing::warn!(address = %destination.address, %error, "can't look a route up"),
            }
        }
        Ok(())
    }

    /// Sends what has changed, then makes the kernel resolve what is unresolved or in doubt.
    async fn publish(&mut self, requests: &Requests) -> Listening {
        if !self.is_complete {
            return true;
        }
        let needed = self.neighbours(|_| true);
        self.tables.note_given_up(&mut self.given_up, &needed);
        let awaits = |destination| self.queue.awaits(destination);
        let mut events = self.published.news(&self.tables, &self.sought, &self.given_up, awaits);
        events.extend(std::mem::take(&mut self.is_host_changed).then_some(NetEvent::HostChanged));
        for event in events {
            if self.events.send(event).await.is_err() {
                return false;
            }
        }
        let unresolved = self.neighbours(is_unresolved);
        // Neighbours whose resolution was started earlier are retried at the next tick.
        requests.kick_all(unresolved.difference(&self.unresolved).copied().collect()).await;
        self.unresolved = unresolved;
        self.confirm_doubtful(requests).await;
        true
    }

    /// Requests resolution at once for needed neighbours that were just lost: a live one answers before it counts as
    /// lost.
    async fn kick_lost(&mut self, requests: &Requests) {
        if self.lost.is_empty() {
            return;
        }
        let lost = std::mem::take(&mut self.lost);
        let needed = self.neighbours(is_unresolved);
        requests.kick_all(needed.intersection(&lost).copied().collect()).await;
    }

    /// Requests confirmation of next hops that are newly in doubt. If a next hop is alive it answers, and nothing
    /// changes.
    async fn confirm_doubtful(&mut self, requests: &Requests) {
        let known = self.heard.borrow_and_update().clone();
        let doubtful = doubtful(&self.tables, &self.sought.backends, &self.given_up, &known);
        requests.confirm_all(doubtful.difference(&self.doubted).copied().collect()).await;
        self.doubted = doubtful;
    }

    async fn kick_unresolved(&self, requests: &Requests, stale_too: bool) {
        let wanted = |neighbour| is_unresolved(neighbour) || stale_too && matches!(neighbour, Neighbour::Stale(_));
        requests.kick_all(self.neighbours(wanted)).await;
    }

    /// The neighbours in such a state on the routes to backends, including a route's other next hops, which a backend
    /// may need at any time.
    fn neighbours(&self, is: impl Fn(Neighbour) -> bool) -> BTreeSet<NeighbourKey> {
        let all = self.sought.backends.iter().flat_map(|(_, destination)| neighbours(&self.tables, *destination));
        all.filter(|(_, neighbour)| is(*neighbour)).map(|(key, _)| key).collect()
    }
}

/// Whether a neighbour's MAC address is unknown and the kernel is not resolving it.
fn is_unresolved(neighbour: Neighbour) -> bool {
    matches!(neighbour, Neighbour::Failed | Neighbour::Unknown)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod watch_tests;
#[cfg(test)]
#[path = "route_tests.rs"]
mod route_tests;
#[cfg(test)]
#[path = "order_tests.rs"]
mod order_tests;
#[cfg(test)]
#[path = "neighbour_tests.rs"]
mod neighbour_tests;
#[cfg(test)]
#[path = "device_tests.rs"]
mod device_tests;
