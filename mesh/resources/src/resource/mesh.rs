//! `Mesh`: what holds for every workload.

use crate::document::{Faults, Path};
use crate::grammar;
use crate::suggest::quoted;
use crate::written::{MeshSpec, MtlsMode, MtlsSpec};

/// The name that the only Mesh has.
const NAME: &str = "default";

/// What holds for every workload.
#[derive(Debug)]
pub(crate) struct Mesh {
    /// Until when plain text is answered where mutual TLS is asked for, in seconds since 1970 (UTC).
    pub(crate) plain_until: Option<u64>,
}

/// Checks the fields of a Mesh.
pub(crate) fn check(spec: MeshSpec, name: &str, faults: &mut Faults) -> Option<Mesh> {
    if name != NAME {
        let at = Path::ROOT;
        let at = at.field("metadata");
        faults.add(&at.field("name"), format!("{} is not `{NAME}`", quoted(name)), "there is one Mesh, of that name");
    }
    let MeshSpec { mtls } = spec;
    let Some(MtlsSpec { mode, until }) = mtls else { return Some(Mesh { plain_until: None }) };
    let at = Path::ROOT;
    let at = at.field("spec");
    let at = at.field("mtls");
    let at = at.field("until");
    let plain_until = match (mode, until) {
        (MtlsMode::Strict, None) => None,
        (MtlsMode::Strict, Some(_)) => {
            faults.add(&at, "Strict has no end", "remove it, or write `mode: Permissive`");
            None
        }
        (MtlsMode::Permissive, None) => {
            faults.add(&at, "missing", "say when plain text ends, as in `until: 2026-12-31T00:00:00Z`");
            None
        }
        (MtlsMode::Permissive, Some(until)) => match grammar::name::seconds(&until) {
            Ok(seconds) => Some(seconds),
            Err(objection) => {
                faults.object(&at, objection);
                None
            }
        },
    };
    Some(Mesh { plain_until })
}
