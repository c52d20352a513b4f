//! Reads the keys of a probe that depend on its kind.

use std::{path::PathBuf, str::FromStr as _};

use hyper::http::uri::{Authority, PathAndQuery};
use rustls::pki_types::ServerName;

use super::{
    kinds::{BodyMatch, DnsProbe, ProbeKind, RCODES, Rcode, TlsProbe},
    problems::Read,
    values::shorten,
    values::{self, Entry, Wrong},
    walk::Table,
};

/// Names of the kinds in the file, and the keys of each kind.
const KINDS: [(&str, Type, &[&str]); 9] = [
    ("http", Type::Http, &["path", "status", "host", "body", "body_regex"]),
    (
        "https",
        Type::Https,
        &["path", "status", "host", "body", "body_regex", "server_name", "verify", "ca", "warn_days", "alpn"],
    ),
    ("tcp", Type::Tcp, &[]),
    ("tls", Type::Tls, &["server_name", "verify", "ca", "warn_days", "alpn"]),
    ("icmp", Type::Icmp, &[]),
    ("udp", Type::Udp, &["send", "expect"]),
    ("dns", Type::Dns, &["query", "query_type", "rcode", "answer", "transport"]),
    ("command", Type::Command, &["command", "user"]),
    ("grpc", Type::Grpc, &["service", "host", "tls", "server_name", "verify", "ca", "warn_days"]),
];

const DEFAULT_WARN_DAYS: u16 = 14;
const DEFAULT_USER: &str = "nobody";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Http,
    Https,
    Tcp,
    Tls,
    Icmp,
    Udp,
    Dns,
    Command,
    Grpc,
}

/// The kind, and whether it needs a port.
pub(super) fn read(table: &Table<'_>) -> Read<(ProbeKind, bool)> {
    let types: Vec<_> = KINDS.iter().map(|(name, kind, _)| (*name, *kind)).collect();
    let kind = table.required("type", "type = \"http\" or type = \"tcp\"", values::choice(&types))?.value;
    let keys = refuse_others(table, kind);
    let read = match kind {
        Type::Http => http(table, None),
        Type::Https => tls(table, &["h2", "http/1.1"]).and_then(|tls| http(table, Some(tls))),
        Type::Tcp => Ok(ProbeKind::Tcp),
        Type::Tls => tls(table, &[]).map(|tls| ProbeKind::Tls { tls }),
        Type::Icmp => Ok(ProbeKind::Icmp),
        Type::Udp => udp(table),
        Type::Dns => dns(table),
        Type::Command => command(table),
        Type::Grpc => grpc(table),
    };
    keys?;
    Ok((read?, !matches!(kind, Type::Icmp | Type::Command)))
}

/// Refuses keys that belong to other kinds.
fn refuse_others(table: &Table<'_>, kind: Type) -> Read<()> {
    let mut result = Ok(());
    let mut seen: Vec<&str> = Vec::new();
    let own: &[&str] = KINDS.iter().find(|(_, known, _)| *known == kind).map_or(&[], |(_, _, keys)| keys);
    for key in KINDS.iter().flat_map(|(_, _, keys)| *keys) {
        if own.contains(key) || seen.contains(key) || !table.has(key) {
            continue;
        }
        seen.push(key);
        let has: Vec<_> = KINDS.iter().filter(|(_, _, keys)| keys.contains(key)).map(|(name, ..)| *name).collect();
        let this = KINDS.iter().find(|(_, known, _)| *known == kind).map_or("", |(name, ..)| name);
        let what = format!("`{key}` is for {} probes, this one is {this}", has.join(", "));
        let write = format!("type = \"{}\", or remove `{key}`", has.join("\" or \""));
        result = result.and(table.problems.needless(table.place(key), what, write));
    }
    result
}

fn http(table: &Table<'_>, tls: Option<TlsProbe>) -> Read<ProbeKind> {
    let path = table.optional("path", |entry: &Entry<'_>| {
        let example = "path = \"/healthz\"";
        let text = entry.string(example)?;
        let clean = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if clean && text.len() <= 1024 && PathAndQuery::from_str(text).is_ok_and(|parsed| parsed.as_str() == text) {
            return Ok(text.to_owned());
        }
        let why = "which is not a path: a slash, then at most 1,023 characters as they stand in a URL";
        Err(entry.wrong(why, example))
    });
    let host = table.optional("host", host);
    let status = table.optional("status", statuses);
    let text = table.optional("body", |entry: &Entry<'_>| text_of(entry, "body = \"ok\"", 1024));
    let pattern = table.optional("body_regex", |entry: &Entry<'_>| {
        let example = "body_regex = \"^(ok|ready)\"";
        let pattern = text_of(entry, example, 1024)?;
        match regex::bytes::Regex::new(&pattern) {
            Ok(_) => Ok(pattern),
            Err(_) => Err(entry.wrong("which is not a regular expression", example)),
        }
    });
    let body = match (text?, pattern?) {
        (Some(_), Some(pattern)) => {
            let what = "`body` and `body_regex` are both there";
            return Err(table.problems.add(pattern.at, what, "one of the two"));
        }
        (Some(text), None) => Some(BodyMatch::Text(text.value)),
        (None, Some(pattern)) => Some(BodyMatch::Regex(pattern.value)),
        (None, None) => None,
    };
    Ok(ProbeKind::Http {
        path: path?.map_or_else(|| "/".to_owned(), |found| found.value),
        status: status?.map_or_else(|| vec![200], |found| found.value),
        host: host?.map(|found| found.value),
        body,
        tls,
    })
}

/// A Host header.
pub(super) fn host(entry: &Entry<'_>) -> Result<String, Wrong> {
    let example = format!("{} = \"www.example.org\"", entry.key);
    let text = entry.string(&example)?;
    let sound = Authority::from_str(text).is_ok_and(|authority| !authority.host().is_empty());
    if sound && text.len() <= 255 && !text.contains('@') {
        return Ok(text.to_owned());
    }
    Err(entry.wrong("which can't be a Host header", example))
}

/// Reads one status or a list. A status below 200 never ends an exchange, so none can be expected.
fn statuses(entry: &Entry<'_>) -> Result<Vec<u16>, Wrong> {
    let example = "status = 200 or status = [200, 204]";
    let one = |entry: &Entry<'_>| values::integer(200..=599, example)(entry);
    if !matches!(entry.value, toml::de::DeValue::Array(_)) {
        return Ok(vec![one(entry)?]);
    }
    Ok(values::list(entry, 1..=32, example, one)?.into_iter().map(|(_, status)| status).collect())
}

fn tls(table: &Table<'_>, alpn: &[&str]) -> Read<TlsProbe> {
    let server_name = table.optional("server_name", |entry: &Entry<'_>| {
        let example = "server_name = \"www.example.org\"";
        let text = entry.string(example)?;
        match ServerName::try_from(text) {
            Ok(ServerName::DnsName(_)) => Ok(text.to_owned()),
            _ => Err(entry.wrong("which is not a host name", example)),
        }
    });
    let verify = table.optional("verify", values::boolean);
    let ca = table.optional("ca", ca);
    let warn_days = table.optional("warn_days", values::integer(0..=365, "warn_days = 14"));
    let offered = table.optional("alpn", |entry: &Entry<'_>| {
        let example = "alpn = [\"h2\", \"http/1.1\"]";
        let one = |entry: &Entry<'_>| {
            let text = text_of(entry, example, 255)?;
            // The server may choose any protocol on the list, so the probe must speak each of them.
            if alpn.is_empty() || alpn.contains(&text.as_str()) {
                return Ok(text);
            }
            Err(entry.wrong("which this probe can't speak", example))
        };
        Ok(values::list(entry, 0..=8, example, one)?.into_iter().map(|(_, text)| text).collect())
    });
    let (verify, ca) = (verify?.is_none_or(|found| found.value), ca?);
    if let Some(ca) = ca.as_ref().filter(|_| !verify) {
        table.problems.needless(ca.at, "`ca` without a check of certificates", "verify = true, or remove `ca`")?;
    }
    Ok(TlsProbe {
        server_name: server_name?.map(|found| found.value),
        verify,
        ca: ca.map(|found| found.value),
        warn_days: warn_days?.map_or(DEFAULT_WARN_DAYS, |found| found.value),
        alpn: offered?.map_or_else(|| alpn.iter().map(|name| (*name).to_owned()).collect(), |found| found.value),
    })
}

fn udp(table: &Table<'_>) -> Read<ProbeKind> {
    let send = table.required("send", "send = \"ping\" or send = \"\\\\x00\\\\x01\"", |entry: &Entry<'_>| {
        bytes(entry, "send = \"ping\"", 0)
    });
    let expect = table.optional("expect", |entry: &Entry<'_>| bytes(entry, "expect = \"pong\"", 1));
    Ok(ProbeKind::Udp { send: send?.value, expect: expect?.map(|found| found.value) })
}

fn dns(table: &Table<'_>) -> Read<ProbeKind> {
    let name = table.required("query", "query = \"example.org\"", |entry: &Entry<'_>| {
        let example = "query = \"example.org\"";
        let text = text_of(entry, example, 253)?;
        match hickory_proto::rr::Name::from_ascii(&text) {
            Ok(_) => Ok(text),
            Err(_) => Err(entry.wrong("which is not a domain name", example)),
        }
    });
    let record = table.optional("query_type", |entry: &Entry<'_>| {
        let example = "query_type = \"A\"";
        let text = entry.string(example)?.to_uppercase();
        match hickory_proto::rr::RecordType::from_str(&text) {
            Ok(_) => Ok(text),
            Err(_) => Err(entry.wrong("which is not a type of records", example)),
        }
    });
    let rcode = table.optional("rcode", values::choice(&RCODES));
    let answer = table.optional("answer", |entry: &Entry<'_>| text_of(entry, "answer = \"192.0.2.1\"", 255));
    let transport = table.optional("transport", values::choice(&[("udp", false), ("tcp", true)]));
    Ok(ProbeKind::Dns(DnsProbe {
        name: name?.value,
        record: record?.map_or_else(|| "A".to_owned(), |found| found.value),
        rcode: rcode?.map_or(Rcode(0), |found| found.value),
        answer: answer?.map(|found| found.value),
        tcp: transport?.is_some_and(|found| found.value),
    }))
}

fn command(table: &Table<'_>) -> Read<ProbeKind> {
    let (argv, user) = program(table, "command = [\"/usr/local/bin/check\", \"--deep\"]")?;
    Ok(ProbeKind::Command { argv, user })
}

/// The program of `command`, with its arguments, and the `user` that runs it.
pub(super) fn program(table: &Table<'_>, example: &str) -> Read<(Vec<String>, String)> {
    let argv = table.required("command", example, |entry: &Entry<'_>| {
        let one = |entry: &Entry<'_>| {
            let text = entry.string(example)?;
            if text.contains('\0') || text.len() > 4096 {
                return Err(entry.wrong("which can't be an argument", example));
            }
            Ok(text.to_owned())
        };
        let argv = values::list(entry, 1..=64, example, one)?;
        // There is no shell that would search for the program.
        if let Some((at, program)) = argv.first().filter(|(_, program)| !program.starts_with('/')) {
            let what =
                format!("`command` begins with \"{}\", which is not the absolute path of a program", shorten(program));
            return Err(Wrong { what, write: example.to_owned(), at: Some(*at) });
        }
        Ok(argv.into_iter().map(|(_, text)| text).collect())
    });
    let user = table.optional("user", |entry: &Entry<'_>| text_of(entry, "user = \"nobody\"", 32));
    let user = user?.map_or_else(|| DEFAULT_USER.to_owned(), |found| found.value);
    Ok((argv?.value, user))
}

fn grpc(table: &Table<'_>) -> Read<ProbeKind> {
    let service = table.optional("service", |entry: &Entry<'_>| text_of(entry, "service = \"shop.Orders\"", 127));
    let host = table.optional("host", host);
    let secure = table.optional("tls", values::boolean)?.is_some_and(|found| found.value);
    let mut keys = Ok(());
    for key in ["server_name", "verify", "ca", "warn_days"].into_iter().filter(|key| !secure && table.has(key)) {
        let what = format!("`{key}` is for probes with TLS");
        keys = keys.and(table.problems.needless(table.place(key), what, format!("tls = true, or remove `{key}`")));
    }
    keys?;
    let tls = secure.then(|| tls(table, &["h2"])).transpose()?;
    Ok(ProbeKind::Grpc {
        service: service?.map(|found| found.value).unwrap_or_default(),
        host: host?.map(|found| found.value),
        tls,
    })
}

/// A file with certificate authorities.
pub(super) fn ca(entry: &Entry<'_>) -> Result<PathBuf, Wrong> {
    let example = "ca = \"/etc/edge/ca.pem\"";
    let path = PathBuf::from(entry.string(example)?);
    if path.is_absolute() { Ok(path) } else { Err(entry.wrong("which is not an absolute path", example)) }
}

/// Reads text of 1 to `longest` bytes.
fn text_of(entry: &Entry<'_>, example: &str, longest: usize) -> Result<String, Wrong> {
    let text = entry.string(example)?;
    if (1..=longest).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(entry.wrong(&format!("not 1 to {longest} bytes long"), example))
}

/// Reads bytes, written as text in which `\xNN` is any byte and `\\` a backslash.
fn bytes(entry: &Entry<'_>, example: &str, least: usize) -> Result<Vec<u8>, Wrong> {
    const LONGEST: usize = 1400;
    let text = entry.string(example)?;
    let Some(bytes) = unescape(text.as_bytes()) else {
        return Err(entry.wrong("in which a backslash is not followed by xNN or a backslash", example));
    };
    if (least..=LONGEST).contains(&bytes.len()) {
        return Ok(bytes);
    }
    Err(entry.wrong(&format!("not {least} to {LONGEST} bytes long"), example))
}

fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    while let [first, rest @ ..] = text {
        text = match (first, rest) {
            (b'\\', [b'\\', rest @ ..]) => {
                bytes.push(b'\\');
                rest
            }
            (b'\\', [b'x', high, low, rest @ ..]) => {
                let digits = [*high, *low];
                let digits = str::from_utf8(&digits).ok().filter(|digits| !digits.starts_with('+'))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest
            }
            (b'\\', _) => return None,
            (byte, rest) => {
                bytes.push(*byte);
                rest
            }
        };
    }
    Some(bytes)
}
