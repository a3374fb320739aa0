//! Finds functions, argument lists and files above a size limit.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use crate::sources::{Module, is_test};

const MAX_FILE_LINES: usize = 500;
const MAX_FUNCTION_LINES: usize = 100;
const MAX_ARGUMENTS: usize = 6;

/// What is too large in a file: the file itself with its tests, and functions outside of tests.
pub(crate) fn too_large(module: &Module) -> Vec<String> {
    let mut finder = Finder { file: &module.file, found: Vec::new() };
    let lines = module.text.lines().count();
    if lines > MAX_FILE_LINES {
        finder.found.push(format!("{}: {lines} lines", module.file));
    }
    finder.visit_file(&module.syntax);
    finder.found
}

struct Finder<'a> {
    file: &'a str,
    found: Vec<String>,
}

impl Finder<'_> {
    fn check(&mut self, signature: &syn::Signature, body: Option<&syn::Block>) {
        let name = &signature.ident;
        let arguments = signature.inputs.iter().filter(|input| matches!(input, syn::FnArg::Typed(_))).count();
        if arguments > MAX_ARGUMENTS {
            self.found.push(format!("{}: `{name}` has {arguments} arguments", self.file));
        }
        let lines = body.map_or(0, |body| body.span().end().line - signature.span().start().line + 1);
        if lines > MAX_FUNCTION_LINES {
            self.found.push(format!("{}: `{name}` has {lines} lines", self.file));
        }
    }
}

impl<'a> Visit<'a> for Finder<'_> {
    fn visit_item_fn(&mut self, item: &'a syn::ItemFn) {
        self.check(&item.sig, Some(&item.block));
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        self.check(&item.sig, Some(&item.block));
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'a syn::TraitItemFn) {
        self.check(&item.sig, item.default.as_ref());
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        if !is_test(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }
}
