//! Runs the fuzzer's corpus through the real program as well.

use std::{fs, path::Path};

use edge_tests::{
    cases::Scene,
    hostile::{
        Try,
        seeds::{self, Seed},
        sequence,
    },
    workspace,
};

use super::run;

/// Directory of `cargo xtask fuzz`'s corpus, from the checkout's root.
const CORPUS: &str = "tests/fuzz/corpus";

#[test]
fn what_the_fuzzer_found_worth_keeping() {
    let tries: Vec<_> = files(&workspace().join(CORPUS)).iter().flat_map(|bytes| frames(bytes)).collect();
    assert!(tries.len() > 500, "the corpus has {} frames", tries.len());
    run(|_, try_all| try_all(&mut tries.into_iter()));
}

/// The port that a flow gets decides where its answers go, so the sequences change with the choice of ports.
#[test]
fn the_corpus_has_translated_flows_with_their_answers() {
    let mut written = Vec::new();
    for Seed { name, steps, .. } in seeds::all(&Scene::new()) {
        let (path, bytes) = (workspace().join(CORPUS).join(&name), sequence::write(&steps));
        if fs::read(&path).ok().as_ref() != Some(&bytes) {
            fs::write(&path, &bytes).expect("the corpus can be written");
            written.push(name);
        }
    }
    assert!(written.is_empty(), "written to {CORPUS}, to be committed: {written:?}");
}

fn files(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).expect("the corpus is there").map(|entry| entry.expect("a file").path());
    let mut paths: Vec<_> = entries.collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a sequence")).collect()
}

/// The frames that this kernel can receive.
fn frames(bytes: &[u8]) -> impl Iterator<Item = Try> {
    let steps = sequence::read(bytes).into_iter().map(|step| step.what);
    steps.filter(|what| what.arrival.needs().iter().all(|feature| feature.is_there()))
}
