//! `quic_cid`: where the connection IDs of QUIC have the server number.

use edge_common::abi::Tracking;

use super::{Ports, Protocol, QuicCid, problems::Read, schema::QUIC_CID, values, walk::Table};

/// Bits of the longest connection ID.
const LONGEST: i64 = 160;
/// Bits of the longest server number.
const LONGEST_NUMBER: i64 = 32;

/// Reads `quic_cid` of a service.
pub(super) fn read(table: &Table<'_>) -> Read<Option<QuicCid>> {
    let Some(own) = table.table("quic_cid", &QUIC_CID)? else { return Ok(None) };
    let scheme = own.required("scheme", "scheme = \"plain\"", values::choice(&[("plain", ())]));
    let bits = own.optional("unit", values::choice(&[("bytes", 8), ("bits", 1)]))?.map_or(8, |found| found.value);
    let offset = own.required("offset", "offset = 1", values::integer::<i64>(0..=LONGEST / bits - 1, "offset = 1"));
    let length = own.required("length", "length = 2", values::integer::<i64>(1..=LONGEST_NUMBER / bits, "length = 2"));
    scheme?;
    let (offset, length) = (offset?.value, length?);
    if (offset + length.value) * bits > LONGEST {
        let what = "the server number ends behind the longest connection ID, which has 20 bytes";
        return Err(own.problems.add(length.at, what, "a smaller `offset` or `length`"));
    }
    let bits = |number: i64| u8::try_from(number * bits).unwrap_or_default();
    Ok(Some(QuicCid { offset: bits(offset), length: bits(length.value) }))
}

/// Whether ports of a service are for QUIC.
pub(super) fn is_quic(ports: &Ports) -> bool {
    ports.protocol == Protocol::Udp && ports.tracking == Tracking::Quic
}
