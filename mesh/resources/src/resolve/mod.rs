//! Resolved references: what each object means by the names it gives. Finds everything that dangles, contradicts or
//! attaches to nothing. Called with all documents of a compilation; what it hands on is enough to build a snapshot.
//!
//! ```text
//! documents ─► Catalog ─► attach (routes to listeners) ─► backends (to Services) ─► targets (Filter, AccessPolicy, …)
//! ```

pub(crate) mod attach;
pub(crate) mod backends;
pub(crate) mod catalog;
pub(crate) mod host;
pub(crate) mod problem;
pub(crate) mod targets;

use crate::resource::ObjectId;

pub(crate) use attach::Attachment;
pub(crate) use backends::backend_id;
pub(crate) use catalog::Catalog;
pub(crate) use problem::Problems;
pub(crate) use targets::Policies;

/// All documents with their references resolved.
#[derive(Debug, Default)]
pub(crate) struct Resolved<'a> {
    /// Which route serves which host of which listener.
    pub(crate) attachments: Vec<Attachment>,
    /// The policy of each Service that has one.
    pub(crate) policies: Policies<'a>,
}

/// Resolves every reference.
pub(crate) fn resolve<'a>(catalog: &Catalog<'a>, problems: &mut Problems) -> Resolved<'a> {
    attach::check_gateways(catalog, problems);
    let attachments = attach::attach_routes(catalog, problems);
    backends::check_routes(catalog, problems);
    backends::check_tcp_routes(catalog, problems);
    targets::check_filters(catalog, problems);
    targets::check_certificates(catalog, problems);
    let policies = targets::policies(catalog, problems);
    Resolved { attachments, policies }
}

/// The namespace a reference means: its own, or that of the object it is written in.
pub(crate) fn namespace<'a>(written: Option<&'a str>, id: &'a ObjectId) -> &'a str {
    written.unwrap_or(&id.namespace)
}
