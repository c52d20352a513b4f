//! The health service of gRPC, version 1: `grpc.health.v1.Health/Check`.

use hyper::{HeaderMap, Request, body::Bytes, header};

use super::{
    super::dial::Dial,
    http::{AGENT, default_host},
    http2,
    tls::Handshake,
};
use crate::health::Verdict;

/// `HealthCheckResponse.ServingStatus`.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

pub(super) async fn look(
    dial: &Dial<'_>,
    host: Option<&str>,
    service: &str,
    handshake: Option<&Handshake>,
) -> Result<(), Verdict> {
    let (scheme, own) = if handshake.is_some() { ("https", 443) } else { ("http", 80) };
    let host = host.map_or_else(|| default_host(dial.address, dial.port, own), str::to_owned);
    let request = Request::post(format!("{scheme}://{host}/grpc.health.v1.Health/Check"))
        .header(header::USER_AGENT, AGENT)
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(())
        .map_err(|error| Verdict::Inconclusive(format!("no valid request: {error}")))?;
    let body = Bytes::from(question(service));
    let answer = match handshake {
        None => http2::exchange(dial.connect().await?, request, body).await?,
        Some(handshake) => http2::exchange(handshake.shake(dial).await?, request, body).await?,
    };
    if answer.status != 200 {
        return Err(Verdict::Fail(format!("HTTP status {}, not 200", answer.status)));
    }
    let status = |headers: &HeaderMap| Some(headers.get("grpc-status")?.to_str().ok()?.to_owned());
    match answer.trailers.as_ref().and_then(status).or_else(|| status(&answer.headers)).as_deref() {
        Some("0") => {}
        Some(code) => return Err(Verdict::Fail(format!("gRPC status {code}{}", meaning(code)))),
        None => return Err(Verdict::Fail("not gRPC: the answer has no status".to_owned())),
    }
    match serving(&answer.body) {
        Some(SERVING) => Ok(()),
        Some(other) => {
            let name = usize::try_from(other).ok().and_then(|other| STATUSES.get(other)).unwrap_or(&"of no known name");
            Err(Verdict::Fail(format!("gRPC health is {name}, not SERVING")))
        }
        None => Err(Verdict::Fail("not gRPC: the answer is no message".to_owned())),
    }
}

/// Explanations of gRPC codes that health checks are answered with.
fn meaning(code: &str) -> &'static str {
    match code {
        "5" => " (the service is not known to the server)",
        "12" => " (the server has no health service)",
        "14" => " (unavailable)",
        _ => "",
    }
}

/// A `HealthCheckRequest` with its prefix (no compression, length); field 1 is the service's name.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        // The configuration limits names to 127 bytes, so the length is a varint of one byte.
        message.push(u8::try_from(service.len()).unwrap_or(127));
        message.extend(service.bytes().take(127));
    }
    let length = u32::try_from(message.len()).unwrap_or(0);
    [&[0][..], &length.to_be_bytes(), &message].concat()
}

/// The status in a `HealthCheckResponse` with its prefix; a missing field has its default, 0.
fn serving(body: &[u8]) -> Option<u64> {
    let (prefix, rest) = body.split_at_checked(5)?;
    let length = usize::try_from(u32::from_be_bytes(prefix.get(1..)?.try_into().ok()?)).ok()?;
    if prefix.first() != Some(&0) {
        return None;
    }
    match rest.get(..length)? {
        [] => Some(0),
        [0x08, value @ ..] => varint(value),
        _ => None,
    }
}

fn varint(bytes: &[u8]) -> Option<u64> {
    let mut value = 0;
    for (position, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_of_the_protocol() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("web"), [0, 0, 0, 0, 5, 0x0a, 3, b'w', b'e', b'b']);
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving(&[0, 0, 0, 0, 2, 8, 2]), Some(2));
        assert_eq!(serving(&[0, 0, 0, 0, 0]), Some(0));
        for odd in [&[][..], &[0, 0, 0, 0, 9, 8, 1], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 2, 8, 0x81]] {
            assert_eq!(serving(odd), None, "{odd:?}");
        }
    }
}
