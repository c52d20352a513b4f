//! Backends with an address of each IP version.

use super::*;

/// `GOOD` in dsr, with VIPs of both IP versions, and with two addresses of backend `a1`.
fn dual() -> String {
    GOOD.replace("address = \"10.1.0.11\"", "address = [\"10.1.0.11\", \"2001:db8:a::11\"]")
        .replace("vips = [\"192.0.2.10\"]", "vips = [\"192.0.2.10\", \"2001:db8::10\", \"192.0.2.11\"]")
        .replace("\"ipip\"", "\"dsr\"")
}

fn addresses(config: &Config, pool: usize) -> Vec<String> {
    config.pools[pool].backends.iter().map(|backend| format!("{} {}", backend.name, backend.address)).collect()
}

#[test]
fn clients_of_each_version_have_a_part_of_the_service_and_of_its_pool() {
    let config = good(&dual());
    let names = |names: Vec<&String>| names.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    assert_eq!(names(config.pools.iter().map(|pool| &pool.name).collect()), "provider-a@ipv4 provider-a@ipv6");
    assert_eq!(names(config.services.iter().map(|service| &service.name).collect()), "web@ipv4 web@ipv6");
    assert_eq!(
        (addresses(&config, 0), addresses(&config, 1)),
        (vec!["a1 10.1.0.11".to_owned()], vec!["a1 2001:db8:a::11".to_owned()])
    );
    let vips = |at: usize| config.services[at].vips.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (vips(0), vips(1)),
        (vec!["192.0.2.10".to_owned(), "192.0.2.11".to_owned()], vec!["2001:db8::10".to_owned()])
    );
    assert_eq!((&config.services[0].pools[..], &config.services[1].pools[..]), (&[0][..], &[1][..]));
    assert_eq!(config.pools[0].judging, config.pools[1].judging);
}

#[test]
fn a_tunnel_takes_the_other_version_where_a_backend_has_only_that() {
    let more = "[[pool.backend]]\nname = \"a2\"\naddress = [\"10.1.0.12\"]\n[[service]]";
    let text = dual().replace("\"dsr\"", "\"ipip\"").replace("[[service]]", more);
    let text = text.replace("source_v4 = \"10.0.0.1\"", "source_v4 = \"10.0.0.1\"\nsource_v6 = \"fd00::1\"");
    let config = good(&text);
    assert_eq!(addresses(&config, 0), ["a1 10.1.0.11", "a2 10.1.0.12"]);
    assert_eq!(addresses(&config, 1), ["a1 2001:db8:a::11", "a2 10.1.0.12"]);
    // With IPv4 clients alone, no IPv6 source is needed, and there is one service, with the IPv4 part of the pool.
    let v4 = text.replace("source_v6 = \"fd00::1\"", "").replace(", \"2001:db8::10\"", "");
    let config = good(&v4);
    assert_eq!(
        (config.services.len(), &config.services[0].name[..], &config.services[0].pools[..]),
        (1, "web", &[0][..])
    );
}

#[test]
fn translation_takes_the_other_version_where_a_backend_has_only_that() {
    let more = "[[pool.backend]]\nname = \"a2\"\naddress = [\"10.1.0.12\"]\n[[service]]";
    let nat = dual().replace("\"dsr\"", "\"nat\"").replace("[[service]]", more);
    let with = |sources: &str| nat.replace("[[interface]]", &format!("[nat]\n{sources}\n[[interface]]"));
    let both = with("source_v4 = \"10.0.0.1\"\nsource_v6 = \"fd00::1\"");
    let config = good(&both);
    assert_eq!(addresses(&config, 0), ["a1 10.1.0.11", "a2 10.1.0.12"]);
    assert_eq!(addresses(&config, 1), ["a1 2001:db8:a::11", "a2 10.1.0.12"]);
    // A source is needed for each IP version of the backends in use, whatever the IP version of the clients.
    let (v4, v6) = (with("source_v4 = \"10.0.0.1\""), with("source_v6 = \"fd00::1\""));
    let only = |text: &str, address: &str| text.replace("[\"10.1.0.11\", \"2001:db8:a::11\"]", address);
    good(&only(&v4, "\"10.1.0.11\""));
    for (text, lacks) in [
        (&v4, "mode \"nat\" to IPv6 backends needs [nat] `source_v6`"),
        (&v6, "mode \"nat\" to IPv4 backends needs [nat] `source_v4`"),
        (&only(&v4, "\"2001:db8:a::11\""), "mode \"nat\" to IPv6 backends needs [nat] `source_v6`"),
    ] {
        let refused = refusal(text);
        assert!(refused.contains(lacks), "{refused}");
    }
}

#[test]
fn one_address_or_a_list_of_one_is_the_same() {
    let listed = GOOD.replace("\"10.1.0.11\"", "[\"10.1.0.11\"]");
    assert_eq!(Config { text: String::new(), ..good(&listed) }, Config { text: String::new(), ..good(GOOD) });
}

#[test]
fn what_was_split_is_joined_again() {
    let config = good(&dual());
    let joined = config.joined();
    assert_eq!((joined.pools.len(), joined.services.len()), (1, 1));
    assert_eq!((&joined.pools[0].name[..], &joined.services[0].name[..]), ("provider-a", "web"));
    assert_eq!(joined.pools[0].backends.len(), 2);
    assert_eq!(joined.services[0].vips.len(), 3);
    assert_eq!(good(GOOD).joined(), good(GOOD));
}

#[test]
fn the_limits_count_both_parts() {
    let text = dual().replace("[[interface]]", "[limits]\nservices = 1\npools = 1\nbackends = 1\n[[interface]]");
    insta::assert_snapshot!(refusal(&text));
}

#[test]
fn what_no_backend_can_have() {
    let two = "[\"10.1.0.11\", \"2001:db8:a::11\"]";
    let messages: Vec<_> = [
        (two, "[\"10.1.0.11\", \"10.1.0.12\"]"),
        (two, "[\"2001:db8:a::11\", \"2001:db8:a::12\"]"),
        (two, "[\"10.1.0.11\", \"2001:db8:a::11\", \"10.1.0.12\"]"),
        (two, "[\"10.1.0.11\", \"web.example\"]"),
        (two, "[\"10.1.0.11\", 7]"),
        (two, "[]"),
        (two, "7"),
        (two, "[\"10.1.0.11\"]"),
        (two, "\"2001:db8:a::11\""),
        (two, "[\"10.1.0.11\", \"2001:db8::10\"]"),
    ]
    .into_iter()
    .map(|(old, new)| format!("address = {new}\n{}", refusal(&dual().replacen(old, new, 1))))
    .collect();
    insta::assert_snapshot!(messages.join("\n"));
}

#[test]
fn a_word_means_all_of_it_or_a_part() {
    for (word, name, is_it) in [
        ("web", "web", true),
        ("web", "web@ipv4", true),
        ("web", "web@ipv6", true),
        ("web@ipv6", "web@ipv6", true),
        ("web@ipv6", "web@ipv4", false),
        // A name of a part in an older request, after the pool has become one again.
        ("web@ipv6", "web", true),
        ("web", "other@ipv4", false),
        ("web@", "web", false),
        ("@ipv4", "web", false),
    ] {
        assert_eq!(is_meant(word, name), is_it, "{word} {name}");
    }
    assert_eq!(joined_names(["a@ipv4", "b", "a@ipv6", "c@ipv6"]), ["a", "b", "c@ipv6"]);
    assert_eq!(joined_backends(["a@ipv4/x", "a@ipv6/x", "a@ipv4/y", "b/x"]), ["a/x", "b/x", "a@ipv4/y"]);
}
