//! The keys of each section of the file; no other place lists them.

use super::foreign;

/// A section: its heading as it is written, and its keys.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) heading: &'static str,
    pub(super) keys: &'static [&'static str],
}

pub(super) const ROOT: Section = Section {
    heading: "the top of the file",
    keys: &[
        "include",
        "hash_key",
        "slots",
        "edge",
        "http",
        "notify",
        "tunnel",
        "nat",
        "limits",
        "defaults",
        "interface",
        "pool",
        "service",
    ],
};
pub(super) const DEFAULTS: Section = Section { heading: "[defaults]", keys: &["pool", "probe", "service"] };
/// Keys that all pools can have in common.
pub(super) const POOL_DEFAULTS: Section = Section {
    heading: "[defaults.pool]",
    // All keys of a pool but its name, which is first, and its probe and backends, which are last.
    keys: POOL.keys.split_at(POOL.keys.len() - 2).0.split_at(1).1,
};
pub(super) const PROBE_DEFAULTS: Section = Section { heading: "[defaults.probe]", keys: PROBE.keys };
/// Keys that all services can have in common.
pub(super) const SERVICE_DEFAULTS: Section = Section {
    heading: "[defaults.service]",
    // All keys of a service but its name, its VIPs and its [[service.port]], which are first.
    keys: SERVICE.keys.split_at(3).1,
};
pub(super) const EDGE: Section = Section { heading: "[edge]", keys: &["vip_other", "soak", "reference_targets"] };
pub(super) const HTTP: Section = Section { heading: "[http]", keys: &["listen"] };
pub(super) const NOTIFY: Section =
    Section { heading: "[[notify]]", keys: &["name", "command", "user", "webhook", "ca", "events", "timeout"] };
pub(super) const TUNNEL: Section = Section {
    heading: "[tunnel]",
    keys: &["source_v4", "source_v6", "source_v4_range", "source_v6_range", "gue_port", "gue_variant"],
};
pub(super) const NAT: Section = Section { heading: "[nat]", keys: &["source_v4", "source_v6", "ports"] };
pub(super) const LIMITS: Section = Section {
    heading: "[limits]",
    keys: &[
        "services",
        "destinations",
        "pools",
        "backends",
        "flows",
        "flows_per_second",
        "nat_flows",
        "fragments",
        "first_fragments_per_second",
        "unreachable_per_second",
        "time_exceeded_per_second",
        "too_big_per_second",
        "resets_per_second",
        "echo_replies_per_second",
    ],
};
pub(super) const INTERFACE: Section = Section { heading: "[[interface]]", keys: &["name", "mode", "virtual_macs"] };
pub(super) const POOL: Section = Section {
    heading: "[[pool]]",
    keys: &[
        "name",
        "min_healthy",
        "ejection_cap",
        "panic_below",
        "damping",
        "failback_after",
        "failback_over",
        "slow_start",
        "port",
        "probe",
        "backend",
    ],
};
pub(super) const PROBE: Section = Section {
    heading: "[pool.probe]",
    keys: &[
        "type",
        "through",
        "port",
        "path",
        "status",
        "host",
        "body",
        "body_regex",
        "server_name",
        "verify",
        "ca",
        "warn_days",
        "alpn",
        "send",
        "expect",
        "query",
        "query_type",
        "rcode",
        "answer",
        "transport",
        "command",
        "user",
        "service",
        "tls",
        "interval",
        "fast_interval",
        "timeout",
        "rise",
        "fall",
        "jitter",
    ],
};
pub(super) const BACKEND: Section = Section {
    heading: "[[pool.backend]]",
    keys: &["name", "address", "port", "weight", "probe_port", "probe_host", "server_number"],
};
pub(super) const SERVICE: Section = Section {
    heading: "[[service]]",
    keys: &[
        "name",
        "vips",
        "port",
        "ports",
        "mode",
        "pools",
        "backend_port",
        "on_backend_down",
        "client_address",
        "slots",
        "when_exhausted",
        "flow_table",
        "flow_idle_timeout",
        "udp",
        "learn",
        "affinity",
        "affinity_prefix_v4",
        "affinity_prefix_v6",
        "quic_cid",
        "announce",
        "announce_interface",
    ],
};

pub(super) const SERVICE_PORT: Section =
    Section { heading: "[[service.port]]", keys: &["port", "flow_table", "flow_idle_timeout", "udp", "learn"] };

pub(super) const QUIC_CID: Section =
    Section { heading: "[service.quic_cid]", keys: &["scheme", "unit", "offset", "length"] };

pub(super) const ALL: [&Section; 15] = [
    &ROOT,
    &EDGE,
    &HTTP,
    &NOTIFY,
    &TUNNEL,
    &NAT,
    &LIMITS,
    &DEFAULTS,
    &INTERFACE,
    &POOL,
    &PROBE,
    &BACKEND,
    &SERVICE,
    &SERVICE_PORT,
    &QUIC_CID,
];

/// Keys of earlier versions, with their present names and what to write.
const RENAMED: [(&str, &str, &str); 6] = [
    ("linger", "flow_idle_timeout", "`flow_idle_timeout`"),
    ("records", "flow_table", "`flow_table`"),
    ("vip", "vips", "vips = [\"192.0.2.10\"]"),
    ("protocol", "ports", "ports = [\"80/tcp\"] or [\"53/udp\"]"),
    ("quic", "ports", "ports = [\"443/quic\"]"),
    ("affinity_prefix", "affinity_prefix_v4", "`affinity_prefix_v4` and `affinity_prefix_v6`"),
];

impl Section {
    /// What to write for a key of an earlier version, if this section has its successor.
    pub(super) fn renamed(&self, key: &str) -> Option<&'static str> {
        let (_, _, write) = RENAMED.into_iter().find(|(old, name, _)| *old == key && self.keys.contains(name))?;
        Some(write)
    }

    /// The key of this section for which the unknown `key` was probably meant.
    pub(super) fn meant(&self, key: &str) -> Option<&'static str> {
        if foreign::key(key).is_some() {
            return None;
        }
        let near = nearest(key, self.keys.iter().copied())?;
        // A key of another section is no misspelling, unless it is nearly one of this section, too (pool, pools).
        let elsewhere = ALL.iter().any(|section| section.keys.contains(&key));
        (!elsewhere || strsim::damerau_levenshtein(key, near) == 1).then_some(near)
    }

    /// What to write instead of `key`, which this section does not have.
    pub(super) fn advice(&self, key: &str) -> String {
        if let Some(write) = self.renamed(key) {
            return format!("{write}, which `{key}` is called now");
        }
        if let Some(answer) = foreign::key(key) {
            return answer.to_owned();
        }
        if let Some(near) = self.meant(key) {
            return format!("{}, if you meant that", self.as_written(near));
        }
        // In TOML a key belongs to the heading above it, which surprises. The tables of [defaults] have the names of
        // the sections that they give defaults for, so they are not suggested.
        let elsewhere: Vec<_> =
            ALL.iter().filter(|section| section.heading != DEFAULTS.heading && section.keys.contains(&key)).collect();
        match elsewhere[..] {
            [section] if section.heading == ROOT.heading => {
                format!("{} at the top of the file, before the first [section]", section.as_written(key))
            }
            [section] => format!("{} under {}, where it belongs", section.as_written(key), section.heading),
            _ => {
                let all: Vec<_> = self.keys.iter().map(|key| self.as_written(key)).collect();
                format!("one of {}, or remove it", all.join(", "))
            }
        }
    }

    /// A key of this section, or the heading of the section that it opens.
    fn as_written(&self, key: &str) -> String {
        let path = if self.heading == ROOT.heading {
            key.to_owned()
        } else {
            format!("{}.{key}", self.heading.trim_matches(['[', ']']))
        };
        let below = [&POOL_DEFAULTS, &PROBE_DEFAULTS, &SERVICE_DEFAULTS];
        let opened = ALL.iter().chain(&below).find(|section| section.heading.trim_matches(['[', ']']) == path);
        opened.map_or_else(|| format!("`{key}`"), |section| section.heading.to_owned())
    }
}

/// The word in `known` that `word` is probably a misspelling of.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    all_nearest(word, known).first().copied()
}

/// The words in `known` that `word` is probably a misspelling of, all equally near: "httpx" may be "http" or "https".
pub(super) fn all_nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Vec<&'k str> {
    // A longer word is no misspelling of a known one, and the distance takes quadratic time.
    if word.len() > 64 {
        return Vec::new();
    }
    let word = word.to_lowercase();
    let mut least = usize::MAX;
    let mut near = Vec::new();
    for candidate in known {
        let distance = strsim::damerau_levenshtein(&word, candidate);
        if distance > (candidate.len() / 3).max(1) || distance > least {
            continue;
        }
        if distance < least {
            near.clear();
        }
        least = distance;
        near.push(candidate);
    }
    near
}
