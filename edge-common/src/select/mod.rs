//! Selection: which backend gets a packet.
//!
//! A slot's *owner* serves its established flows; the best *candidate* of the first eligible pool, the slot's [`pick`], receives
//! its new ones. While the service is stable, owner and pick are the same, and a packet costs one read of the owner:
//! [`stable_owner`]. After a change they differ in some slots, for a time. Then flows are recorded, but only where the owner is
//! the wrong answer, now or after the slot's handover: [`choose()`]. So a flow whose backend lives stays there.
//!
//! ```text
//! packet      record              owner                pick(NEW)          goes to
//! starts      takes new flows                                             the record's backend
//!             none, or replaced                        is the owner       the owner
//!                                                      another one        the pick, recorded
//!                                 alive                no room            the owner; the slot is marked as unrecorded
//!                                 dead                 no room            the pick, which becomes the owner
//! runs        its backend lives                                           the record's backend
//!             its backend died                                            the pick; the record is removed
//!             none                alive                is the owner       the owner
//!                                 alive                another one        the owner, recorded, or marked as unrecorded
//!                                 dead                                    the pick, which answers with a RST
//! ```
//!
//! No record ever makes room for another one. So a flood of new flows costs them the choice of their backend, and costs no
//! flow its backend. Only the controller changes owners, but for the one case above.

mod owner;
mod pools;
mod choose;
pub mod flow;

pub use self::{
    choose::{FlowQuery, choose},
    owner::stable_owner,
    pools::{eligible, pick},
};
