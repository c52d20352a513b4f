//! A datagram, and its answer: the expected bytes, or at least no error that the port is closed.

use super::super::{
    classify::{Stage, classify},
    dial::Dial,
};
use crate::health::Verdict;

/// Maximum size of a datagram.
const LONGEST: usize = 65_535;

pub(super) async fn look(dial: &Dial<'_>, send: &[u8], expect: Option<&[u8]>) -> Result<(), Verdict> {
    let datagrams = dial.datagrams().await?;
    let socket = &datagrams.socket;
    socket.send(send).await.map_err(|error| classify(&error, Stage::Local))?;
    let mut answer = vec![0; LONGEST];
    let length = socket.recv(&mut answer).await.map_err(|error| classify(&error, Stage::Network))?;
    let answer = answer.get(..length).unwrap_or_default();
    match expect {
        Some(expect) if !answer.windows(expect.len()).any(|part| part == expect) => {
            Err(Verdict::Fail(format!("the answer of {length} bytes has not what is expected")))
        }
        _ => Ok(()),
    }
}
