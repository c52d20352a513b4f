//! Notes on failovers, in plain memory.

use super::*;
use crate::{
    control::{
        evacuation::Base,
        events::Events,
        fixture::{FakeDataPlane, inventory},
        operations::operate,
    },
    plan,
};

const NOW: Moment = Moment { boot_ms: 1_000_000, unix_ms: 1_700_000_000_000 };

struct Rig {
    inventory: Inventory,
    plane: FakeDataPlane,
    notes: Vec<FailoverNote>,
    events: Events,
}

impl Rig {
    fn new() -> Self {
        let inventory = inventory();
        let plane = FakeDataPlane::fresh(&inventory);
        Self { inventory, plane, notes: Vec::new(), events: Events::new() }
    }

    fn operate(&mut self, operation: &Operation) -> bool {
        let condition = |_| plan::condition(edge_common::abi::State::default());
        operate(&self.inventory, &mut self.plane, condition, &self.events, operation).unwrap();
        note(&mut self.notes, &self.inventory, &self.plane, operation, NOW)
    }

    fn fail_over(&mut self, to: &str, terms: Terms) -> bool {
        self.operate(&Operation::Failover { service: "web".to_owned(), to: to.to_owned(), evacuate: false, terms })
    }

    fn is_over(&self, after_ms: u64) -> bool {
        over(&self.notes, &self.inventory, &self.plane, &[], NOW.boot_ms + after_ms).is_some()
    }

    fn forget(&mut self, evacuations: &[Evacuation]) -> bool {
        forget_others(&mut self.notes, &self.inventory, &self.plane, evacuations)
    }
}

fn terms() -> Terms {
    Terms { reason: Some("lossy".to_owned()), for_ms: Some(5000) }
}

#[test]
fn a_failover_has_a_reason_and_an_end_until_it_is_taken_back() {
    let mut rig = Rig::new();
    assert!(rig.fail_over("provider-b", terms()));
    assert_eq!((rig.notes[0].service.as_str(), rig.notes[0].reason.as_deref()), ("web", Some("lossy")));
    let event = rig.events.last(1).remove(0).message;
    assert!(event.ends_with("; it is taken back in 5s: lossy"), "{event}");
    assert!(!rig.is_over(4999) && rig.is_over(5000) && !rig.forget(&[]));
    // A repeated failover has the terms of the last one.
    assert!(rig.fail_over("provider-b", Terms { for_ms: None, ..terms() }));
    assert!(!rig.is_over(u64::MAX / 2) && rig.notes.len() == 1);
    assert!(rig.operate(&Operation::Failback { service: "web".to_owned() }) && rig.notes.is_empty());
    // A failover without terms needs no note, and one to the first pool is none.
    assert!(!rig.fail_over("provider-b", Terms::default()));
    assert!(!rig.fail_over("provider-a", terms()) && rig.notes.is_empty());
}

#[test]
fn a_note_goes_with_its_failover_unless_an_evacuation_has_displaced_that() {
    let mut rig = Rig::new();
    rig.fail_over("provider-b", terms());
    rig.plane.set_failover(1, edge_common::abi::Failover::default()).unwrap();
    let base = Base { service: "web".to_owned(), first: 1, evacuate: false };
    let evacuation = Evacuation { before: vec![base], ..Evacuation::default() };
    assert!(!rig.is_over(5000));
    let evacuations = [evacuation];
    assert!(!rig.forget(&evacuations), "it comes back");
    let over = |after_ms| over(&rig.notes, &rig.inventory, &rig.plane, &evacuations, NOW.boot_ms + after_ms).is_some();
    assert!(!over(4999) && over(5000), "and its time goes on");
    assert!(rig.forget(&[]) && rig.notes.is_empty());
}
