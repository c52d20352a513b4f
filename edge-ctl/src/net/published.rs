//! What a watch has reported, and what has become different since. Pure.

#![deny(clippy::disallowed_methods)]

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use edge_common::abi::BackendNumber;

use super::{
    events::{NetEvent, Sought},
    next_hop::{Link, NeighbourKey, NextHopEntry, Resolution, Tables, resolve, resolved_route},
    route::{Destination, ResolvedRoute},
    survey::described,
};

/// The content of all events so far.
#[derive(Debug, Default)]
pub(super) struct Published {
    entries: BTreeMap<BackendNumber, Option<NextHopEntry>>,
    routes: BTreeMap<BackendNumber, Option<ResolvedRoute>>,
    reach: BTreeMap<BackendNumber, Option<String>>,
    /// `None` before the first event.
    links: Option<BTreeMap<u32, Link>>,
    vips: BTreeMap<IpAddr, bool>,
}

impl Published {
    /// The events about everything that is other than published, which counts as published from now on. A backend whose
    /// destination `awaits` its lookup keeps what was published: its route in `tables` is of a time before the links
    /// there.
    pub(super) fn news(
        &mut self,
        tables: &Tables,
        sought: &Sought,
        given_up: &BTreeSet<NeighbourKey>,
        awaits: impl Fn(Destination) -> bool,
    ) -> Vec<NetEvent> {
        let (mut changed, mut routes, mut losses, mut gains) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let ready = sought.backends.iter().filter(|(_, destination)| !awaits(*destination));
        for (number, destination @ Destination { address, .. }) in ready {
            let resolution = resolve(tables, *destination, given_up);
            let route = resolved_route(tables, *destination, &resolution);
            if self.routes.insert(*number, route) != Some(route) {
                routes.push((*number, route));
            }
            let why = resolution.why_not(tables.native, given_up);
            if self.reach.get(number) != Some(&why) {
                self.reach.insert(*number, why.clone());
                if why.is_some() { &mut losses } else { &mut gains }.push((*number, why));
            }
            let entry = resolution.entry();
            if self.entries.insert(*number, entry) == Some(entry) {
                continue;
            }
            changed.push((*number, entry));
            match resolution {
                Resolution::Resolved { .. } => {}
                Resolution::Unresolved { neighbour: (_, next_hop), .. } => {
                    tracing::info!(backend = number, %address, %next_hop, "no next hop: it has not answered yet");
                }
                Resolution::Unreachable(reason) => tracing::info!(backend = number, %address, "no next hop: {reason}"),
            }
        }
        // Losses first: packets go into nothing until they are known. A backend that is reachable again needs its next hop
        // before it takes flows.
        let mut events: Vec<_> = [
            (!losses.is_empty()).then_some(NetEvent::Reach(losses)),
            (!changed.is_empty()).then_some(NetEvent::NextHops(changed)),
            (!routes.is_empty()).then_some(NetEvent::Routes(routes)),
            (!gains.is_empty()).then_some(NetEvent::Reach(gains)),
        ]
        .into_iter()
        .flatten()
        .collect();
        events.extend(self.news_of_vips(tables, sought));
        events.extend(self.news_of_links(tables));
        events
    }

    fn news_of_vips(&mut self, tables: &Tables, sought: &Sought) -> Option<NetEvent> {
        let own = |vip: &IpAddr| Some((*vip, tables.lookups.get(&Destination::of(*vip))?.is_own()));
        let vips: BTreeMap<_, _> = sought.vips.iter().filter_map(own).collect();
        if self.vips == vips {
            return None;
        }
        self.vips.clone_from(&vips);
        Some(NetEvent::Vips(vips))
    }

    fn news_of_links(&mut self, tables: &Tables) -> Vec<NetEvent> {
        let now = &tables.links;
        if self.links.as_ref() == Some(now) {
            return Vec::new();
        }
        let before = self.links.replace(now.clone());
        // At the start no link has changed.
        let changed: BTreeSet<_> =
            before.iter().flat_map(|before| differing(before, now)).map(|(_, link)| link.name.clone()).collect();
        let devices = NetEvent::Devices(described(now));
        std::iter::once(devices).chain(changed.into_iter().map(NetEvent::LinkChanged)).collect()
    }
}

/// The links that are not the same in both, as they are in either.
pub(super) fn differing<'a>(
    before: &'a BTreeMap<u32, Link>,
    now: &'a BTreeMap<u32, Link>,
) -> impl Iterator<Item = (u32, &'a Link)> {
    let gone_or_other = before.iter().filter(|(index, link)| now.get(index) != Some(link));
    let new_or_other = now.iter().filter(|(index, link)| before.get(index) != Some(link));
    gone_or_other.chain(new_or_other).map(|(index, link)| (*index, link))
}
