//! The share of each service's flows that a change moves, counted slot by slot in the candidate tables.

use std::{collections::BTreeMap, rc::Rc};

use serde::Serialize;

use crate::{
    bpf::Preview,
    config::Config,
    plan::{Image, Snapshot},
};

/// Effect of a change on a service's flows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Moves {
    pub(crate) service: String,
    /// Share of the slots, and so of the clients, whose new flows go to another backend than before.
    pub(crate) new_flows: f64,
    /// Share of the established flows that go to another backend, since another hash or number of slots puts them into
    /// other slots. Otherwise it is 0: an established flow stays until it ends.
    pub(crate) running_flows: f64,
}

/// The moves of each service that is in both configurations.
pub(crate) fn moves(
    old: &Config,
    new: &Config,
    before: &Snapshot,
    image: &Image,
    preview: &mut Preview<'_>,
) -> Vec<Moves> {
    let mut moves = Vec::new();
    let was: BTreeMap<_, _> = old.services.iter().map(|service| (service.name.as_str(), service)).collect();
    let mut known = BTreeMap::new();
    for service in &new.services {
        let numbers = before.service_before(&service.name).zip(image.snapshot.service(&service.name));
        let Some(((number, _), then)) = numbers else { continue };
        let Some(was) = was.get(number.name.as_str()) else { continue };
        let (now, then) = (preview.picks_now(number.number), preview.picks_then(then.number));
        let address = |number: &u16| preview.address(*number);
        let is_same_hash = old.hash_key == new.hash_key && was.affinity == service.affinity;
        let (new_flows, running_flows) = if is_same_hash && now.len() == then.len() {
            // Services that are alike share their picks.
            let moved = known.entry((Rc::as_ptr(&now), Rc::as_ptr(&then))).or_insert_with(|| {
                let moved = now.iter().zip(&*then).filter(|(now, then)| address(now) != address(then)).count();
                share(moved, now.len())
            });
            (*moved, 0.0)
        } else {
            let owners = preview.owners(number.number);
            // With another number of slots, all get new owners. Otherwise slots keep their owners, and flows change
            // slots.
            let to = if was.slots == service.slots { &owners } else { &*then };
            (apart(&now, &then, address), apart(&owners, to, address))
        };
        moves.push(Moves { service: service.name.clone(), new_flows, running_flows });
    }
    moves
}

/// The share of flows that change backends if all flows are put into new slots at random: a backend's share of the
/// flows is its share of the slots.
fn apart<T: Ord>(now: &[u16], then: &[u16], address: impl Fn(&u16) -> Option<T>) -> f64 {
    let counted = |picks: &[u16]| {
        let mut counts = BTreeMap::<_, usize>::new();
        for pick in picks {
            *counts.entry(address(pick)).or_default() += 1;
        }
        counts
    };
    let (from, to) = (counted(now), counted(then));
    let stays =
        |(address, count): (_, &usize)| share(*count, now.len()) * share(*to.get(address).unwrap_or(&0), then.len());
    1.0 - from.iter().map(stays).sum::<f64>()
}

#[expect(clippy::cast_precision_loss, reason = "slots are few")]
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
