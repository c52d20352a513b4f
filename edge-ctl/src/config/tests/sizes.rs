//! Configurations that are too large, each reported at its largest part.

use super::{catalogue::check, *};

fn backends(count: u32) -> String {
    let backend = |i: u32| {
        format!(
            "[[pool.backend]]\nname = \"n{i}\"\naddress = \"10.{}.{}.{}\"\n",
            9 + i / 62_500,
            i / 250 % 250,
            i % 250 + 1
        )
    };
    (0..count).map(backend).collect::<Vec<_>>().concat()
}

/// Services of the pool of `GOOD`.
fn services(count: usize) -> String {
    let service = |i: usize| {
        format!(
            "[[service]]\nname = \"s{i}\"\nvips = [\"10.9.{}.{}\"]\nports = [\"80/tcp\"]\nmode = \"ipip\"\n\
             pools = [\"provider-a\"]\n",
            i >> 8,
            i & 255
        )
    };
    (0..count).map(service).collect()
}

#[test]
fn capacities() {
    let with = |count| GOOD.replace("[[service]]", &format!("{}[[service]]", backends(count)));
    let pools: Vec<_> = (0..30).map(|i| format!("[[pool]]\nname = \"p{i}\"\n{}", backends(2200))).collect();
    let pools = pools.concat();
    let cases = [
        with(1000),
        with(3000),
        with(100).replace("[tunnel]", "slots = 1024\n[tunnel]"),
        with(100).replace("[tunnel]", "[limits]\nbackends = 100\n[tunnel]"),
        GOOD.replace("\"192.0.2.10\"", "\"10.3.0.0/16\"").replace("80/tcp", "1-65535/tcp"),
        GOOD.replace("\"192.0.2.10\"", "\"10.3.0.0/16\"").replace("[\"80/tcp\"]", "[\"1-65535/tcp\", \"any/tcp\"]"),
        GOOD.to_owned() + &services(6000),
        GOOD.replace("[tunnel]", "slots = 262144\n[tunnel]") + &services(6000),
        GOOD.replace("[tunnel]", "slots = 262144\n[limits]\nservices = 1\n[tunnel]")
            .replace("[[service]]", &format!("{pools}[[service]]")),
    ];
    let texts: Vec<_> = cases.iter().map(|text| refusal(text)).collect();
    check!(texts.join("\n\n"));
}
