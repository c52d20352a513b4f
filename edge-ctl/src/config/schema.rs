//! Which keys each section of the file has; the only place that lists them.

/// A section: its heading as it is written, and its keys.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) heading: &'static str,
    pub(super) keys: &'static [&'static str],
}

pub(super) const ROOT: Section = Section {
    heading: "the top of the file",
    keys: &["hash_key", "slots", "tunnel", "limits", "interface", "pool", "service"],
};
pub(super) const TUNNEL: Section = Section { heading: "[tunnel]", keys: &["source_v4", "source_v6"] };
pub(super) const LIMITS: Section = Section { heading: "[limits]", keys: &["services", "pools", "backends"] };
pub(super) const INTERFACE: Section = Section { heading: "[[interface]]", keys: &["name", "mode"] };
pub(super) const POOL: Section = Section { heading: "[[pool]]", keys: &["name", "min_healthy", "probe", "backend"] };
pub(super) const PROBE: Section = Section {
    heading: "[pool.probe]",
    keys: &["type", "port", "path", "status", "host", "interval", "timeout", "rise", "fall", "jitter"],
};
pub(super) const BACKEND: Section = Section { heading: "[[pool.backend]]", keys: &["name", "address", "weight"] };
pub(super) const SERVICE: Section = Section {
    heading: "[[service]]",
    keys: &["name", "vip", "port", "protocol", "mode", "pools", "when_exhausted", "announce", "announce_interface"],
};

pub(super) const ALL: [&Section; 8] = [&ROOT, &TUNNEL, &LIMITS, &INTERFACE, &POOL, &PROBE, &BACKEND, &SERVICE];

impl Section {
    /// What to write instead of `key`, which this section does not have.
    pub(super) fn advice(&self, key: &str) -> String {
        // The right key in the wrong section first: in TOML a key belongs to the heading above it, which surprises.
        let elsewhere: Vec<_> = ALL.iter().filter(|section| section.keys.contains(&key)).collect();
        if let [section] = elsewhere[..] {
            return match section.heading {
                heading if heading == ROOT.heading => {
                    format!("`{key}` at the top of the file, before the first [section]")
                }
                heading => format!("`{key}` under {heading}, where it belongs"),
            };
        }
        match nearest(key, self.keys.iter().copied()) {
            Some(near) => format!("`{near}`, if that is what is meant"),
            None => format!("one of `{}`, or remove it", self.keys.join("`, `")),
        }
    }
}

/// The one of `known` that `word` is probably a misspelling of.
pub(super) fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // Longer words are no misspellings of ours, and the distance takes quadratic time.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    known
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
