//! Reads the rules of `ARCHITECTURE.md` and the dependencies in the manifests.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports::Graph;
use crate::sources::root;

/// The lines of `ARCHITECTURE.md` under a heading.
fn section(heading: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let lines = text.lines().skip_while(|line| *line != format!("## {heading}")).skip(1);
    let lines: Vec<String> = lines.take_while(|line| !line.starts_with("## ")).map(str::to_owned).collect();
    assert!(!lines.is_empty(), "ARCHITECTURE.md has no heading `{heading}`");
    lines
}

/// The dependencies that the map allows: lines such as `undertone-model ← data, ops` in the first block under `Layers`.
pub(crate) fn allowed_edges() -> Graph {
    let lines = section("Layers").into_iter().skip_while(|line| !line.starts_with("```")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("```"));
    let crate_name = |name: &str| format!("undertone-{name}");
    lines
        .map(|line| {
            let (name, dependencies) = line.split_once('←').unwrap_or((&line, ""));
            let dependencies = dependencies.split(',').map(str::trim).filter(|name| !name.is_empty());
            (name.trim().to_owned(), dependencies.map(crate_name).collect())
        })
        .collect()
}

/// The dependencies of every crate on other crates of the workspace, without dev-dependencies.
pub(crate) fn manifest_edges() -> Graph {
    let folders = std::fs::read_dir(root().join("crates")).unwrap();
    folders
        .map(|folder| {
            let text = std::fs::read_to_string(folder.unwrap().path().join("Cargo.toml")).unwrap();
            let manifest: toml::Table = text.parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap().to_owned();
            let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
            let own = dependencies.into_iter().flat_map(toml::Table::keys).filter(|name| name.starts_with("undertone"));
            (name, own.cloned().collect())
        })
        .collect::<BTreeMap<String, BTreeSet<String>>>()
}

/// The files that the map lists under `Unsafe`: the first word in backticks of each line.
pub(crate) fn listed_unsafe() -> BTreeSet<String> {
    let lines = section("Unsafe").into_iter().filter(|line| line.starts_with("- `"));
    lines.map(|line| format!("crates/{}", line.split('`').nth(1).unwrap())).collect()
}
