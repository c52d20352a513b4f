//! Where the status page is served.

use super::{
    catalogue::{catalogue, check},
    *,
};

#[test]
fn off_unless_configured_and_on_loopback_without_an_address() {
    assert_eq!(good(GOOD).http, None);
    for (section, listen) in [
        ("[http]", "127.0.0.1:9180"),
        ("[http]\nlisten = \"127.0.0.1:80\"", "127.0.0.1:80"),
        ("[http]\nlisten = \"[::1]:9180\"", "[::1]:9180"),
        ("[http]\nlisten = \"0.0.0.0:9180\"", "0.0.0.0:9180"),
        ("[http]\nlisten = \"[::]:9180\"", "[::]:9180"),
        ("[http]\nlisten = \"10.0.0.1:9180\"", "10.0.0.1:9180"),
    ] {
        let config = good(&GOOD.replace("[tunnel]", &format!("{section}\n[tunnel]")));
        assert_eq!(config.http, Some(listen.parse().unwrap()), "{section}");
    }
}

#[test]
fn what_is_wrong_with_it() {
    let wrong = [
        "9180",
        "\"9180\"",
        "\"localhost:9180\"",
        "\"127.0.0.1\"",
        "\"127.0.0.1:0\"",
        "\"224.0.0.1:9180\"",
        "\"[fe80::1]:9180\"",
        "\"255.255.255.255:9180\"",
        "\"192.0.2.10:9180\"",
    ];
    let sections = wrong.map(|listen| format!("[http]\nlisten = {listen}\n[tunnel]"));
    let cases: Vec<_> = sections.iter().map(|section| ("[tunnel]", section.as_str())).collect();
    check!(catalogue(&cases));
}
