//! Words: identifiers and docstrings use the field's standard terms.

use proc_macro2::Ident;
use syn::visit::{self, Visit};

use crate::baseline::Fault;
use crate::denied_types::DENIED_TYPES;
use crate::source::{SourceFile, words};

/// Words that no identifier and no docstring contains: speech and persons.
const DENIED_WORDS: [&str; 15] = [
    "told", "tell", "tells", "held", "offer", "offers", "offered", "said", "says", "given", "kept", "whoever",
    "nobody", "somebody", "anybody",
];

/// Phrases that no docstring contains.
const DENIED_PHRASES: [&str; 3] = ["just so", "for good", "is none"];

/// Words that name nothing. No file, module, type, constant or function that others can see is called so.
const EMPTY_WORDS: [&str; 10] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "base", "stuff"];

/// Words with which no docstring opens: the first word is its subject, or the verb of what a function does.
const DENIED_OPENINGS: [&str; 14] = [
    "What", "Whether", "Who", "Whose", "How", "Where", "When", "Nothing", "Nobody", "Somebody", "The same", "As above",
    "These", "It",
];

/// Reports denied words in file names and in the names of items, fields, variants, parameters and variables.
pub(crate) fn check_identifiers(file: &SourceFile, faults: &mut Vec<Fault>) {
    let Some(syntax) = &file.syntax else { return };
    let stem = file.name().trim_end_matches(".rs");
    let mut names = Names { path: &file.path, faults };
    names.check_words(stem, 1, &DENIED_WORDS);
    names.check_words(stem, 1, &EMPTY_WORDS);
    names.visit_file(syntax);
}

struct Names<'a> {
    path: &'a str,
    faults: &'a mut Vec<Fault>,
}

impl Names<'_> {
    fn check_words(&mut self, name: &str, line: usize, denied: &[&str]) {
        if let Some(word) = words(name).iter().find(|word| denied.contains(&word.as_str())) {
            let message = format!("`{word}` in `{name}`: use the field's term (docs/architecture.md, CONTRIBUTING.md)");
            self.faults.push(Fault::new(self.path, line, &format!("word {name}"), message));
        }
    }

    fn check_name(&mut self, name: &Ident) {
        self.check_words(&name.to_string(), name.span().start().line, &DENIED_WORDS);
    }

    fn check_type(&mut self, name: &Ident, visibility: &syn::Visibility) {
        self.check_item(name, visibility);
        let text = name.to_string();
        if DENIED_TYPES.contains(&text.as_str()) {
            let message = format!("`{text}` is a name of this code base's own invention; use the field's term");
            self.faults.push(Fault::new(self.path, name.span().start().line, &format!("type {text}"), message));
        }
    }

    fn check_item(&mut self, name: &Ident, visibility: &syn::Visibility) {
        self.check_name(name);
        if !matches!(visibility, syn::Visibility::Inherited) {
            self.check_words(&name.to_string(), name.span().start().line, &EMPTY_WORDS);
        }
    }
}

impl<'ast> Visit<'ast> for Names<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.check_type(&item.ident, &item.vis);
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.check_type(&item.ident, &item.vis);
        visit::visit_item_enum(self, item);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.check_type(&item.ident, &item.vis);
        visit::visit_item_trait(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.check_type(&item.ident, &item.vis);
        visit::visit_item_type(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.check_item(&item.ident, &item.vis);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.check_item(&item.ident, &item.vis);
        visit::visit_item_static(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.check_item(&item.ident, &item.vis);
        visit::visit_item_mod(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.check_item(&item.sig.ident, &item.vis);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.check_item(&item.sig.ident, &item.vis);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.check_name(&item.sig.ident);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(name) = &field.ident {
            self.check_name(name);
        }
        visit::visit_field(self, field);
    }

    fn visit_variant(&mut self, variant: &'ast syn::Variant) {
        self.check_name(&variant.ident);
        visit::visit_variant(self, variant);
    }

    fn visit_pat_ident(&mut self, pattern: &'ast syn::PatIdent) {
        self.check_name(&pattern.ident);
        visit::visit_pat_ident(self, pattern);
    }
}

/// One doc comment: the consecutive `///` or `//!` lines, and the number of the first.
struct Docstring<'a> {
    line: usize,
    lines: Vec<&'a str>,
}

/// Reports docstrings that open with a question word, and docstrings with denied words or phrases.
pub(crate) fn check_docstrings(file: &SourceFile, faults: &mut Vec<Fault>) {
    for docstring in docstrings(&file.text) {
        let first = docstring.lines[0];
        let opens_with = |opening: &&str| first.strip_prefix(*opening).is_some_and(|rest| !rest.starts_with(is_letter));
        if let Some(opening) = DENIED_OPENINGS.iter().find(|opening| opens_with(opening)) {
            let message = format!("a docstring opens with its subject, not with `{opening}`: {first}");
            faults.push(Fault::new(&file.path, docstring.line, &format!("doc {opening}"), message));
        }
        for (offset, text) in docstring.lines.iter().enumerate() {
            let line = docstring.line + offset;
            let text = without_code(text).to_lowercase();
            let denied_word = text.split(|c: char| !is_letter(c)).find(|word| DENIED_WORDS.contains(word));
            let denied = denied_word.or_else(|| DENIED_PHRASES.into_iter().find(|phrase| text.contains(phrase)));
            if let Some(denied) = denied {
                let message =
                    format!("`{denied}` in a docstring: the subject is a component, the verb is what it does");
                faults.push(Fault::new(&file.path, line, &format!("doc-word {denied}"), message));
            }
        }
    }
}

fn is_letter(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn docstrings(text: &str) -> Vec<Docstring<'_>> {
    let mut found: Vec<Docstring<'_>> = Vec::new();
    let mut marker_above = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        let marker = ["///", "//!"].into_iter().find(|marker| line.starts_with(marker)).unwrap_or_default();
        let content = line[marker.len()..].trim();
        match found.last_mut() {
            Some(docstring) if !marker.is_empty() && marker == marker_above => docstring.lines.push(content),
            _ if !marker.is_empty() => found.push(Docstring { line: index + 1, lines: vec![content] }),
            _ => {}
        }
        marker_above = marker;
    }
    found
}

/// Returns `text` without what stands in backticks.
fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(check: fn(&SourceFile, &mut Vec<Fault>), path: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        check(&SourceFile::new(path, text), &mut faults);
        faults.into_iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn denied_word_in_an_identifier_is_a_fault() {
        let planted = "struct HeldBody { who_said: u8 }\nenum E { Told }\nfn f(kept: u8) { let offers = |given: u8| given; }\n\
                       pub(crate) fn common_part() {}\nfn retold(holder: u8) {}";
        let expected = ["HeldBody", "who_said", "Told", "kept", "offers", "given", "common_part"];
        let expected: Vec<String> = expected.iter().map(|name| format!("word {name}")).collect();
        assert_eq!(keys(check_identifiers, "proxy/src/a.rs", planted), expected);
        assert_eq!(keys(check_identifiers, "proxy/src/utils.rs", ""), ["word utils"]);
    }

    #[test]
    fn invented_type_name_is_a_fault() {
        let planted = "struct Board;\ntype Outlet = u8;\nstruct SnapshotCache;";
        assert_eq!(keys(check_identifiers, "a.rs", planted), ["type Board", "type Outlet"]);
    }

    #[test]
    fn question_word_at_the_start_of_a_docstring_is_a_fault() {
        let planted = "//! What this is.\n\n/// Returns a number.\n/// When it is odd, one.\nfn a() {}\n/// Whether it fits.\n\
                       fn b() {}\n/// Items of a list.\nfn c() {}\n/// It.\nfn d() {}";
        assert_eq!(keys(check_docstrings, "a.rs", planted), ["doc What", "doc Whether", "doc It"]);
    }

    #[test]
    fn denied_word_in_a_docstring_is_a_fault() {
        let planted = "/// Returns `held`.\n/// The peer is told so, for good.\n// Nobody checks this.\nfn a() {}\n/// The entry is none.\n\
                       fn b() {}";
        assert_eq!(keys(check_docstrings, "a.rs", planted), ["doc-word told", "doc-word is none"]);
    }
}
