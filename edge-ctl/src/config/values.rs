//! Readers of single values of the file: each takes an entry and returns a value, or the problem and what to write
//! instead.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use toml::de::DeValue;

use super::{foreign, problems::Problems, schema::all_nearest};

/// A key, its value, and how the value is written in the file.
pub(super) struct Entry<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a DeValue<'a>,
    pub(super) source: &'a str,
    /// Whether the value is an item of a list, and not the whole value of the key.
    pub(super) is_item: bool,
    pub(super) problems: &'a Problems<'a>,
}

/// Why a value is refused.
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) write: String,
    /// Place of the problem, if it is not the start of the value.
    pub(super) at: Option<usize>,
}

impl Entry<'_> {
    pub(super) const fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    /// How to write `value` in place of this one.
    pub(super) fn written(&self, value: impl fmt::Display) -> String {
        if self.is_item { value.to_string() } else { format!("{} = {value}", self.key) }
    }

    /// The value is of the right type, but `why`.
    pub(super) fn wrong(&self, why: &str, write: impl Into<String>) -> Wrong {
        Wrong { what: format!("`{}` is {}, {why}", self.key, self.source), write: write.into(), at: None }
    }

    /// The value is of another type than `wanted`.
    fn mistyped(&self, wanted: &str, write: impl Into<String>) -> Wrong {
        let what = match self.value {
            DeValue::Array(_) | DeValue::Table(_) => {
                format!("`{}` is {}; it must be {wanted}", self.key, kind(self.value))
            }
            value => format!("`{}` is {}, {}; it must be {wanted}", self.key, self.source, kind(value)),
        };
        Wrong { what, write: write.into(), at: None }
    }

    /// A string; `example` is a whole line of the file.
    pub(super) fn string(&self, example: &str) -> Result<&str, Wrong> {
        match self.value {
            DeValue::String(text) => Ok(text),
            _ => Err(self.mistyped("a string in quotes", example)),
        }
    }
}

/// A whole number in `range`.
pub(super) fn integer<T: TryFrom<i64>>(
    range: RangeInclusive<i64>,
    example: &str,
) -> impl FnOnce(&Entry<'_>) -> Result<T, Wrong> {
    let example = example.to_owned();
    move |entry| match entry.value {
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| {
                let write = foreign::value(entry.key, number.as_str()).map_or(example, str::to_owned);
                entry.wrong(&format!("not from {} to {}", range.start(), range.end()), write)
            }),
        DeValue::String(text) if text.parse::<i64>().is_ok_and(|number| range.contains(&number)) => {
            Err(entry.mistyped("a number", entry.written(text) + ", without quotes"))
        }
        DeValue::String(text) => {
            let write = foreign::value(entry.key, text).map_or(example, str::to_owned);
            Err(entry.mistyped("a whole number", write))
        }
        _ => Err(entry.mistyped("a whole number", example)),
    }
}

/// A decimal number without sign and leading zeros.
pub(super) fn plain_number<T: FromStr>(text: &str) -> Option<T> {
    let is_plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// `true` or `false`.
pub(super) fn boolean(entry: &Entry<'_>) -> Result<bool, Wrong> {
    match entry.value {
        DeValue::Boolean(value) => Ok(*value),
        DeValue::String(text) if matches!(text.as_ref(), "true" | "false") => {
            Err(entry.mistyped("true or false", entry.written(text) + ", without quotes"))
        }
        _ => Err(entry.mistyped("true or false", format!("{key} = true or {key} = false", key = entry.key))),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(words: &[(&'static str, T)]) -> impl FnOnce(&Entry<'_>) -> Result<T, Wrong> {
    move |entry| {
        let quoted = |word: &str| entry.written(format_args!("\"{word}\""));
        let all = words.iter().map(|(word, _)| quoted(word)).collect::<Vec<_>>().join(" or ");
        let text = entry.string(&all)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Ok(*value);
        }
        let near = all_nearest(text, words.iter().map(|(word, _)| *word));
        let write = match (foreign::value(entry.key, text), &near[..]) {
            (Some(answer), _) => answer.to_owned(),
            (None, []) => all,
            (None, near) => near.iter().copied().map(quoted).collect::<Vec<_>>().join(" or "),
        };
        Err(entry.wrong("which is not one of its values", write))
    }
}

/// A name of a pool, backend or service.
pub(super) fn name(entry: &Entry<'_>) -> Result<String, Wrong> {
    const RULE: &str = "1 to 32 of a-z, 0-9, dot, underscore and hyphen";
    let text = entry.string("name = \"a1\"")?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if (1..=32).contains(&text.len()) && text.chars().all(allowed) {
        return Ok(text.to_owned());
    }
    let near: String = text.to_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).take(32).collect();
    let write = if near.is_empty() { RULE.to_owned() } else { format!("name = \"{near}\" ({RULE})") };
    Err(entry.wrong("which is not a name", write))
}

/// A network interface's name, by the kernel's rules (`dev_valid_name`).
pub(super) fn interface_name(entry: &Entry<'_>) -> Result<String, Wrong> {
    let example = format!("{} = \"eth0\"", entry.key);
    let text = entry.string(&example)?;
    let allowed = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if (1..=15).contains(&text.len()) && text.chars().all(allowed) && text != "." && text != ".." {
        return Ok(text.to_owned());
    }
    Err(entry
        .wrong("which can't be an interface's name", format!("{example}; `ip link` lists them (1 to 15 characters)")))
}

/// An address that a packet can go to or come from, of one host.
pub(super) fn address(example: &str) -> impl FnOnce(&Entry<'_>) -> Result<IpAddr, Wrong> {
    let example = format!("an address of one host, as {example}");
    move |entry| {
        let text = entry.string(&example)?;
        let Ok(address) = text.parse::<IpAddr>() else {
            let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            if let Some(Ok(bare)) = bare.map(str::parse::<IpAddr>)
                && unfit(bare).is_none()
            {
                return Err(entry.wrong("an address in brackets", entry.written(format_args!("\"{bare}\""))));
            }
            let why = match text
                .rsplit_once(['/', ':', '%'])
                .map(|(front, _)| front.trim_matches(['[', ']']).parse::<IpAddr>())
            {
                Some(Ok(front)) => {
                    // The advice must not be refused in turn.
                    let write = match unfit(front) {
                        Some(_) => example,
                        None => entry.written(format_args!("\"{front}\"")) + ", without prefix length, port or zone",
                    };
                    return Err(entry.wrong("which is more than an address", write));
                }
                _ => "which is not an IP address (a host name would need a resolver that may be down)",
            };
            return Err(entry.wrong(why, example));
        };
        let v4 = address.to_canonical();
        match unfit(address) {
            Some(why) if v4 != address && unfit(v4).is_none() => {
                Err(entry.wrong(why, entry.written(format_args!("\"{v4}\""))))
            }
            Some(why) => Err(entry.wrong(why, example)),
            None => Ok(address),
        }
    }
}

/// The address of one host, and a port.
pub(super) fn socket_address(entry: &Entry<'_>, example: &str) -> Result<SocketAddr, Wrong> {
    let text = entry.string(example)?;
    let Ok(target) = text.parse::<SocketAddr>() else {
        let why = match text.parse::<IpAddr>() {
            Ok(_) => "which lacks a port",
            Err(_) => "which is not an IP address with a port",
        };
        return Err(entry.wrong(why, example));
    };
    let v4 = target.ip().to_canonical();
    match unfit(target.ip()) {
        Some(why) if v4 != target.ip() && unfit(v4).is_none() => {
            Err(entry.wrong(why, entry.written(format_args!("\"{}\"", SocketAddr::new(v4, target.port())))))
        }
        Some(why) => Err(entry.wrong(why, example)),
        None if target.port() == 0 => Err(entry.wrong("which lacks a port", example)),
        None => Ok(target),
    }
}

/// A MAC address of one station.
pub(super) fn mac(entry: &Entry<'_>, example: &str) -> Result<[u8; 6], Wrong> {
    let text = entry.string(example)?;
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).ok().filter(|_| octet.len() == 2 && !octet.starts_with('+')))
        .collect();
    let Some(mac) = octets.and_then(|octets| <[u8; 6]>::try_from(octets).ok()) else {
        return Err(entry.wrong("which is not a MAC address: six pairs of hexadecimal digits with colons", example));
    };
    match mac {
        [0, 0, 0, 0, 0, 0] => Err(entry.wrong("which is not the address of a host", example)),
        [first, ..] if first & 1 != 0 => {
            Err(entry.wrong("a multicast or broadcast address, at which no service is taken", example))
        }
        _ => Ok(mac),
    }
}

/// Why packets can't be forwarded to or from `address`.
pub(super) fn unfit(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address.is_loopback() => Some("a loopback address, which never leaves a host"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("in 0.0.0.0/8, which is no destination"),
        // Clients and servers send such packets as IPv4, which are looked up as that.
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("a link-local address, which needs a zone"),
        _ => None,
    }
}

/// A duration with its unit, in `range`.
pub(super) fn duration(
    range: RangeInclusive<Duration>,
    example: &str,
) -> impl FnOnce(&Entry<'_>) -> Result<Duration, Wrong> {
    let example = example.to_owned();
    move |entry| {
        if let DeValue::Integer(number) = entry.value {
            let fits = |text: &String| humantime::parse_duration(text).is_ok_and(|duration| range.contains(&duration));
            let meant: Vec<_> = ["s", "ms"].iter().map(|unit| format!("{number}{unit}")).filter(fits).collect();
            let write =
                if meant.is_empty() { example } else { format!("{} = \"{}\"", entry.key, meant.join("\" or \"")) };
            return Err(entry.mistyped("a duration with its unit, in quotes", write));
        }
        if let DeValue::Float(_) = entry.value {
            return Err(entry.mistyped("a duration with its unit, in quotes", example));
        }
        let text = entry.string(&example)?;
        let Ok(duration) = humantime::parse_duration(text) else {
            return Err(entry.wrong("which is not a duration", format!("{example} (a number and ms, s, m or h)")));
        };
        if range.contains(&duration) {
            return Ok(duration);
        }
        let (from, to) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
        Err(entry.wrong(&format!("not from {from} to {to}"), example))
    }
}

/// A fraction in `range`.
pub(super) fn fraction(range: RangeInclusive<f64>, example: &str) -> impl FnOnce(&Entry<'_>) -> Result<f64, Wrong> {
    let example = example.to_owned();
    move |entry| {
        let number = match entry.value {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(number) => number.as_str().parse::<f64>().ok(),
            _ => return Err(entry.mistyped("a number", example)),
        };
        // NaN is in no range.
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| entry.wrong(&format!("not from {} to {}", range.start(), range.end()), example))
    }
}

/// Reads a list, its items by `item`; `example` is a whole line of the file. Each wrong item is reported at its own
/// place.
pub(super) fn list<T>(
    entry: &Entry<'_>,
    lengths: RangeInclusive<usize>,
    example: &str,
    mut item: impl FnMut(&Entry<'_>) -> Result<T, Wrong>,
) -> Result<Vec<(usize, T)>, Wrong> {
    let DeValue::Array(items) = entry.value else { return Err(entry.mistyped("a list in brackets", example)) };
    if !lengths.contains(&items.len()) {
        let what = match lengths.end() {
            &usize::MAX => format!("`{}` is empty", entry.key),
            most => format!("`{}` has {} entries, not {} to {most}", entry.key, items.len(), lengths.start()),
        };
        // The first item beyond the limit.
        let at = items.get(*lengths.end()).map(|item| item.span().start);
        return Err(Wrong { what, write: example.to_owned(), at });
    }
    let mut read = Vec::with_capacity(items.len());
    let mut wrong = None;
    for value in items {
        let source = match value.get_ref() {
            DeValue::String(text) => format!("\"{}\"", shorten(text)),
            DeValue::Integer(number) => shorten(number.as_str()),
            other => kind(other).to_owned(),
        };
        let entry = Entry { value: value.get_ref(), source: &source, is_item: true, ..*entry };
        let at = value.span().start;
        match item(&entry) {
            Ok(value) => read.push((at, value)),
            // The first wrong item is returned as the problem of the list.
            Err(other) if wrong.is_some() => {
                entry.problems.add(other.at.unwrap_or(at), other.what, other.write);
            }
            Err(first) => wrong = Some(Wrong { at: first.at.or(Some(at)), ..first }),
        }
    }
    wrong.map_or(Ok(read), Err)
}

/// Type of a value, for error messages.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// Shortens `text` for one line of an error message, without control characters (they would reach a terminal).
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 48;
    let safe = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(LONGEST).map(safe).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}
