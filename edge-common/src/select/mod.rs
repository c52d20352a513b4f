//! Selection: which backend gets a packet.
//!
//! A slot's *owner* serves its established flows; the best *candidate* of the first eligible pool, the slot's [`pick`],
//! receives its new ones. While a slot is stable, owner and pick are the same, and a packet costs one read of the slot:
//! [`stable_owner`]. After a change, owner and pick differ in some slots for a time. In these slots
//! ([`Slot::look`](crate::abi::Slot::look)) flows are recorded, but only flows for which the owner is the wrong
//! backend, now or after the slot's handover: [`choose()`]. So a flow stays with its backend while the backend lives,
//! and packets of other slots pay nothing for it.
//!
//! ```text
//! packet      record              owner                pick(NEW)          goes to
//! starts      takes new flows                                             the record's backend
//!             none, or replaced                        is the owner       the owner
//!                                                      another one        the pick, recorded
//!                                 alive                no room            the owner; the slot is marked as unrecorded
//!                                 takes no new flows   table is full      the pick, which becomes the owner
//!                                 dead                 no room            the pick, which becomes the owner
//! either      its backend is the pick                                     the record's backend
//! runs        its backend lives                                           the record's backend
//!             its backend died                                            the pick; the record is removed
//!             none                alive                is the owner       the owner
//!                                 alive                another one        the owner, recorded, or marked as unrecorded
//!                                 dead                                    the pick, which answers with a RST
//! ```
//!
//! The record of an active flow is never evicted for another one. So under a flood new flows may go to their slot's
//! owner instead of the pick, but no established flow loses its backend, with one exception: if the table is full and
//! the owner is drained, the pick becomes the owner, and the slot's flows without a record move. Only the controller changes owners,
//! except in the two cases of the table in which the pick becomes the owner of a slot.

mod owner;
mod pools;
mod sign;
mod record;
mod choose;
pub mod connection;
pub mod flow;

pub use self::{
    choose::{Choice, FlowQuery, choose, follows},
    owner::stable_owner,
    pools::{eligible, pick},
    record::Recorded,
    sign::Sign,
};
