//! `[tunnel]` and its problems.

use super::*;

fn with(keys: &str) -> String {
    GOOD.replace("[tunnel]\n", &format!("[tunnel]\n{keys}\n"))
}

#[test]
fn ranges_ports_and_variants() {
    let config = good(&with(""));
    assert_eq!((config.tunnel.gue_port, config.tunnel.gue_variant), (6080, 1));
    assert_eq!((config.tunnel.range_v4, config.tunnel.range_v6), (None, None));
    let keys = "source_v6 = \"fd00::1\"\nsource_v4_range = \"10.9.0.0/16\"\nsource_v6_range = \"fd00:9::/96\"\n\
                gue_port = 7000\ngue_variant = 0";
    let config = good(&with(keys).replace("\"ipip\"", "\"gue\""));
    assert_eq!((config.tunnel.gue_port, config.tunnel.gue_variant), (7000, 0));
    let ranges = [config.tunnel.range_v4, config.tunnel.range_v6].map(|range| range.unwrap().to_string());
    assert_eq!(ranges, ["10.9.0.0/16", "fd00:9::/96"]);
    assert_eq!(config.services[0].mode, Mode::Gue);
}

#[test]
fn refusals_name_what_to_write() {
    for (keys, what, write) in [
        (
            "source_v4_range = \"10.9.0.1/24\"",
            "which has bits set behind its length",
            "source_v4_range = \"10.9.0.0/24\"",
        ),
        ("source_v4_range = \"10.9.0.0/15\"", "which has another length", "a prefix of 16 to 31 bits"),
        ("source_v4_range = \"10.9.0.0/32\"", "which has another length", "a prefix of 16 to 31 bits"),
        ("source_v4_range = \"10.9.0.0\"", "which is not a prefix", "source_v4_range = \"10.9.0.0/24\""),
        ("source_v4_range = \"fd00::/112\"", "which is IPv6", "source_v4_range = \"10.9.0.0/24\""),
        ("source_v4_range = \"224.0.0.0/24\"", "multicast", "source_v4_range = \"10.9.0.0/24\""),
        ("source_v6_range = \"fd00:9::/112\"", "`source_v6_range` without `source_v6`", "source_v6 = \"fd00::1\""),
        ("gue_port = 0", "0", "gue_port = 6080"),
        ("gue_variant = 2", "2", "gue_variant = 1"),
        ("gue = 6080", "gue", "gue_port"),
    ] {
        let error = parse(&with(keys), "edge.toml").unwrap_err().to_string();
        assert!(error.contains(what) && error.contains(write), "{keys}: {error}");
    }
    let error = parse(&GOOD.replace("source_v4 = \"10.0.0.1\"", "").replace("\"ipip\"", "\"gue\""), "edge.toml");
    let error = error.unwrap_err().to_string();
    assert!(error.contains("mode \"gue\" to IPv4 backends needs [tunnel] `source_v4`"), "{error}");
}
