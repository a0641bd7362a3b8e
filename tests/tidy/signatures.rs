//! Parameters of functions: values that belong together have a name.

use syn::visit::{self, Visit};

use crate::baseline::Fault;
use crate::source::SourceFile;

/// Reports parameters whose type is an anonymous tuple, destructured or not, in functions, methods and trait
/// declarations. Implementations of traits are skipped: their signature belongs to the trait.
pub(crate) fn check_tuple_parameters(file: &SourceFile, faults: &mut Vec<Fault>) {
    let Some(syntax) = &file.syntax else { return };
    TupleParameters { path: &file.path, faults }.visit_file(syntax);
}

struct TupleParameters<'a> {
    path: &'a str,
    faults: &'a mut Vec<Fault>,
}

impl<'ast> Visit<'ast> for TupleParameters<'_> {
    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        for member in &item.items {
            match member {
                syn::ImplItem::Fn(method) if item.trait_.is_some() => self.visit_block(&method.block),
                _ => self.visit_impl_item(member),
            }
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        for input in &signature.inputs {
            let syn::FnArg::Typed(parameter) = input else { continue };
            let ty = match &*parameter.ty {
                syn::Type::Reference(reference) => &*reference.elem,
                ty => ty,
            };
            if matches!(ty, syn::Type::Tuple(tuple) if tuple.elems.len() > 1) {
                let name = &signature.ident;
                let message = format!("`{name}` takes an anonymous tuple; pass a named struct");
                self.faults.push(Fault::new(self.path, name.span().start().line, &format!("tuple {name}"), message));
            }
        }
        visit::visit_signature(self, signature);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuple_parameter_is_a_fault() {
        let planted = "fn send(\n    stream: u8,\n    (route, to): (u8, u8),\n) {}\nfn read(pair: &(u8, u8)) {}\n\
                       trait T { fn call(&self, both: (u8, u8)); }\nfn fine(one: u8, unit: (), list: &[(u8, u8)]) {}\n\
                       impl From<(u8, u8)> for S { fn from((a, b): (u8, u8)) -> S { fn inner(x: (u8, u8)) {} S } }";
        let mut faults = Vec::new();
        check_tuple_parameters(&SourceFile::new("a.rs", planted), &mut faults);
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["tuple send", "tuple read", "tuple call", "tuple inner"]);
    }
}
