//! Which file of a crate imports which: the picture.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::imports::{Import, imports};

/// A module, from the crate's root.
pub(crate) type Module = Vec<String>;

/// The modules of a crate, each of which is a file, without its tests.
pub(crate) struct Picture {
    /// Top modules, in the order of `lib.rs`.
    pub(crate) order: Vec<String>,
    imports: BTreeMap<Module, Vec<Import>>,
}

impl Picture {
    pub(crate) fn of(root: &Path) -> Self {
        let lib = fs::read_to_string(root.join("lib.rs")).expect("lib.rs");
        let declared = lib.lines().filter_map(|line| {
            line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
        });
        let mut files = Vec::new();
        sources(root, &mut files);
        let tests = |file: &PathBuf| {
            let inside = file.strip_prefix(root).expect("below the root").with_extension("");
            inside.iter().any(|part| part == "tests" || part.to_string_lossy().ends_with("_tests"))
        };
        let of_file = |file: PathBuf| {
            let path = file.strip_prefix(root).expect("below the root").with_extension("");
            let mut module: Module = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            module.pop_if(|last| *last == "mod" || *last == "lib");
            (module, imports(&fs::read_to_string(file).expect("a source")))
        };
        Self {
            order: declared.collect(),
            imports: files.into_iter().filter(|file| !tests(file) && !file.ends_with("main.rs")).map(of_file).collect(),
        }
    }

    /// Who imports from whom. A re-export is no stop on the way: the arrow ends at the file that has the name.
    pub(crate) fn arrows(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let of_module = |(module, imports): (&Module, &Vec<Import>)| {
            let named = imports.iter().filter_map(|import| self.home(module, &import.path, 0));
            (module.clone(), named.filter(|home| home != module).collect())
        };
        self.imports.iter().map(of_module).collect()
    }

    /// The module that has what `path` names in `from`; `None` for what is of another crate.
    fn home(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        // Two modules that pass on all of each other have no end.
        assert!(depth < 16, "{} is passed on in a circle", path.join("::"));
        let mut names = path;
        let mut at = from.clone();
        match path.first()?.as_str() {
            "crate" => at.clear(),
            "self" | "super" => {}
            child if self.child(from, child).is_some() => {}
            _ => return None,
        }
        while let Some((name, rest)) = names.split_first() {
            match name.as_str() {
                "crate" | "self" => {}
                "super" => drop(at.pop()),
                name => {
                    if let Some(child) = self.child(&at, name) {
                        at = child;
                    } else {
                        let passed_on = self.imports[&at].iter().find(|import| import.passed_on && import.name == name);
                        return passed_on.and_then(|import| self.home(&at, &import.path, depth + 1)).or(Some(at));
                    }
                }
            }
            names = rest;
        }
        Some(at)
    }

    fn child(&self, module: &Module, name: &str) -> Option<Module> {
        let mut child = module.clone();
        child.push(name.to_owned());
        self.imports.contains_key(&child).then_some(child)
    }
}

/// All files of Rust below `directory`.
pub(crate) fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("target") {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}
