//! Tests of the configuration: the result for a good file, the text of every refusal, and no panic on any input.

mod accepted;
mod catalogue;
mod connections;
mod defaults;
mod documents;
mod excerpts;
mod families;
mod flows;
mod foreign;
mod http;
mod includes;
mod lists;
mod mangled;
mod notify;
mod refused;
mod reported;
mod sizes;
mod tunnels;
mod without_effect;

use std::path::Path;

use edge_common::abi::{Tracking, WhenExhausted};

use super::*;

/// A small file that is good; tests change it.
const GOOD: &str = r#"hash_key = "000102030405060708090a0b0c0d0e0f"
[tunnel]
source_v4 = "10.0.0.1"
[[interface]]
name = "eth0"
[[pool]]
name = "provider-a"
[pool.probe]
type = "http"
port = 80
[[pool.backend]]
name = "a1"
address = "10.1.0.11"
[[service]]
name = "web"
vips = ["192.0.2.10"]
ports = ["80/tcp"]
mode = "ipip"
pools = ["provider-a"]
"#;

fn good(text: &str) -> Config {
    match parse(text, "edge.toml") {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

/// The text of the refusal of `text`.
fn refusal(text: &str) -> String {
    match parse(text, "edge.toml") {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}
