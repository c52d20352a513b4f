//! Checks that a TCP connection is accepted.

use super::super::dial::Dial;
use crate::health::Verdict;

pub(super) async fn look(dial: &Dial<'_>) -> Result<(), Verdict> {
    dial.connect().await.map(drop)
}
