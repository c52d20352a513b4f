//! Finds sizes under `[limits]` that are not in force: maps keep the size that they were made with. Pure.

use super::{findings::Findings, host::Pinned};
use crate::{config::Config, plan::Capacity};

/// The remedy for maps of another size.
const ANEW: &str =
    "run `edge-ctl upgrade`: the daemon starts anew and makes other maps beside these, and no flow moves";

/// The remedy for maps that are too small.
const LARGER: &str = "run `edge-ctl reload`: the daemon makes larger maps beside these, and no flow moves";

/// Compares the sizes that the file names with those of the maps, and the configured numbers with the room in the maps.
pub(super) fn compare_limits(findings: &mut Findings, config: &Config, pinned: &Pinned) {
    let has = match pinned {
        Pinned::Nothing => return,
        Pinned::Maps(capacity) => capacity.sizes(),
        Pinned::Unknown(why) => {
            let message = format!("the pinned maps can't be read, so it is unknown whether it is in force: {why}");
            return findings.warn("limits", message, "run it as root, with the --pin-dir of the daemon");
        }
    };
    let named = config.limits.is_named();
    let members = config.pools.iter().map(|pool| pool.backends.len()).sum();
    let needed = [config.services.len(), config.destinations(), config.pools.len(), members, 0, 0, 0];
    let wanted = Capacity::of(config).sizes();
    for ((((key, has), (_, wanted)), named), needed) in has.into_iter().zip(wanted).zip(named).zip(needed) {
        let subject = format!("limits.{key}");
        if usize::try_from(has).is_ok_and(|has| needed > has) {
            let message = format!("{needed} {key} are configured, and the pinned maps were made for {has}");
            findings.warn(&subject, message, LARGER);
        } else if named && has != wanted {
            let message = format!("it is {wanted}, and not in force: the pinned maps were made for {has}");
            findings.warn(&subject, message, format!("write {key} = {has}, or {ANEW}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config, preflight::Severity};

    const TEXT: &str = r#"
hash_key = "000102030405060708090a0b0c0d0e0f"
[limits]
[[interface]]
name = "eth0"
[[pool]]
name = "a"
backend = [{ name = "a1", address = "10.1.0.11" }, { name = "a2", address = "10.1.0.12" }]
[[service]]
name = "web"
vips = ["192.0.2.10"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["a"]
[tunnel]
source_v4 = "10.0.0.1"
"#;

    fn configuration(limits: &str) -> Config {
        config::parse(&TEXT.replace("[limits]", &format!("[limits]\n{limits}")), "test")
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Findings for maps that were made for one file, and a configuration from another.
    fn findings(made_for: &str, limits: &str) -> Vec<(Severity, String)> {
        let pinned = Pinned::Maps(Capacity::of(&configuration(made_for)));
        let mut findings = Findings::default();
        compare_limits(&mut findings, &configuration(limits), &pinned);
        findings.sorted().into_iter().map(|finding| (finding.severity, finding.subject)).collect()
    }

    #[test]
    fn sizes_that_wait_for_a_cold_start_are_named() {
        assert_eq!(findings("flows = 2048", "flows = 2048"), []);
        let warnings = |keys: &[&str]| keys.iter().map(|key| (Severity::Warning, format!("limits.{key}"))).collect();
        let both: Vec<_> = warnings(&["flows", "services"]);
        assert_eq!(findings("", "flows = 2048\nservices = 7"), both);
        assert_eq!(
            findings("flows = 2048\nfragments = 64", ""),
            warnings(&["flows", "fragments"]),
            "a default is a size, too"
        );
        assert_eq!(findings("backends = 7", ""), [], "what is not in the file follows from what is");
        assert_eq!(findings("flows = 2048", "flows = 2048\nflows_per_second = 5"), [], "no map depends on a rate");
    }

    #[test]
    fn what_hardly_fits_is_named_though_the_file_does_not_name_the_size() {
        let mut small = Capacity::of(&configuration(""));
        small.backends = 3;
        let mut findings = Findings::default();
        compare_limits(&mut findings, &configuration(""), &Pinned::Maps(small));
        let [finding] = &findings.sorted()[..] else { panic!("one") };
        assert_eq!((finding.severity, finding.subject.as_str()), (Severity::Warning, "limits.backends"));
    }

    #[test]
    fn maps_that_nobody_may_look_at_are_no_maps_of_the_right_size() {
        let mut findings = Findings::default();
        compare_limits(&mut findings, &configuration(""), &Pinned::Unknown("not permitted".to_owned()));
        assert_eq!(findings.sorted()[0].severity, Severity::Warning);
    }
}
