//! Imports between the files of one crate form no circle.
//!
//! An import is a path that starts with `crate::`, `self::`, `super::`, a child module or an imported module, in a `use`
//! or anywhere in shipped code. A path leads to the file that defines its item: re-exports are followed, and are no
//! imports themselves.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::baseline::Fault;
use crate::source::{SourceFile, is_test_only};

/// Longest chain of re-exports that is followed.
const MAX_REEXPORTS: usize = 8;

/// The names of the modules that lead to a file from the root of its crate, joined with `::`. Empty for the root.
type ModulePath = String;

/// Reports each file that imports itself through other files.
pub(crate) fn check_circles(files: &[&SourceFile], faults: &mut Vec<Fault>) {
    let is_library = |folder: &str| files.iter().any(|file| file.path == format!("{folder}lib.rs"));
    for root in files {
        let library = root.path.strip_suffix("lib.rs");
        let binary = || root.path.strip_suffix("main.rs").filter(|folder| !is_library(folder));
        if let Some(folder) = library.or_else(binary) {
            let modules = parse_modules(files, folder);
            report_circles(&modules, faults);
        }
    }
}

/// One file of a crate.
struct Module<'a> {
    file: &'a str,
    /// Names that the file defines.
    items: BTreeSet<String>,
    /// Its `use` declarations.
    uses: Vec<Use>,
    /// Paths in its code outside `use` declarations.
    paths: Vec<Vec<String>>,
    /// Children that are compiled for tests only.
    test_children: Vec<String>,
}

/// One name that a `use` declaration brings in.
struct Use {
    /// `*` for a glob.
    name: String,
    segments: Vec<String>,
    is_reexport: bool,
}

fn parse_modules<'a>(files: &[&'a SourceFile], folder: &str) -> BTreeMap<ModulePath, Module<'a>> {
    let mut modules = BTreeMap::new();
    for file in files {
        let Some(inner) = file.path.strip_prefix(folder) else { continue };
        let inner = inner.trim_end_matches(".rs").trim_end_matches("/mod");
        let path = if matches!(inner, "lib" | "main" | "mod") { String::new() } else { inner.replace('/', "::") };
        let Some(syntax) = &file.syntax else { continue };
        // Beside a library, the binary's root is not a module of the library.
        if inner != "main" || !modules.contains_key("") {
            modules.insert(path, parse_module(&file.path, syntax));
        }
    }
    let test_only: Vec<ModulePath> =
        modules.iter().flat_map(|(path, module)| module.test_children.iter().map(|child| join(path, child))).collect();
    modules.retain(|path, _| !test_only.iter().any(|test| is_within(path, test)));
    modules
}

fn join(path: &str, child: &str) -> ModulePath {
    if path.is_empty() { child.to_owned() } else { format!("{path}::{child}") }
}

fn parent(path: &str) -> ModulePath {
    path.rsplit_once("::").map(|(parent, _)| parent).unwrap_or_default().to_owned()
}

fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn parse_module<'a>(file: &'a str, syntax: &syn::File) -> Module<'a> {
    let mut module =
        Module { file, items: BTreeSet::new(), uses: Vec::new(), paths: Vec::new(), test_children: Vec::new() };
    for item in &syntax.items {
        if let Some(name) = item_name(item) {
            module.items.insert(name);
        }
        match item {
            syn::Item::Mod(child) if is_test_only(&child.attrs) => module.test_children.push(child.ident.to_string()),
            _ => module.visit_item(item),
        }
    }
    module
}

fn item_name(item: &syn::Item) -> Option<String> {
    let name = match item {
        syn::Item::Const(item) => &item.ident,
        syn::Item::Enum(item) => &item.ident,
        syn::Item::Fn(item) => &item.sig.ident,
        syn::Item::Macro(item) => item.ident.as_ref()?,
        syn::Item::Mod(item) if item.content.is_some() => &item.ident,
        syn::Item::Static(item) => &item.ident,
        syn::Item::Struct(item) => &item.ident,
        syn::Item::Trait(item) => &item.ident,
        syn::Item::Type(item) => &item.ident,
        syn::Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'ast> Visit<'ast> for Module<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test_only(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, method: &'ast syn::ImplItemFn) {
        if !is_test_only(&method.attrs) {
            visit::visit_impl_item_fn(self, method);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
        self.add_use(&item.tree, &mut Vec::new(), is_reexport);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.add_paths_of_tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

impl Module<'_> {
    fn add_use(&mut self, tree: &syn::UseTree, above: &mut Vec<String>, is_reexport: bool) {
        let mut add = |name: &str, last: Option<String>| {
            let segments = above.iter().cloned().chain(last.filter(|last| last != "self")).collect();
            self.uses.push(Use { name: name.to_owned(), segments, is_reexport });
        };
        match tree {
            syn::UseTree::Name(name) if name.ident == "self" => {
                let module = above.last().cloned().unwrap_or_default();
                add(&module, None);
            }
            syn::UseTree::Name(name) => add(&name.ident.to_string(), Some(name.ident.to_string())),
            syn::UseTree::Rename(rename) => add(&rename.rename.to_string(), Some(rename.ident.to_string())),
            syn::UseTree::Glob(_) => add("*", None),
            syn::UseTree::Path(path) => {
                above.push(path.ident.to_string());
                self.add_use(&path.tree, above, is_reexport);
                above.pop();
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_use(tree, above, is_reexport);
                }
            }
        }
    }

    /// Adds the paths `a::b::c` in the arguments of a macro.
    fn add_paths_of_tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.paths.extend((path.len() > 1).then(|| std::mem::take(&mut path)));
                        path.clear();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.add_paths_of_tokens(group.stream());
                    colons = 0;
                }
                _ => colons = 0,
            }
        }
        self.paths.extend((path.len() > 1).then_some(path));
    }
}

/// The files that `path` in `module` leads to; none when it leaves the crate.
struct Resolver<'a> {
    modules: &'a BTreeMap<ModulePath, Module<'a>>,
}

/// The end of a path.
#[derive(PartialEq)]
enum Target {
    Module(ModulePath),
    /// An item that this module defines.
    Item(ModulePath),
}

impl Resolver<'_> {
    fn resolve(&self, from: &str, segments: &[String], depth: usize) -> Option<Target> {
        if depth > MAX_REEXPORTS {
            return None;
        }
        let mut rest = segments;
        let mut module = match rest.first()?.as_str() {
            "crate" => String::new(),
            "self" => from.to_owned(),
            "super" => parent(from),
            child if self.modules.contains_key(&join(from, child)) => join(from, child),
            name => {
                let imported = self.modules[from].uses.iter().find(|import| import.name == name)?;
                if imported.segments == segments {
                    return None;
                }
                match self.resolve(from, &imported.segments, depth + 1)? {
                    Target::Module(module) => module,
                    Target::Item(_) => return None,
                }
            }
        };
        rest = &rest[1..];
        while let Some(segment) = rest.first() {
            let child = join(&module, segment);
            if segment == "super" {
                module = parent(&module);
            } else if self.modules.contains_key(&child) {
                module = child;
            } else {
                return self.resolve_item(&module, rest, depth);
            }
            rest = &rest[1..];
        }
        Some(Target::Module(module))
    }

    fn resolve_item(&self, module: &str, rest: &[String], depth: usize) -> Option<Target> {
        let defined_here = Some(Target::Item(module.to_owned()));
        let found = self.modules.get(module)?;
        if found.items.contains(&rest[0]) {
            return defined_here;
        }
        if let Some(import) = found.uses.iter().find(|import| import.name == rest[0]) {
            let whole: Vec<String> = import.segments.iter().chain(&rest[1..]).cloned().collect();
            return self.resolve(module, &whole, depth + 1);
        }
        for glob in found.uses.iter().filter(|import| import.name == "*") {
            if let Some(Target::Module(inner)) = self.resolve(module, &glob.segments, depth + 1) {
                let defines = self.modules.get(&inner).is_some_and(|inner| inner.items.contains(&rest[0]));
                if defines {
                    return Some(Target::Item(inner));
                }
            }
        }
        defined_here
    }

    /// Returns the modules that `path` imports from.
    fn imports(&self, path: &str) -> BTreeSet<ModulePath> {
        let module = &self.modules[path];
        let uses = module.uses.iter().filter(|import| !import.is_reexport);
        // A `use` of a whole module counts where an item of the module is named.
        let of_uses = uses.filter_map(|import| match self.resolve(path, &import.segments, 0)? {
            Target::Item(target) => Some(target),
            Target::Module(target) => (import.name == "*").then_some(target),
        });
        let of_paths = module.paths.iter().filter_map(|segments| match self.resolve(path, segments, 0)? {
            Target::Item(target) | Target::Module(target) => Some(target),
        });
        of_uses.chain(of_paths).filter(|target| target != path).collect()
    }
}

fn report_circles(modules: &BTreeMap<ModulePath, Module<'_>>, faults: &mut Vec<Fault>) {
    let resolver = Resolver { modules };
    let imports: BTreeMap<&str, BTreeSet<ModulePath>> =
        modules.keys().map(|path| (path.as_str(), resolver.imports(path))).collect();
    for (path, module) in modules {
        if let Some(circle) = shortest_circle(&imports, path) {
            let names: Vec<&str> = circle.iter().map(|path| modules[path.as_str()].file).collect();
            let message = format!("imports itself: {}", names.join(" -> "));
            faults.push(Fault::new(module.file, 1, "circle", message));
        }
    }
}

/// Returns the shortest way from `start` along imports back to itself, both ends included.
fn shortest_circle(imports: &BTreeMap<&str, BTreeSet<ModulePath>>, start: &str) -> Option<Vec<ModulePath>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in imports.get(at).into_iter().flatten() {
            if next == start {
                let mut circle = vec![start.to_owned(), at.to_owned()];
                let mut step = at;
                while step != start {
                    step = came_from[step];
                    circle.push(step.to_owned());
                }
                circle.reverse();
                circle.dedup();
                return Some(circle);
            }
            if !came_from.contains_key(next.as_str()) {
                came_from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circles(planted: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<SourceFile> = planted.iter().map(|(path, text)| SourceFile::new(path, text)).collect();
        let mut faults = Vec::new();
        check_circles(&files.iter().collect::<Vec<_>>(), &mut faults);
        faults.into_iter().map(|fault| fault.message).collect()
    }

    #[test]
    fn import_circle_is_a_fault_through_super_and_multi_line_imports() {
        let planted = [
            ("a/src/lib.rs", "mod one; mod two;"),
            ("a/src/one.rs", "use crate::{\n    two::{\n        Second,\n    },\n};\npub struct First(Second);"),
            ("a/src/two.rs", "pub struct Second; fn f() -> Option<super::one::First> { None }"),
        ];
        let expected = [
            "imports itself: a/src/one.rs -> a/src/two.rs -> a/src/one.rs",
            "imports itself: a/src/two.rs -> a/src/one.rs -> a/src/two.rs",
        ];
        assert_eq!(circles(&planted), expected);
    }

    #[test]
    fn import_circle_is_found_through_reexports_and_imported_modules() {
        let planted = [
            ("a/src/lib.rs", "mod folder; mod user;"),
            ("a/src/folder/mod.rs", "mod child; pub use child::Child;"),
            ("a/src/folder/child.rs", "use crate::user; pub struct Child; fn f() { user::run() }"),
            ("a/src/user.rs", "use crate::folder::Child; pub fn run() {}"),
        ];
        assert_eq!(circles(&planted).len(), 2);
    }

    #[test]
    fn tests_and_reexports_are_no_imports() {
        let planted = [
            ("a/src/lib.rs", "mod folder; #[cfg(test)] mod checks;\npub use folder::Child;"),
            ("a/src/checks.rs", "use crate::Child;"),
            ("a/src/folder/mod.rs", "mod child; pub use child::Child; pub struct Parent;"),
            ("a/src/folder/child.rs", "use super::Parent; pub struct Child; #[cfg(test)] mod tests { use crate::*; }"),
        ];
        assert_eq!(circles(&planted), [""; 0]);
    }
}
