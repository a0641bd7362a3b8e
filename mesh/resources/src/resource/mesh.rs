//! `Mesh`: validation.

use crate::spec::{MeshSpec, MtlsMode, MtlsSpec};
use crate::suggest::quoted;
use crate::syntax;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The name of the only Mesh.
const NAME: &str = "default";

/// A validated Mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// The end of permissive mode, in seconds since 1970 (UTC); `None` for strict mutual TLS.
    pub(crate) plaintext_until: Option<u64>,
}

/// Validates a Mesh.
pub(crate) fn check(spec: MeshSpec, name: &str, errors: &mut FieldErrors) -> Option<Mesh> {
    if name != NAME {
        let at = FieldPathRef::ROOT;
        let at = at.field("metadata");
        errors.add(&at.field("name"), format!("{} is not `{NAME}`", quoted(name)), "there is one Mesh, of that name");
    }
    let MeshSpec { mtls } = spec;
    let Some(MtlsSpec { mode, until }) = mtls else { return Some(Mesh { plaintext_until: None }) };
    let at = FieldPathRef::ROOT;
    let at = at.field("spec");
    let at = at.field("mtls");
    let at = at.field("until");
    let plaintext_until = match (mode, until) {
        (MtlsMode::Strict, None) => None,
        (MtlsMode::Strict, Some(_)) => {
            errors.add(&at, "Strict has no end", "remove it, or write `mode: Permissive`");
            None
        }
        (MtlsMode::Permissive, None) => {
            errors.add(&at, "missing", "add the end of plaintext, as in `until: 2026-12-31T00:00:00Z`");
            None
        }
        (MtlsMode::Permissive, Some(until)) => match syntax::name::seconds(&until) {
            Ok(seconds) => Some(seconds),
            Err(error) => {
                errors.add_syntax_error(&at, error);
                None
            }
        },
    };
    Some(Mesh { plaintext_until })
}
