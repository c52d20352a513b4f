//! The picture of imports has no arrow upward and no circle, and each file has one idea.

mod imports;
mod picture;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::picture::{Module, Picture, sources};

/// Those whose `lib.rs` has its modules in the order in which they stand on each other.
const LAYERED: [&str; 2] = ["edge-common", "edge-ctl"];
const PACKAGES: [&str; 5] = ["edge-common", "edge-ctl", "edge-ebpf", "tests", "xtask"];
/// Past this there is a second idea.
const LONGEST: usize = 400;

fn package(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

#[test]
fn a_module_imports_only_modules_that_stand_before_it() {
    for name in LAYERED {
        let picture = Picture::of(&package(name).join("src"));
        let place = |module: &Module| {
            let top = module.first()?;
            let place = picture.order.iter().position(|other| other == top);
            Some(place.unwrap_or_else(|| panic!("{name}: lib.rs has no module {top}")))
        };
        let mut seen = 0;
        for (module, imported) in picture.arrows() {
            // lib.rs itself stands on all of them.
            let Some(own) = place(&module) else { continue };
            for other in imported {
                let stands_before = place(&other).is_some_and(|other| other <= own);
                assert!(stands_before, "{name}: {} imports {}", module.join("::"), other.join("::"));
                seen += 1;
            }
        }
        assert!(seen > 100, "{name}: {seen} imports: they were not read");
    }
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for name in LAYERED {
        let mut arrows = Picture::of(&package(name).join("src")).arrows();
        // What a folder's own file has is there for the files in the folder.
        for (module, imported) in &mut arrows {
            imported.retain(|other| !module.starts_with(other));
        }
        if let Some(circle) = circle(arrows) {
            let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
            panic!("{name}: {} imports the first again", names.join(" imports "));
        }
    }
}

#[test]
fn a_file_says_what_it_is_and_is_not_long() {
    for name in PACKAGES {
        let mut files = Vec::new();
        sources(&package(name), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).expect("a source");
            let (shown, lines) = (file.display(), text.lines().count());
            assert!(text.starts_with("//!"), "{shown} does not begin with its idea");
            assert!(lines <= LONGEST, "{shown} has {lines} lines");
        }
    }
}

#[test]
fn a_module_that_is_called_pure_may_not_look_at_a_clock() {
    const LINT: &str = "clippy::disallowed_methods";
    let root = package("edge-ctl").join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let idea: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
        if idea.contains("Pure.") || idea.contains("Pure:") {
            // A lint of a module is one of all modules in it.
            let around = file.ancestors().skip(1).take_while(|folder| *folder != root);
            let mut modules = around.flat_map(|folder| [folder.join("mod.rs"), folder.with_extension("rs")]);
            let is_around = modules.any(|module| fs::read_to_string(module).is_ok_and(|text| text.contains(LINT)));
            assert!(is_around || text.contains(LINT), "{} may look at a clock", file.display());
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} modules are called pure");
}

/// A circle of arrows, if there is one.
fn circle(mut arrows: BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    // What imports nothing that is left is in no circle.
    loop {
        let left: BTreeSet<_> = arrows.keys().cloned().collect();
        for imported in arrows.values_mut() {
            imported.retain(|other| left.contains(other));
        }
        arrows.retain(|_, imported| !imported.is_empty());
        if arrows.len() == left.len() {
            break;
        }
    }
    // Each that is left imports one that is left: this way never ends.
    let mut way = vec![arrows.keys().next()?.clone()];
    loop {
        let next = arrows[&way[way.len() - 1]].first()?.clone();
        if let Some(start) = way.iter().position(|module| *module == next) {
            return Some(way.split_off(start));
        }
        way.push(next);
    }
}

#[test]
fn circles_are_found() {
    let arrows = |pairs: &[(&str, &str)]| {
        let mut arrows = BTreeMap::<Module, BTreeSet<Module>>::new();
        for (from, to) in pairs {
            arrows.entry(vec![(*to).to_owned()]).or_default();
            arrows.entry(vec![(*from).to_owned()]).or_default().insert(vec![(*to).to_owned()]);
        }
        arrows
    };
    assert_eq!(circle(arrows(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    let found = circle(arrows(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("c", "e")]));
    assert_eq!(found.map(|found| found.concat()), Some(["b", "c", "d"].map(str::to_owned).to_vec()));
}

#[test]
fn files_that_the_architecture_names_are_there() {
    let root = package("edge-common").join("..");
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the architecture");
    let mut files = Vec::new();
    for package in ["edge-common", "edge-ebpf", "edge-ctl", "xtask", "tests"] {
        sources(&root.join(package), &mut files);
    }
    // The name in a pair of backticks; a path may begin anywhere in it.
    let named = text.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '*'])).map(Path::new);
    let is_source = |name: &&Path| name.extension().is_some_and(|kind| kind == "rs");
    let gone: Vec<_> = named.filter(is_source).filter(|name| !files.iter().any(|file| file.ends_with(name))).collect();
    assert!(gone.is_empty(), "{gone:?}");
}
