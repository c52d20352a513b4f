//! What the controller reads from outside, changed by libFuzzer where that leads to new code.
//!
//! `cargo xtask fuzz configuration` builds it with what libFuzzer needs, and says by `EDGE_FUZZ` what reads the bytes.

#![no_main]

use std::sync::LazyLock;

use edge_ctl::fuzz::Reader;
use libfuzzer_sys::fuzz_target;

static READER: LazyLock<Reader> = LazyLock::new(|| {
    let name = std::env::var("EDGE_FUZZ").unwrap_or_default();
    let reader = Reader::ALL.into_iter().find(|reader| reader.name() == name);
    reader.unwrap_or_else(|| panic!("EDGE_FUZZ={name}: it must be one of {:?}", Reader::ALL.map(Reader::name)))
});

fuzz_target!(|bytes: &[u8]| READER.read(bytes));
