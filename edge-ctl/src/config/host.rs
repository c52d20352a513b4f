//! Sections about this host: hash key, slots, `[edge]`, map sizes, interfaces.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Write as _,
    net::SocketAddr,
    time::Duration,
};

use edge_common::abi::{AnswerLimits, HashKey, MAX_STATIONS, VipOther};
use sha2::{Digest as _, Sha256};

use super::{
    AttachMode, Config, Interface,
    problems::Read,
    schema::{EDGE, INTERFACE, LIMITS},
    values::{self, Entry as Value, Wrong},
    walk::{Located, Table},
};

/// Least and most slots of a service.
pub(super) const SLOTS: (u32, u32) = (1024, 262_144);

/// Largest sizes of the maps. A backend's number has 16 bits, and 0 means none.
pub(super) const MOST: Counts = Counts { services: 16_384, destinations: 1 << 20, pools: 4_096, backends: 65_535 };

const DEFAULT_SOAK: Duration = Duration::from_mins(5);

/// Least and most flow records of an IP version.
const FLOWS: (i64, i64) = (1024, 1 << 24);
const DEFAULT_FLOWS: u32 = 131_072;

/// Seconds in which flows fill the table at the default rate. A flow of which only the start was seen keeps its entry
/// for three seconds in any case; so a flood of such flows can have less than half of the table.
const FLOWS_OVER_RATE: u32 = 8;

/// Least and most translated flows.
const NAT_FLOWS: (i64, i64) = (1024, 1 << 24);
pub(super) const DEFAULT_NAT_FLOWS: u32 = 262_144;

/// Least and most fragmented packets of an IP version in the table at a time.
const FRAGMENTS: (i64, i64) = (64, 1 << 20);
const DEFAULT_FRAGMENTS: u32 = 8192;

/// Takes three hundredths of a CPU, at some 300 ns for each first fragment.
const DEFAULT_FIRST_FRAGMENTS: u32 = 100_000;

/// Path MTU discovery needs few errors, and a flood should not get one for each of its packets (RFC 1812, section 4.3.2.8; RFC
/// 4443, section 2.4 f). RST and echo replies have so high a limit that only a flood reaches it.
const DEFAULT_ANSWERS: AnswerLimits =
    AnswerLimits { unreachable: 1000, time_exceeded: 1000, too_big: 1000, resets: 10_000, echo_replies: 10_000 };

/// The part of `[limits]` that depends on the rest of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts<T = u32> {
    pub(super) services: T,
    pub(super) destinations: T,
    pub(super) pools: T,
    pub(super) backends: T,
}

/// `[limits]` as in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimitsDraft {
    /// Sizes that must be large enough for the rest of the configuration.
    pub(super) wanted: Counts<Option<Located<u32>>>,
    pub(super) flows: u32,
    pub(super) flows_per_second: u32,
    pub(super) nat_flows: Option<Located<u32>>,
    pub(super) fragments: u32,
    pub(super) first_fragments_per_second: u32,
    pub(super) answers: AnswerLimits,
}

impl Default for LimitsDraft {
    fn default() -> Self {
        Self {
            wanted: Counts { services: None, destinations: None, pools: None, backends: None },
            flows: DEFAULT_FLOWS,
            flows_per_second: DEFAULT_FLOWS / FLOWS_OVER_RATE,
            nat_flows: None,
            fragments: DEFAULT_FRAGMENTS,
            first_fragments_per_second: DEFAULT_FIRST_FRAGMENTS,
            answers: DEFAULT_ANSWERS,
        }
    }
}

pub(super) fn hash_key(root: &Table<'_>) -> Read<HashKey> {
    let example =
        || format!("hash_key = \"{}\"   # random, made for you; the same on every edge", hex(&rand::random()));
    let found = root.optional("hash_key", |entry: &values::Entry<'_>| {
        let text = entry.string(&example())?;
        key_bytes(text).ok_or_else(|| Wrong {
            what: format!("`hash_key` has {} characters; it must be 32 hexadecimal digits", text.chars().count()),
            write: example(),
            at: None,
        })
    })?;
    let bytes = found.ok_or_else(|| root.missing("hash_key", &example()))?.value;
    Ok(expand_key(bytes))
}

/// The keys of packaging/edge.toml and docs/examples.
const SAMPLE_KEYS: [u128; 7] = [
    0x8d2f_6a3c_51e0_4b97_a6c8_1f0d_3e5b_7294,
    0x6c1f_0a3d_e75b_4492_b8d0_914e_27fa_5c83,
    0x3464_2ffc_2899_196a_7b7b_1525_42a1_ca5d,
    0xec7b_a824_1024_71c4_c9de_b552_b7e6_1878,
    0x691b_e971_eb1d_64df_1aab_358f_8c12_4789,
    0xf0c5_961b_7973_db87_9de1_2c97_46e5_7875,
    0x58b6_aecc_743b_b753_cb89_a73e_d9f0_8201,
];

impl Config {
    /// Whether the hash key is that of the sample or of an example, and so publicly known.
    pub(crate) fn has_sample_key(&self) -> bool {
        SAMPLE_KEYS.iter().any(|key| self.hash_key == expand_key(key.to_be_bytes()))
    }
}

fn key_bytes(text: &str) -> Option<[u8; 16]> {
    let digits = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::to_be_bytes)
}

fn hex(bytes: &[u8; 16]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The twelve words of the hash key from the 16 bytes of the file: SHA-256 of the bytes and a counter (four bytes, big
/// endian, from 0), read as big-endian words. All edges must compute the same words: never change this.
pub(super) fn expand_key(bytes: [u8; 16]) -> HashKey {
    let mut words = [0; 12];
    for (counter, block) in (0u32..).zip(words.chunks_mut(8)) {
        let digest = Sha256::new().chain_update(bytes).chain_update(counter.to_be_bytes()).finalize();
        for (word, four) in block.iter_mut().zip(digest.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*four);
        }
    }
    HashKey(words)
}

/// `slots` of the file or of a service.
pub(super) fn slots(table: &Table<'_>) -> Read<Option<Located<u32>>> {
    let (least, most) = SLOTS;
    table.optional("slots", |entry: &values::Entry<'_>| {
        let slots: u32 = values::integer(i64::from(least)..=i64::from(most), "slots = 65536")(entry)?;
        if slots.is_power_of_two() {
            return Ok(slots);
        }
        Err(entry.wrong("not a power of two", format!("slots = {}", slots.next_power_of_two().min(most))))
    })
}

/// `[edge]`.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) vip_other: VipOther,
    pub(super) soak: Duration,
    pub(super) reference_targets: Vec<Located<SocketAddr>>,
}

impl Default for Edge {
    fn default() -> Self {
        Self { vip_other: VipOther::default(), soak: DEFAULT_SOAK, reference_targets: Vec::new() }
    }
}

pub(super) fn edge(root: &Table<'_>) -> Read<Edge> {
    let Some(table) = root.table("edge", &EDGE)? else { return Ok(Edge::default()) };
    let words = [("reject", VipOther::Reject), ("drop", VipOther::Drop), ("host", VipOther::Host)];
    let vip_other = table.optional("vip_other", values::choice(&words));
    let soaks = Duration::from_secs(1)..=Duration::from_hours(24);
    let soak = table.optional("soak", values::duration(soaks, "soak = \"5m\""));
    let references = reference_targets(&table);
    Ok(Edge {
        vip_other: vip_other?.map_or_else(VipOther::default, |found| found.value),
        soak: soak?.map_or(DEFAULT_SOAK, |found| found.value),
        reference_targets: references?,
    })
}

fn reference_targets(table: &Table<'_>) -> Read<Vec<Located<SocketAddr>>> {
    let found = table.optional("reference_targets", |entry: &Value<'_>| {
        let example = "reference_targets = [\"198.51.100.1:443\", \"[2001:db8::1]:443\"]";
        let read = values::list(entry, 1..=16, example, |entry| values::socket_address(entry, example))?;
        let mut targets: Vec<Located<SocketAddr>> = Vec::new();
        for (at, value) in read {
            if targets.iter().any(|known| known.value == value) {
                let what = format!("`reference_targets` has {value} twice");
                return Err(Wrong { what, write: "each of them once".to_owned(), at: Some(at) });
            }
            targets.push(Located { value, at });
        }
        Ok(targets)
    })?;
    Ok(found.map_or_else(Vec::new, |found| found.value))
}

pub(super) fn limits(root: &Table<'_>) -> Read<LimitsDraft> {
    let Some(table) = root.table("limits", &LIMITS)? else { return Ok(LimitsDraft::default()) };
    let services = table.optional("services", values::integer(1..=MOST.services.into(), "services = 64"));
    let destinations =
        table.optional("destinations", values::integer(1..=MOST.destinations.into(), "destinations = 1024"));
    let pools = table.optional("pools", values::integer(1..=MOST.pools.into(), "pools = 64"));
    let backends = table.optional("backends", values::integer(1..=MOST.backends.into(), "backends = 1024"));
    let (least, most) = FLOWS;
    let flows = table.optional("flows", values::integer(least..=most, "flows = 131072"));
    let rate = table.optional("flows_per_second", values::integer(1..=most, "flows_per_second = 16384"));
    let nat_flows = table.optional("nat_flows", values::integer(NAT_FLOWS.0..=NAT_FLOWS.1, "nat_flows = 262144"));
    let (least, most) = FRAGMENTS;
    let fragments = table.optional("fragments", values::integer(least..=most, "fragments = 8192"));
    let first_fragments = per_second(&table, "first_fragments_per_second", DEFAULT_FIRST_FRAGMENTS);
    let answers = answers(&table);
    let flows = flows?.map_or(DEFAULT_FLOWS, |found| found.value);
    Ok(LimitsDraft {
        wanted: Counts { services: services?, destinations: destinations?, pools: pools?, backends: backends? },
        flows,
        flows_per_second: rate?.map_or(flows / FLOWS_OVER_RATE, |found| found.value),
        nat_flows: nat_flows?,
        fragments: fragments?.map_or(DEFAULT_FRAGMENTS, |found| found.value),
        first_fragments_per_second: first_fragments?,
        answers: answers?,
    })
}

/// Reads the rate limits of the answers that the edge sends itself. All keys are read, and their problems recorded,
/// before the first wrong one is returned.
fn answers(table: &Table<'_>) -> Read<AnswerLimits> {
    let unreachable = per_second(table, "unreachable_per_second", DEFAULT_ANSWERS.unreachable);
    let time_exceeded = per_second(table, "time_exceeded_per_second", DEFAULT_ANSWERS.time_exceeded);
    let too_big = per_second(table, "too_big_per_second", DEFAULT_ANSWERS.too_big);
    let resets = per_second(table, "resets_per_second", DEFAULT_ANSWERS.resets);
    let echo_replies = per_second(table, "echo_replies_per_second", DEFAULT_ANSWERS.echo_replies);
    Ok(AnswerLimits {
        unreachable: unreachable?,
        time_exceeded: time_exceeded?,
        too_big: too_big?,
        resets: resets?,
        echo_replies: echo_replies?,
    })
}

/// Reads a rate limit per second; 0 means never.
fn per_second(table: &Table<'_>, key: &'static str, default: u32) -> Read<u32> {
    let example = format!("{key} = {default}");
    Ok(table.optional(key, values::integer(0..=FLOWS.1, &example))?.map_or(default, |found| found.value))
}

pub(super) fn interfaces(root: &Table<'_>) -> Read<Vec<Located<Interface>>> {
    let tables = root.tables("interface", &INTERFACE)?;
    if tables.is_empty() {
        let write = "[[interface]] and below it name = \"eth0\", the interface that clients' packets come in on";
        return Err(root.problems.add(
            root.place("interface"),
            "there is no interface, so no packet would be seen",
            write,
        ));
    }
    let mut names = HashMap::new();
    let read: Vec<Read<Located<Interface>>> = tables
        .iter()
        .map(|table| {
            let name = table.required("name", "name = \"eth0\"", values::interface_name);
            let modes = [("native", AttachMode::Native), ("generic", AttachMode::Generic)];
            let mode = table.optional("mode", values::choice(&modes));
            let virtual_macs = table.optional("virtual_macs", virtual_macs);
            let name = name.and_then(|name| distinct(table, &mut names, name, "interface"))?;
            Ok(Located {
                value: Interface {
                    name: name.value,
                    mode: mode?.map_or_else(AttachMode::default, |found| found.value),
                    virtual_macs: virtual_macs?.map_or_else(Vec::new, |found| found.value),
                },
                at: name.at,
            })
        })
        .collect();
    let read: Vec<_> = read.into_iter().collect::<Read<_>>()?;
    let stations: usize = read.iter().map(|found| 1 + found.value.virtual_macs.len()).sum();
    if stations > MAX_STATIONS {
        let at = read.last().map_or_else(|| root.place("interface"), |last| last.at);
        let what = format!("the interfaces and their virtual MAC addresses are {stations} together");
        let write =
            format!("at most {MAX_STATIONS}: each interface counts once, and once more for each of `virtual_macs`");
        return Err(root.problems.add(at, what, write));
    }
    Ok(read)
}

/// Reads the MAC addresses of an interface besides its own.
fn virtual_macs(entry: &Value<'_>) -> Result<Vec<[u8; 6]>, Wrong> {
    let example = "virtual_macs = [\"00:00:5e:00:01:07\"]";
    let read = values::list(entry, 0..=MAX_STATIONS - 1, example, |entry| values::mac(entry, example))?;
    Ok(read.into_iter().map(|(_, mac)| mac).collect())
}

/// Refuses `name` if it is among `names` already; otherwise adds it with its place.
pub(super) fn distinct(
    table: &Table<'_>,
    names: &mut HashMap<String, usize>,
    name: Located<String>,
    thing: &str,
) -> Read<Located<String>> {
    match names.entry(name.value.clone()) {
        Entry::Vacant(entry) => {
            entry.insert(name.at);
            Ok(name)
        }
        Entry::Occupied(first) => {
            let line = table.problems.line(*first.get());
            let what = format!("{thing} `{}` is defined twice; first on line {line}", name.value);
            let write = format!("another name, or remove one of the two {}", table.section.heading);
            Err(table.problems.add(name.at, what, write))
        }
    }
}
