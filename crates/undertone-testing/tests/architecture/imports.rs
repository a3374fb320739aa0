//! Which file imports from which. Every path that begins with `crate`, `self`, `super`, a child module or a name in
//! scope is followed through re-exports to the file that defines its target.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use crate::sources::{Crate, is_test};

/// A directed graph: each node's name with the names it leads to.
pub(crate) type Graph = BTreeMap<String, BTreeSet<String>>;

/// The names that a module defines, and the paths that it imports or mentions.
#[derive(Default)]
struct Scope {
    defined: BTreeSet<String>,
    /// Local names, each with the path that it imports.
    imported: Vec<(String, Vec<String>)>,
    /// The paths of glob imports.
    globs: Vec<Vec<String>>,
    /// Other paths, in types and expressions.
    mentioned: Vec<Vec<String>>,
}

/// The imports between the files of a crate.
pub(crate) fn imports(one: &Crate) -> Graph {
    let scopes: BTreeMap<&str, Scope> = one
        .modules
        .iter()
        .map(|(path, module)| {
            let mut scope = Scope::default();
            scope.visit_file(&module.syntax);
            (path.as_str(), scope)
        })
        .collect();
    let file = |path: &str| one.modules[path].file.clone();
    let mut graph = Graph::new();
    for (path, scope) in &scopes {
        let edges = graph.entry(file(path)).or_default();
        let imported = scope.imported.iter().map(|(_, target)| target);
        for target in imported.chain(&scope.globs).chain(&scope.mentioned) {
            if let Some(home) = home(&scopes, path, target, 0).filter(|home| home != path) {
                edges.insert(file(&home));
            }
        }
    }
    graph
}

/// The module that defines `target`, as seen from `from`; `None` if another crate defines it.
fn home(scopes: &BTreeMap<&str, Scope>, from: &str, target: &[String], depth: usize) -> Option<String> {
    assert!(depth < 30, "re-exports in a circle at {from}: {target:?}");
    let (first, rest) = target.split_first()?;
    let (mut module, mut rest) = match first.as_str() {
        "crate" => ("crate".to_owned(), rest),
        "self" => (from.to_owned(), rest),
        "super" => (from.rsplit_once("::")?.0.to_owned(), rest),
        // A child module or a name in scope; anything else belongs to another crate.
        name => {
            let here = &scopes[from];
            let is_local = scopes.contains_key(format!("{from}::{name}").as_str())
                || here.defined.contains(name)
                || here.imported.iter().any(|(local, path)| local == name && path != target);
            return is_local.then(|| home(scopes, from, &[&["self".to_owned()], target].concat(), depth + 1)).flatten();
        }
    };
    while let Some((name, after)) = rest.split_first() {
        let child = format!("{module}::{name}");
        if name == "super" {
            module = module.rsplit_once("::")?.0.to_owned();
        } else if scopes.contains_key(child.as_str()) {
            module = child;
        } else {
            let scope = &scopes[module.as_str()];
            if scope.defined.contains(name) {
                return Some(module);
            }
            let alias = scope.imported.iter().find(|(local, path)| local == name && !path.is_empty());
            if let Some((_, path)) = alias {
                return home(scopes, &module, &[path, after].concat(), depth + 1);
            }
            let through = |glob: &Vec<String>| {
                home(scopes, &module, &[glob.as_slice(), std::slice::from_ref(name)].concat(), depth + 1)
            };
            return scope.globs.iter().find_map(through);
        }
        rest = after;
    }
    Some(module)
}

impl Scope {
    fn add_use(&mut self, prefix: &[String], tree: &syn::UseTree) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            syn::UseTree::Path(path) => self.add_use(&with(path.ident.to_string()), &path.tree),
            syn::UseTree::Name(name) if name.ident == "self" => {
                self.imported.push((prefix.last().cloned().unwrap_or_default(), prefix.to_vec()));
            }
            syn::UseTree::Name(name) => self.imported.push((name.ident.to_string(), with(name.ident.to_string()))),
            syn::UseTree::Rename(rename) if rename.ident == "self" => {
                self.imported.push((rename.rename.to_string(), prefix.to_vec()));
            }
            syn::UseTree::Rename(rename) => {
                self.imported.push((rename.rename.to_string(), with(rename.ident.to_string())));
            }
            syn::UseTree::Glob(_) => self.globs.push(prefix.to_vec()),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_use(prefix, tree)),
        }
    }
}

impl<'a> Visit<'a> for Scope {
    fn visit_item(&mut self, item: &'a syn::Item) {
        let name = match item {
            syn::Item::Const(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Fn(item) => Some(&item.sig.ident),
            syn::Item::Macro(item) => item.ident.as_ref(),
            syn::Item::Static(item) => Some(&item.ident),
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            syn::Item::Union(item) => Some(&item.ident),
            _ => None,
        };
        self.defined.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        if !is_test(&item.attrs) {
            self.add_use(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if ["crate", "self", "super"].contains(&names[0].as_str()) && names.len() > 1 {
            self.mentioned.push(names);
        }
        visit::visit_path(self, path);
    }
}

/// The cycles of a graph, as strongly connected components: every node of a set leads to every other.
pub(crate) fn circles(graph: &Graph) -> Vec<Vec<String>> {
    let reachable = |from: &String| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(node) = open.pop() {
            for next in graph.get(node).into_iter().flatten() {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<&String>> = graph.keys().map(|node| (node, reachable(node))).collect();
    let mut found: Vec<Vec<String>> = Vec::new();
    for (node, to) in &reach {
        let circle: Vec<String> = to
            .iter()
            .filter(|other| reach.get(**other).is_some_and(|back| back.contains(node)))
            .map(|one| (*one).clone())
            .collect();
        if !circle.is_empty() && !found.contains(&circle) {
            found.push(circle);
        }
    }
    found
}
