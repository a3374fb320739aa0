//! Compares `ARCHITECTURE.md`, the map, with the sources and the manifests.
//!
//! Imports between files have no cycles, crates depend on each other exactly as the map says, only the files that the
//! map lists contain `unsafe`, and functions and files stay below a size limit. `cargo-modules --acyclic` cannot
//! replace this test: it counts a module's declaration of its child as an import, and it does not read the map.
#![allow(clippy::unwrap_used)]

mod imports;
mod map;
mod sizes;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::{circles, imports};
use crate::map::{allowed_edges, listed_unsafe, manifest_edges};
use crate::sizes::too_large;
use crate::sources::{Crate, Module, crates, uses_unsafe};

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    let (mut files, mut edges, mut found) = (0, 0, Vec::new());
    for one in crates() {
        let imports = imports(&one);
        files += one.modules.len();
        edges += imports.values().map(BTreeSet::len).sum::<usize>();
        found.extend(circles(&imports));
    }
    println!("{files} files, {edges} imports between them, {} circles", found.len());
    assert!(edges > files, "imports are found");
    assert!(
        found.is_empty(),
        "circles:\n{}",
        found.iter().map(|circle| circle.join("\n  ")).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn crates_depend_on_each_other_as_the_map_says() {
    let (allowed, real) = (allowed_edges(), manifest_edges());
    println!("{} crates, {} dependencies between them", real.len(), real.values().map(BTreeSet::len).sum::<usize>());
    for (name, dependencies) in &real {
        assert_eq!(Some(dependencies), allowed.get(name), "dependencies of `{name}`: manifest, then ARCHITECTURE.md");
    }
    assert_eq!(real.len(), allowed.len(), "crates");
    assert!(circles(&real).is_empty());
}

#[test]
fn unsafe_stands_where_the_map_says() {
    let real: BTreeSet<String> = crates()
        .iter()
        .flat_map(|one| one.modules.values())
        .filter(|module| uses_unsafe(module))
        .map(|module| module.file.clone())
        .collect();
    println!("unsafe in {} files", real.len());
    assert_eq!(real, listed_unsafe(), "files with `unsafe`: sources, then ARCHITECTURE.md");
}

#[test]
fn functions_and_files_are_of_a_size_that_one_reading_takes_in() {
    let found: Vec<String> = crates().iter().flat_map(|one: &Crate| one.modules.values()).flat_map(too_large).collect();
    assert!(found.is_empty(), "split these:\n{}", found.join("\n"));
}

#[test]
fn what_is_too_large_is_found() {
    let text =
        format!("fn long(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) {{\n{}}}\n", "    work();\n".repeat(600));
    let module = Module { file: "long.rs".into(), syntax: syn::parse_file(&text).unwrap(), text };
    assert_eq!(
        too_large(&module),
        ["long.rs: 602 lines", "long.rs: `long` has 7 arguments", "long.rs: `long` has 602 lines"]
    );
}

#[test]
fn circles_are_found() {
    let graph = |edges: &[(&str, &str)]| {
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in edges {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    };
    assert_eq!(circles(&graph(&[("a", "b"), ("b", "c"), ("a", "c")])), Vec::<Vec<String>>::new());
    assert_eq!(circles(&graph(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")])), [["b", "c"]]);
}
