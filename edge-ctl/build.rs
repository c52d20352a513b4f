//! Finds the eBPF object that the binary embeds.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=EDGE_EBPF_OBJECT");
    let object = env::var_os("EDGE_EBPF_OBJECT")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf/edge")), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    // The object for traces is beside it, made of the same sources.
    let traced = object.with_file_name("traced");
    println!("cargo::rerun-if-changed={}", traced.display());
    match object.canonicalize().and_then(|object| Ok((object, traced.canonicalize()?))) {
        Ok((object, traced)) => {
            println!("cargo::rustc-env=EDGE_OBJECT={}", object.display());
            println!("cargo::rustc-env=EDGE_TRACED_OBJECT={}", traced.display());
        }
        Err(error) => println!(
            "cargo::error=the eBPF object {} is not there ({error}): run `cargo xtask build`, which makes it",
            object.display()
        ),
    }
}
