//! Evidence of a backend's health that the packets of clients have left in the maps.

use std::{mem::offset_of, sync::atomic::Ordering, time::Duration};

use edge_common::{
    abi::{BackendNumber, Evidence},
    evidence::{tick_ns, ticks},
};

use super::PinnedMaps;
use crate::health::Signs;

impl PinnedMaps {
    /// The evidence about a backend; `now` is `CLOCK_MONOTONIC`. `None` for a number past the end of the map.
    pub(crate) fn signs(&self, number: BackendNumber, now: Duration) -> Option<Signs> {
        let backend = self.maps.backends.read(number.into())?;
        let evidence = self.maps.evidence.read(number.into())?;
        // The packet path reads a coarse clock, which may be a tick behind; a number that was given anew has old values.
        let now = ticks(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        let waited = u32::try_from(now.wrapping_sub(backend.asked).cast_signed()).unwrap_or(0);
        let waited = if backend.is_waited_for() { tick_ns(waited) } else { 0 };
        Some(Signs {
            waited: Duration::from_nanos(waited),
            refused: evidence.refused,
            unreachable: evidence.unreachable,
        })
    }

    /// The number of SYNs to a backend that were sent again, and the bits of the clients that did so since the last call.
    pub(crate) fn take_repeated(&self, number: BackendNumber) -> Option<(u32, u64)> {
        let clients = self.maps.evidence.atomic_u64(number.into(), offset_of!(Evidence, repeaters))?;
        // A bit that a packet sets at the same time may get lost, or come again.
        let clients = clients.swap(0, Ordering::Relaxed);
        Some((self.maps.evidence.read(number.into())?.repeated, clients))
    }
}
