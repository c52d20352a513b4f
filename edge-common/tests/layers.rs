//! The picture of imports: a module imports only modules that stand before it in `lib.rs`.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            found.push(path);
        }
    }
}

/// Names of the modules that the code, its tests left out, takes from the crate's root.
fn imports(code: &str) -> Vec<String> {
    let code = code.split("#[cfg(test)]").next().expect("what stands before the tests");
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join(" ");
    let mut names = Vec::new();
    for import in lines.split("crate::").skip(1) {
        let Some(list) = import.strip_prefix('{') else {
            names.push(name(import));
            continue;
        };
        let (mut depth, mut start) = (0, true);
        for (at, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                ' ' => {}
                _ if start => {
                    names.push(name(&list[at..]));
                    start = false;
                }
                _ => {}
            }
        }
    }
    names
}

fn name(path: &str) -> String {
    path.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

#[test]
fn a_module_imports_only_modules_that_stand_before_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).expect("lib.rs");
    let order: Vec<_> =
        lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect();
    let place = |module: &str| order.iter().position(|name| name == module);
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut seen = 0;
    for file in files.iter().filter(|file| !file.ends_with("lib.rs")) {
        let inside = file.strip_prefix(&root).expect("below src");
        let module = inside.iter().next().and_then(|first| Path::new(first).file_stem()).expect("a module");
        let own = place(&module.to_string_lossy()).expect("a module that lib.rs has");
        for import in imports(&fs::read_to_string(file).expect("a source")) {
            let other = place(&import).unwrap_or_else(|| panic!("{}: no module {import}", inside.display()));
            assert!(other <= own, "{} imports {import}, which stands behind it", inside.display());
            seen += 1;
        }
    }
    assert!(seen > 50, "{seen} imports: they were not read");
}
