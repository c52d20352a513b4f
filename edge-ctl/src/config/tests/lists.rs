//! Each wrong item of a list is reported at its own place.

use super::*;

/// The lines and marks of the errors for `GOOD` with a change in it.
fn marked(old: &str, new: &str) -> Vec<String> {
    assert!(GOOD.contains(old), "nothing to replace: {old}");
    let shown = parse(&GOOD.replacen(old, new, 1), "edge.toml").expect_err("something is wrong").with_lines(false);
    let lines: Vec<_> = shown.lines().collect();
    let marked = lines.windows(2).filter(|pair| pair[1].contains('^')).map(|pair| {
        let start = pair[1].chars().position(|c| c == '^').expect("a mark");
        pair[0].chars().skip(start).take(pair[1].matches('^').count()).collect()
    });
    marked.collect()
}

const HOST: &str = "[tunnel]\nsource_v4 = \"10.0.0.1\"\n[[interface]]\nname = \"eth0\"";

#[test]
fn each_item_in_its_place() {
    let edge = |targets: &str| format!("[edge]\nreference_targets = {targets}\n[tunnel]");
    let interface = |macs: &str| format!("name = \"eth0\"\nvirtual_macs = {macs}");
    let http = |status: &str| format!("type = \"http\"\nstatus = {status}");
    let pools = |names: &str| format!("pools = {names}");
    let one_too_many: Vec<_> = (1..=9).map(|number| format!("\"p{number}\"")).collect();
    let stations: Vec<_> = (0..16).map(|number| format!("\"00:00:5e:00:01:{number:02x}\"")).collect();
    for (old, new, places) in [
        ("pools = [\"provider-a\"]", pools("[\"provider-a\", 1, \"x\", []]"), vec!["1", "[]"]),
        ("pools = [\"provider-a\"]", pools("[\"provider-a\", \"x\", \"y\"]"), vec!["\"x\"", "\"y\""]),
        ("pools = [\"provider-a\"]", pools("[\"provider-a\", \"provider-a\"]"), vec!["\"provider-a\""]),
        ("pools = [\"provider-a\"]", pools(&format!("[{}]", one_too_many.join(", "))), vec!["\"p9\""]),
        ("pools = [\"provider-a\"]", pools("[ ]"), vec!["[ ]"]),
        ("vips = [\"192.0.2.10\"]", "vips = [\"192.0.2.10\", \"a\", \"::\"]".to_owned(), vec!["\"a\"", "\"::\""]),
        ("vips = [\"192.0.2.10\"]", "vips = [\"192.0.2.10\", \"192.0.2.8/29\"]".to_owned(), vec!["\"192.0.2.8/29\""]),
        (
            "[\"80/tcp\"]",
            "[\"80/tcp\", \"8080-80/tcp\", \"0-9/udp\"]".to_owned(),
            vec!["\"8080-80/tcp\"", "\"0-9/udp\""],
        ),
        ("[\"80/tcp\"]", "[\"80/tcp\", \"70-90/tcp\"]".to_owned(), vec!["\"70-90/tcp\""]),
        ("type = \"http\"", http("[200, 99, \"204\", 600]"), vec!["99", "\"204\"", "600"]),
        ("type = \"http\"", http("[\n 200,\n 99,\n 204,\n 600]"), vec!["99", "600"]),
        (
            "type = \"http\"",
            "type = \"https\"\nalpn = [\"h2\", \"h3\", \"spdy\"]".to_owned(),
            vec!["\"h3\"", "\"spdy\""],
        ),
        ("type = \"http\"", "type = \"command\"\ncommand = [\"sh\", \"-c\"]".to_owned(), vec!["\"sh\""]),
        ("type = \"http\"", "type = \"command\"\ncommand = [\"/bin/a\", 1]".to_owned(), vec!["1"]),
        ("[tunnel]", edge("[\"192.0.2.1:179\", \"a\", \"192.0.2.1\"]"), vec!["\"a\"", "\"192.0.2.1\""]),
        ("[tunnel]", edge("[\"192.0.2.1:179\", \"192.0.2.1:179\"]"), vec!["\"192.0.2.1:179\""]),
        (
            "name = \"eth0\"",
            interface("[\"00:00:5e:00:01:07\", \"01:00:5e:00:01:07\", 7]"),
            vec!["\"01:00:5e:00:01:07\"", "7"],
        ),
        ("name = \"eth0\"", interface(&format!("[{}]", stations.join(", "))), vec!["\"00:00:5e:00:01:0f\""]),
        (HOST, "interface = [{ name = \"eth0\" }, \"eth1\", 1]".to_owned(), vec!["\"eth1\"", "1"]),
    ] {
        let marked = marked(old, &new);
        assert!(places.iter().all(|place| marked.iter().any(|marked| marked == place)), "{new}: {marked:?}");
        assert!(
            !marked.iter().any(|marked| marked.starts_with('[') && !places.contains(&marked.as_str())),
            "{marked:?}"
        );
    }
}
