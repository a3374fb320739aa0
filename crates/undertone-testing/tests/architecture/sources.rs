//! Reads the crates as trees of modules, one module per file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// A crate: its library, or its program if it has no library.
pub(crate) struct Crate {
    /// Its modules by path, such as `crate::read::clean`.
    pub(crate) modules: BTreeMap<String, Module>,
}

/// A module: one file.
pub(crate) struct Module {
    /// The path from the workspace's root.
    pub(crate) file: String,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Every crate under `crates/`.
pub(crate) fn crates() -> Vec<Crate> {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root().join("crates")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    let main = |folder: &PathBuf| {
        ["src/lib.rs", "src/main.rs"].map(|name| folder.join(name)).into_iter().find(|path| path.exists())
    };
    folders.iter().filter_map(main).map(|main| read(&main)).collect()
}

fn read(main: &Path) -> Crate {
    let mut modules = BTreeMap::new();
    add(&mut modules, "crate".to_owned(), main, main.parent().unwrap());
    Crate { modules }
}

/// Adds a file and the files of its modules, which lie in `folder`.
fn add(modules: &mut BTreeMap<String, Module>, path: String, file: &Path, folder: &Path) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for item in &syntax.items {
        let syn::Item::Mod(module) = item else { continue };
        if module.content.is_some() || is_test(&module.attrs) {
            continue;
        }
        let name = module.ident.to_string();
        let candidates = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
        let child =
            candidates.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{path}::{name} has no file"));
        add(modules, format!("{path}::{name}"), child, &folder.join(&name));
    }
    let file = file.strip_prefix(root()).unwrap().display().to_string();
    modules.insert(path, Module { file, text, syntax });
}

/// Whether something is compiled for tests only.
pub(crate) fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

/// Whether a file has an `unsafe` block, function or implementation outside of tests.
pub(crate) fn uses_unsafe(module: &Module) -> bool {
    #[derive(Default)]
    struct Finder(bool);

    impl<'a> Visit<'a> for Finder {
        fn visit_expr_unsafe(&mut self, _: &'a syn::ExprUnsafe) {
            self.0 = true;
        }

        fn visit_signature(&mut self, signature: &'a syn::Signature) {
            self.0 |= signature.unsafety.is_some();
        }

        fn visit_item_impl(&mut self, item: &'a syn::ItemImpl) {
            self.0 |= item.unsafety.is_some();
            visit::visit_item_impl(self, item);
        }

        fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
            if !is_test(&item.attrs) {
                visit::visit_item_mod(self, item);
            }
        }
    }

    let mut finder = Finder::default();
    finder.visit_file(&module.syntax);
    finder.0
}
