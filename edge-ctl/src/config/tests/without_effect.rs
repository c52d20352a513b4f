//! Keys that would have no effect beside others, or the opposite of the intended one.

use super::{
    catalogue::{catalogue, check},
    *,
};

const BACKEND: &str = "address = \"10.1.0.11\"";
const POOL: &str = "name = \"provider-a\"";

#[test]
fn ports_of_backends_without_nat() {
    let with = |more: &str| format!("{BACKEND}\n{more}");
    let one = with("port = 8080");
    let two = with("port = 8080\n[[pool.backend]]\nname = \"a2\"\naddress = \"10.1.0.12\"\nport = 8080");
    check!(catalogue(&[(BACKEND, &one), (BACKEND, &two), (POOL, "name = \"provider-a\"\nport = 8080"),]));
}

/// One service in `nat` is enough for the port to have an effect. A pool that no service lists may get one later.
#[test]
fn ports_of_backends_that_nat_uses() {
    let port = GOOD.replace(BACKEND, &format!("{BACKEND}\nport = 8080"));
    let source = "[nat]\nsource_v4 = [\"198.51.100.5\"]\n[tunnel]";
    let nat = "[[service]]\nname = \"nat\"\nvips = [\"192.0.2.11\"]\nports = [\"80/tcp\"]\nmode = \"nat\"\n\
               pools = [\"provider-a\"]\n";
    good(&(port.replace("[tunnel]", source) + nat));
    let pool = "[[pool]]\nname = \"b\"\nport = 8080\n[[pool.backend]]\nname = \"b1\"\naddress = \"10.1.0.13\"\n";
    good(&GOOD.replace("[[service]]", &format!("{pool}[[service]]")));
}

/// A text in force must not become unreadable with an upgrade: keys that a configuration means the same without are no
/// reason to give up what serves.
#[test]
fn a_text_that_was_accepted_before_is_read_without_needless_keys() {
    let plain = good(GOOD);
    for (place, more) in [
        ("[tunnel]", "renamed = 1\n[tunnel]"),
        ("[tunnel]", "[gone]\nkey = 1\n[tunnel]"),
        ("[[service]]", "[[gone]]\nkey = 1\n[[service]]"),
        ("source_v4", "source_v5 = \"10.0.0.1\"\nsource_v4"),
        ("name = \"web\"", "name = \"web\"\nlearn = \"30s\"\nudp = \"learn\""),
        ("name = \"web\"", "name = \"web\"\naffinity_prefix_v4 = 24"),
        ("name = \"web\"", "name = \"web\"\nbackend_port = 8080"),
        ("name = \"web\"", "name = \"web\"\nclient_address = \"toa\""),
        ("name = \"web\"", "name = \"web\"\nannounce_interface = \"eth0\""),
        ("type = \"http\"", "type = \"http\"\nexpect = \"x\"\nserver_name = \"a.example\""),
        ("type = \"http\"\nport = 80", "type = \"tcp\"\nport = 80\npath = \"/\""),
        ("name = \"a1\"", "name = \"a1\"\nserver_number = 3"),
    ] {
        let text = GOOD.replace(place, more);
        refusal(&text);
        let read = parse_accepted(&text, "edge.toml").unwrap_or_else(|error| panic!("{more}: {error}"));
        assert_eq!((read.text.as_str(), read.services.len()), (text.as_str(), 1), "{more}");
        if !more.contains("tcp") && !more.contains("server_number") {
            assert_eq!(Config { text: plain.text.clone(), ..read }, plain, "{more}");
        }
    }
    // What remains must make sense.
    for (place, wrong) in [
        ("mode = \"ipip\"", "mode = \"other\""),
        ("pools = [\"provider-a\"]", "pools = [\"b\"]"),
        ("name = \"web\"", ""),
    ] {
        assert!(parse_accepted(&GOOD.replace(place, wrong), "edge.toml").is_err(), "{wrong}");
    }
}

#[test]
fn references_that_fall_silent_with_the_backends() {
    let targets = |list: &str| format!("[edge]\nreference_targets = [{list}]\n[tunnel]");
    let all = targets("\"192.0.2.10:80\", \"10.1.0.11:80\", \"10.0.0.1:22\", \"192.0.2.1:179\"");
    check!(catalogue(&[("[tunnel]", all.as_str())]));
    good(&GOOD.replace("[tunnel]", &targets("\"192.0.2.1:179\"")));
}

/// The text to write for a single VIP is not refused in turn.
#[test]
fn what_is_advised_is_accepted() {
    let mut advised = 0;
    for vip in [
        "::ffff:192.0.2.10",
        "::ffff:192.0.2.0/120",
        "::ffff:127.0.0.1",
        "fe80::1%eth0",
        "2001:db8::1%eth0",
        "192.0.2.10:80",
        "[2001:db8::1]:80",
        "127.0.0.1:80",
        "192.0.2.9/28",
        "192.0.2.10-192.0.2.20",
        "192.0.2.0/255.255.255.0",
        "[2001:db8::1]",
    ] {
        let refusal = refusal(&GOOD.replace("\"192.0.2.10\"", &format!("\"{vip}\"")));
        let (_, write) = refusal.split_once("\n  write: ").expect("an advice");
        assert!(!write.starts_with("vips = \"") && !write.contains("as vips"), "{refusal}");
        let Some((value, _)) = write.strip_prefix('"').and_then(|rest| rest.split_once('"')) else { continue };
        good(&GOOD.replace("\"192.0.2.10\"", &format!("\"{value}\"")));
        advised += 1;
    }
    assert!(advised >= 7, "{advised}");
    let quoted = refusal(&GOOD.replace("type = \"http\"", "type = \"http\"\nstatus = [200, \"204\"]"));
    assert!(quoted.ends_with("write: 204, without quotes"), "{quoted}");
}
