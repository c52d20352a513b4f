//! The tables of the screen: what each row is about, and its cells.

#![deny(clippy::wildcard_enum_match_arm)]

use std::cmp::Reverse;

use super::{page::Page, snapshot::Snapshot};
use crate::{
    cli::{
        render::{backends, rates, service_state},
        table::{Cell, age},
    },
    control::{
        short,
        status::{BackendStatus, ExitStatus, Level, PoolStatus, ServiceStatus, TrafficStatus},
    },
};

/// A row of a table.
#[derive(Debug)]
pub(super) struct Row {
    /// The page that it opens; `None` for an exit.
    pub(super) opens: Option<Page>,
    pub(super) name: String,
    level: Level,
    /// Packets per second.
    packets: f64,
    pub(super) cells: Vec<Cell>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    #[default]
    Trouble,
    Traffic,
    Name,
}

impl Order {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Traffic => "traffic",
            Self::Name => "name",
        }
    }

    pub(super) const fn next(self) -> Self {
        match self {
            Self::Trouble => Self::Traffic,
            Self::Traffic => Self::Name,
            Self::Name => Self::Trouble,
        }
    }
}

/// The names of a page's columns.
pub(super) const fn header(page: &Page) -> &'static [&'static str] {
    match page {
        Page::Services | Page::Backend(_) => &["SERVICE", "STATE", "SERVED BY", "PKT/S", "BIT/S", "FLOWS/S", "WHY"],
        Page::Backends | Page::Service(_) => &["BACKEND", "STATE", "FOR", "PKT/S", "BIT/S", "FLOWS/S", "WHY"],
        Page::Exits => &["EXIT", "VERDICT", "PKT/S", "PACKETS", "MEANING"],
    }
}

/// The rows of a page whose name or state contains `filter`, in order.
pub(super) fn rows(page: &Page, snapshot: &Snapshot, filter: &str, order: Order) -> Vec<Row> {
    let status = &snapshot.status;
    let mut rows: Vec<_> = match page {
        Page::Services => status.services.iter().map(service).collect(),
        Page::Backends => status.pools.iter().flat_map(members).collect(),
        Page::Exits => status.exits.iter().map(|one| exit(one, snapshot)).collect(),
        Page::Service(name) => {
            let pools = find_service(snapshot, name).map_or(&[][..], |service| &service.pools);
            pools
                .iter()
                .filter_map(|name| status.pools.iter().find(|pool| pool.name == *name))
                .flat_map(members)
                .collect()
        }
        Page::Backend(name) => {
            let pool = find_backend(snapshot, name).map(|(pool, _)| pool.name.as_str());
            let uses = |service: &&ServiceStatus| pool.is_some_and(|pool| service.uses(pool));
            status.services.iter().filter(uses).map(service).collect()
        }
    };
    let filter = filter.to_lowercase();
    // The first two columns are name and state.
    rows.retain(|row| row.cells.iter().take(2).any(|cell| cell.text().to_lowercase().contains(&filter)));
    match order {
        Order::Trouble if matches!(page, Page::Exits) => rows.sort_by(by_traffic),
        Order::Trouble => rows.sort_by_key(|row| Reverse(row.level)),
        Order::Traffic => rows.sort_by(by_traffic),
        Order::Name => rows.sort_by(|one, other| one.name.cmp(&other.name)),
    }
    rows
}

fn by_traffic(one: &Row, other: &Row) -> std::cmp::Ordering {
    other.packets.total_cmp(&one.packets)
}

pub(super) fn find_service<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a ServiceStatus> {
    snapshot.status.services.iter().find(|service| service.name == name)
}

pub(super) fn find_backend<'a>(snapshot: &'a Snapshot, name: &str) -> Option<(&'a PoolStatus, &'a BackendStatus)> {
    let all = snapshot.status.pools.iter().flat_map(|pool| pool.backends.iter().map(move |backend| (pool, backend)));
    all.into_iter().find(|(_, backend)| backend.name == name)
}

fn service(service: &ServiceStatus) -> Row {
    let [packets, bits, flows] = rates(&service.traffic);
    Row {
        opens: Some(Page::Service(service.name.clone())),
        name: service.name.clone(),
        level: service.level(),
        packets: packets_of(&service.traffic),
        cells: vec![
            Cell::from(&service.name),
            service_state(service.state),
            Cell::from(service.serving.as_deref().unwrap_or("-")),
            packets,
            bits,
            flows,
            Cell::from(&service.reason),
        ],
    }
}

fn members(pool: &PoolStatus) -> impl Iterator<Item = Row> {
    pool.backends.iter().map(move |backend| {
        let [packets, bits, flows] = rates(&backend.traffic);
        Row {
            opens: Some(Page::Backend(backend.name.clone())),
            name: backend.name.clone(),
            level: pool.level_of(backend),
            packets: packets_of(&backend.traffic),
            cells: vec![
                Cell::from(&backend.name),
                backends::state(backend),
                Cell::from(backend.for_seconds.map_or("-".to_owned(), age)),
                packets,
                bits,
                flows,
                Cell::from(backends::why(backend)),
            ],
        }
    })
}

fn exit(exit: &ExitStatus, snapshot: &Snapshot) -> Row {
    let rate = snapshot.exit(&exit.name);
    Row {
        opens: None,
        name: exit.name.clone(),
        level: Level::Ok,
        packets: rate.unwrap_or_default(),
        cells: vec![
            Cell::from(&exit.name),
            Cell::from(&exit.verdict),
            Cell::from(rate.map_or("-".to_owned(), short)),
            Cell::from(exit.packets),
            Cell::from(&exit.meaning),
        ],
    }
}

fn packets_of(traffic: &TrafficStatus) -> f64 {
    traffic.rates.map_or(0.0, |rates| rates.packets)
}
