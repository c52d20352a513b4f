//! Two providers that die at once, in a configuration of many services.

use std::fmt::Write as _;

use super::*;

/// Backends 1 and 2 of pool a, 3 and 4 of pool b, 5 of pool c: 400 services prefer pool a, 200 pool b, and all of them
/// have pool c behind it.
fn many() -> Inventory {
    let mut text = String::from(
        "hash_key = \"000102030405060708090a0b0c0d0e0f\"\nslots = 1024\ninterface = [{ name = \"eth0\" }]\n",
    );
    for (number, pool) in ["a", "b", "c"].into_iter().enumerate() {
        let addresses = (1..=2).map(|n| format!("{{ name = \"{pool}{n}\", address = \"10.{number}.0.{n}\" }}"));
        let backends: Vec<_> = addresses.collect();
        let probe = "probe = { type = \"tcp\", port = 80, rise = 2, fall = 3 }";
        writeln!(text, "[[pool]]\nname = \"{pool}\"\n{probe}\nbackend = [{}]", backends.join(", ")).unwrap();
    }
    for n in 0..600_u32 {
        let first = if n % 3 < 2 { "a" } else { "b" };
        writeln!(
            text,
            "[[service]]\nname = \"s{n}\"\nvips = [\"198.18.{}.{}\"]\nports = [\"80/tcp\"]\nmode = \"dsr\"\n\
             pools = [\"{first}\", \"c\"]",
            n / 200,
            n % 200 + 1
        )
        .unwrap();
    }
    Inventory {
        generation: 1,
        config: config::parse(&text, "edge.toml").unwrap_or_else(|error| panic!("{error}")),
        services: (1..=600).collect(),
        pools: vec![0, 1, 2],
        backends: vec![vec![1, 2], vec![3, 4], vec![5, 6]],
        retired: Vec::new(),
    }
}

#[test]
fn two_providers_that_die_at_once_are_two_events_for_600_services() {
    let inventory = many();
    let plane = FakeDataPlane::fresh(&inventory);
    let mut controller = Controller::adopt(inventory, plane, Events::new()).unwrap();
    for _ in 0..3 {
        controller.report(&[1, 2, 3, 4].map(failed)).unwrap();
    }
    let left: Vec<_> = controller.events.kept().into_iter().filter(|event| event.kind == EventKind::PoolLeft).collect();
    let [a, b] = &left[..] else { panic!("{left:#?}") };
    assert_eq!((a.subject.as_str(), b.subject.as_str()), ("a", "b"));
    for (event, count, first) in [(a, 400, "s0"), (b, 200, "s2")] {
        let start = format!("0 of 2 available: {count} services leave it, each goes to pool c: {first}, ");
        assert!(event.message.starts_with(&start), "{}", event.message);
        // The list behind it, as long as lists of events may be.
        assert!(event.services.len() > 60 && event.services[0] == first, "{:?}", event.services);
    }
    assert!(controller.events.kept().len() <= 6, "four deaths and two moves: {:?}", kinds(&controller));
}
