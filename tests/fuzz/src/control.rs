//! Fuzzes the controller's parsers of external input with libFuzzer.
//!
//! `cargo xtask fuzz configuration` builds it with libFuzzer's instrumentation, and selects the parser by `EDGE_FUZZ`.

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
