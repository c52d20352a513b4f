//! Hooks that are told of events.

use super::{
    catalogue::{catalogue, check},
    *,
};
use crate::event_kind::EventKind;

fn with(sections: &str) -> String {
    GOOD.replace("[tunnel]", &format!("{sections}\n[tunnel]"))
}

#[test]
fn commands_and_webhooks_with_their_defaults() {
    assert_eq!(good(GOOD).notify, []);
    let config = good(&with(
        "[[notify]]\ncommand = [\"/usr/bin/page\", \"-x\"]\n\
         [[notify]]\nname = \"chat\"\nwebhook = \"https://[2001:db8::1]:8443/hook?key=1\"\nca = \"/etc/ca.pem\"\n\
         events = [\"pool_returned\", \"pool_left\", \"pool_left\"]\ntimeout = \"2s\"\n\
         [[notify]]\nwebhook = \"http://alerts.example.org\"",
    ));
    let [page, chat, alerts] = &config.notify[..] else { panic!("three") };
    let argv = vec!["/usr/bin/page".to_owned(), "-x".to_owned()];
    assert_eq!((page.name.as_str(), page.timeout), ("page", Duration::from_secs(10)));
    assert_eq!(page.target, HookTarget::Command { argv, user: "nobody".to_owned() });
    assert!(page.events.contains(&EventKind::PoolLeft) && !page.events.contains(&EventKind::PoolReturned));
    assert_eq!(chat.events, [EventKind::PoolLeft, EventKind::PoolReturned]);
    assert_eq!((chat.name.as_str(), chat.timeout), ("chat", Duration::from_secs(2)));
    let webhook = Webhook {
        tls: true,
        host: "[2001:db8::1]".to_owned(),
        port: Some(8443),
        path: "/hook?key=1".to_owned(),
        ca: Some("/etc/ca.pem".into()),
    };
    assert_eq!(chat.target, HookTarget::Webhook(webhook));
    let HookTarget::Webhook(Webhook { tls: false, port: None, path, .. }) = &alerts.target else {
        panic!("{alerts:?}")
    };
    assert_eq!((alerts.name.as_str(), path.as_str()), ("alerts.example.org", "/"));
}

#[test]
fn what_is_wrong_with_them() {
    let webhook = |url: &str| format!("[[notify]]\nwebhook = \"{url}\"");
    let wrong = [
        "[notify]\ncommand = [\"/bin/true\"]".to_owned(),
        "[[notify]]".to_owned(),
        "[[notify]]\ncommand = \"/bin/true\"".to_owned(),
        "[[notify]]\ncommand = [\"page\"]".to_owned(),
        "[[notify]]\ncommand = [\"/bin/true\"]\nwebhook = \"http://a.example\"".to_owned(),
        "[[notify]]\ncommand = [\"/bin/true\"]\nca = \"/etc/ca.pem\"".to_owned(),
        "[[notify]]\ncommand = [\"/bin/true\"]\nevents = []".to_owned(),
        "[[notify]]\ncommand = [\"/bin/true\"]\nevents = [\"pool_lft\", \"lagged\"]".to_owned(),
        "[[notify]]\ncommand = [\"/bin/true\"]\ntimeout = \"1h\"".to_owned(),
        "[[notify]]\ncommand = [\"/bin/true\"]\n[[notify]]\ncommand = [\"/usr/bin/true\"]".to_owned(),
        "[[notify]]\nwebhook = \"http://a.example\"\nuser = \"nobody\"".to_owned(),
        webhook("a.example/hook"),
        webhook("ftp://a.example/"),
        webhook("https://user:secret@a.example/"),
        webhook("https://a.example:/"),
        webhook("https://a.example:99999/"),
        webhook("https://a b/"),
        "[[notify]]\ncommand = [\"/bin/true\"]\n".repeat(9),
    ];
    let sections = wrong.map(|section| format!("{section}\n[tunnel]"));
    let cases: Vec<_> = sections.iter().map(|section| ("[tunnel]", section.as_str())).collect();
    check!(catalogue(&cases));
}
