//! A query to a name server, over UDP or TCP.

use std::io;

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{
    classify::{Stage, classify},
    dial::Dial,
};
use crate::{config::DnsProbe, health::Verdict};

pub(super) async fn look(dial: &Dial<'_>, dns: &DnsProbe) -> Result<(), Verdict> {
    let question = question(dns).ok_or_else(|| Verdict::Inconclusive("no valid question".to_owned()))?;
    let bytes = question.to_vec().map_err(|error| Verdict::Inconclusive(format!("no valid question: {error}")))?;
    let mut answer = if dns.tcp { None } else { Some(by_udp(dial, &question, &bytes).await?) };
    // A truncated answer is queried again over TCP, as every resolver does.
    if answer.as_ref().is_none_or(|answer| answer.truncated() && dns.answer.is_some()) {
        answer = Some(by_tcp(dial, &bytes).await?);
    }
    answer.map_or(Ok(()), |answer| judge(dns, &question, &answer))
}

fn question(dns: &DnsProbe) -> Option<Message> {
    let name = Name::from_ascii(&dns.name).ok()?;
    let kind: RecordType = dns.record.parse().ok()?;
    let mut message = Message::new();
    message.set_id(rand::random()).set_message_type(MessageType::Query).set_op_code(OpCode::Query);
    message.set_recursion_desired(true).add_query(Query::query(name, kind));
    Some(message)
}

/// Sends the query, and receives the answer with its ID; other answers are ignored.
async fn by_udp(dial: &Dial<'_>, question: &Message, bytes: &[u8]) -> Result<Message, Verdict> {
    let datagrams = dial.datagrams().await?;
    let socket = &datagrams.socket;
    socket.send(bytes).await.map_err(|error| classify(&error, Stage::Local))?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|error| classify(&error, Stage::Network))?;
        let answer = read(buffer.get(..length).unwrap_or_default())?;
        if answer.id() == question.id() {
            return Ok(answer);
        }
    }
}

async fn by_tcp(dial: &Dial<'_>, bytes: &[u8]) -> Result<Message, Verdict> {
    let mut stream = dial.connect().await?;
    let network = |error: io::Error| classify(&error, Stage::Network);
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    stream.write_all(&[&length, bytes].concat()).await.map_err(network)?;
    let length = stream.read_u16().await.map_err(network)?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await.map_err(network)?;
    read(&answer)
}

fn read(bytes: &[u8]) -> Result<Message, Verdict> {
    Message::from_vec(bytes).map_err(|error| Verdict::Fail(format!("not DNS: {error}")))
}

fn judge(dns: &DnsProbe, question: &Message, answer: &Message) -> Result<(), Verdict> {
    if answer.message_type() != MessageType::Response || answer.id() != question.id() {
        return Err(Verdict::Fail("not an answer to the question".to_owned()));
    }
    let code = u16::from(answer.response_code());
    if code != dns.rcode.0 {
        return Err(Verdict::Fail(format!("DNS returned {}, not {}", rcode(code), rcode(dns.rcode.0))));
    }
    let Some(expected) = &dns.answer else { return Ok(()) };
    if answer.answers().iter().any(|record| is_expected(record.data(), expected)) {
        return Ok(());
    }
    let texts: Vec<_> = answer.answers().iter().map(|record| record.data().to_string()).collect();
    let texts = if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") };
    Err(Verdict::Fail(format!("DNS answers {texts}, not {expected}")))
}

/// Whether a record has the expected content: an address in any notation, a text with or without its quotes, or names
/// whose case and final dots do not matter.
fn is_expected(data: &RData, expected: &str) -> bool {
    if let Some(address) = data.ip_addr() {
        return expected.parse() == Ok(address);
    }
    if let RData::TXT(text) = data {
        let text = text.txt_data().concat();
        let unquoted = expected.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        return text == expected.as_bytes() || unquoted.is_some_and(|unquoted| text == unquoted.as_bytes());
    }
    let plain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    plain(&data.to_string()) == plain(expected)
}

/// The name of a response code; a code without a name is shown as a number.
fn rcode(code: u16) -> String {
    let known = crate::config::RCODES.iter().find(|(_, known)| known.0 == code);
    known.map_or_else(|| format!("code {code}"), |(name, _)| name.to_uppercase())
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, TXT};

    use super::*;

    #[test]
    fn an_answer_is_compared_by_its_meaning() {
        let name = |text: &str| text.parse().expect("a name");
        let v6 = RData::AAAA(AAAA("2001:db8::1".parse().expect("an address")));
        let text = RData::TXT(TXT::new(vec!["v=spf1 ".to_owned(), "-all".to_owned()]));
        for (data, expected, is) in [
            (&RData::A(A::new(192, 0, 2, 1)), "192.0.2.1", true),
            (&RData::A(A::new(192, 0, 2, 1)), "192.0.2.11", false),
            (&v6, "2001:db8::1", true),
            (&v6, "2001:DB8:0:0::1", true),
            (&v6, "2001:db8::2", false),
            (&RData::CNAME(CNAME(name("Web.Example.org."))), "web.example.org", true),
            (&RData::CNAME(CNAME(name("web.example.org."))), "web.example.net", false),
            (&RData::MX(MX::new(10, name("mail.example.org."))), "10 MAIL.example.org", true),
            (&text, "v=spf1 -all", true),
            (&text, "\"v=spf1 -all\"", true),
            (&text, "V=spf1 -all", false),
        ] {
            assert_eq!(is_expected(data, expected), is, "{data} {expected}");
        }
    }
}
