//! Resources: documents that were understood. Pass three of the checks: the typed value of each kind, and every rule
//! about its fields that needs no other object. Called for each document that is new.
//!
//! ```text
//! tree ─► which kind? ─► shape (schema) ─► typed (serde) ─► rules of the kind ─► Resource
//!               └────────────────┴───────────────┴──────────────┴─► faults, all of them, each with its place
//! ```

pub(crate) mod access_policy;
pub(crate) mod backend_policy;
pub(crate) mod field;
pub(crate) mod filter;
pub(crate) mod filter_limits;
pub(crate) mod gateway;
pub(crate) mod grants;
pub(crate) mod header;
pub(crate) mod http_route;
pub(crate) mod mesh;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod tcp_route;

use std::fmt;
use std::sync::Arc;

use weir_model::limits::MAX_METADATA_BYTES;

use crate::document::{Faults, Mark, ParsedDocument, Path, Tree};
use crate::grammar;
use crate::resource::field::{object, typed};
use crate::schema;
use crate::written::{Kind, Metadata};

pub(crate) use access_policy::AccessPolicy;
pub(crate) use backend_policy::BackendPolicy;
pub(crate) use filter::{Filter, TargetKind};
pub(crate) use gateway::{Admits, Gateway, GatewayListener, Security};
pub(crate) use grants::{GatewayClass, ReferenceGrant};
pub(crate) use http_route::{BackendRef, HttpRoute, ParentRef, Rule, RuleAction};
pub(crate) use mesh::Mesh;
pub(crate) use secret::Secret;
pub(crate) use service::{Service, ServicePort};
pub(crate) use tcp_route::TcpRoute;

/// The namespace of an object that names none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for a kind without.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match namespace.is_empty() {
            true => write!(formatter, "{} {name}", kind.name()),
            false => write!(formatter, "{} {namespace}/{name}", kind.name()),
        }
    }
}

/// An object that was understood.
#[derive(Debug)]
pub(crate) enum Resource {
    Gateway(Gateway),
    HttpRoute(HttpRoute),
    TcpRoute(TcpRoute),
    GatewayClass(GatewayClass),
    ReferenceGrant(ReferenceGrant),
    Service(Service),
    Filter(Box<Filter>),
    BackendPolicy(BackendPolicy),
    AccessPolicy(AccessPolicy),
    Secret(Secret),
    Mesh(Mesh),
}

/// A document after all checks that need no other document.
#[derive(Debug)]
pub(crate) struct Document {
    /// Its kind, when it is one that is known.
    pub(crate) kind: Option<Kind>,
    /// Which object it is, when kind and name could be read.
    pub(crate) id: Option<ObjectId>,
    /// What it is called in refusals.
    pub(crate) label: Option<String>,
    /// When the object was made, if it says so.
    pub(crate) created: Option<String>,
    /// Its labels and annotations, for filters.
    pub(crate) metadata: weir_model::Metadata,
    /// What it says; `None` when anything is wrong with it.
    pub(crate) resource: Option<Resource>,
    /// Where it begins.
    pub(crate) start: Mark,
    /// What is wrong with it, in the order it was found.
    pub(crate) faults: Vec<PlacedFault>,
}

/// Something wrong, and where.
#[derive(Debug, Clone)]
pub(crate) struct PlacedFault {
    /// Where, counted from the beginning of the chunk.
    pub(crate) mark: Mark,
    /// The field.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) hint: String,
}

/// Reads a document: from a tree to a resource, or to everything that is wrong with it.
pub(crate) fn read(parsed: ParsedDocument) -> Document {
    let ParsedDocument { tree, faults: parse_faults } = parsed;
    let mut faults = Faults::default();
    for fault in parse_faults {
        faults.push(fault);
    }
    let kind = header::kind(&tree, &mut faults);
    let id = kind.and_then(|kind| object(&tree, kind));
    let mut resource = None;
    let (mut created, mut metadata) = (None, weir_model::Metadata::default());
    if let Some(kind) = kind {
        schema::check(&tree, schema::shape(kind), &Path::ROOT, &mut faults);
        if faults.is_empty() {
            (created, metadata) = check_metadata(&tree, kind, &mut faults).unwrap_or_default();
            resource = check_spec(&tree, kind, &mut faults);
        }
    }
    let resource = resource.filter(|_| faults.is_empty());
    let label = match (&id, kind) {
        (Some(id), _) => Some(id.to_string()),
        (None, Some(kind)) => Some(kind.name().to_owned()),
        (None, None) => None,
    };
    let place = |fault: crate::document::Fault| PlacedFault {
        mark: fault.mark.unwrap_or_else(|| tree.locate(&fault.path)),
        field: fault.path.to_string(),
        reason: fault.reason,
        hint: fault.hint,
    };
    let faults = faults.into_vec().into_iter().map(place).collect();
    Document { kind, id, label, created, metadata, resource, start: tree.mark, faults }
}

fn check_metadata(tree: &Tree, kind: Kind, faults: &mut Faults) -> Option<(Option<String>, weir_model::Metadata)> {
    let root = Path::ROOT;
    let at = root.field("metadata");
    let metadata = typed(tree.field("metadata")?, &at, faults)?;
    let Metadata { name, namespace, labels, annotations, creation_timestamp } = metadata;
    faults.check(&at.field("name"), grammar::name::object_name(&name));
    match namespace {
        Some(_) if !kind.is_namespaced() => {
            faults.add(&at.field("namespace"), format!("a {} belongs to no namespace", kind.name()), "remove it");
        }
        Some(namespace) => faults.check(&at.field("namespace"), grammar::name::label(&namespace)),
        None => {}
    }
    let list = at.field("labels");
    for (key, value) in labels.iter().flatten() {
        faults.check(&list.field(key), grammar::name::label_key(key));
        faults.check(&list.field(key), grammar::name::label_value(value));
    }
    let list = at.field("annotations");
    for key in annotations.iter().flat_map(|annotations| annotations.keys()) {
        faults.check(&list.field(key), grammar::name::label_key(key));
    }
    if let Some(created) = &creation_timestamp {
        faults.check(&at.field("creationTimestamp"), grammar::name::timestamp(created));
    }
    let texts = labels.iter().chain(&annotations).flatten().filter(|(key, _)| *key != KUBECTL);
    let bytes: usize = texts.map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        let reason = format!("labels and annotations of {bytes} bytes");
        faults.add(&at, reason, format!("use at most {MAX_METADATA_BYTES}: filters can read them"));
    }
    Some((creation_timestamp, for_filters([("labels", labels), ("annotations", annotations)])))
}

/// The annotation in which kubectl keeps the whole object: nothing for filters.
const KUBECTL: &str = "kubectl.kubernetes.io/last-applied-configuration";

type Texts = std::collections::BTreeMap<String, String>;

fn for_filters(groups: [(&str, Option<Texts>); 2]) -> weir_model::Metadata {
    let text = |(key, value): (String, String)| (Arc::from(key), Arc::from(value));
    let group =
        |texts: Option<Texts>| texts.into_iter().flatten().filter(|(key, _)| key != KUBECTL).map(text).collect();
    weir_model::Metadata::new(groups.map(|(name, texts)| (Arc::from(name), group(texts))))
}

fn check_spec(tree: &Tree, kind: Kind, faults: &mut Faults) -> Option<Resource> {
    let root = Path::ROOT;
    let at = root.field("spec");
    if kind == Kind::Secret {
        return Some(Resource::Secret(secret::check(typed(tree, &root, faults)?, faults)?));
    }
    let spec = tree.field("spec")?;
    Some(match kind {
        Kind::Secret => return None, // Done above.
        Kind::Mesh => {
            let name = tree.field("metadata").and_then(|it| it.field("name")?.text()).unwrap_or_default();
            Resource::Mesh(mesh::check(typed(spec, &at, faults)?, name, faults)?)
        }
        Kind::Gateway => Resource::Gateway(gateway::check(typed(spec, &at, faults)?, &at, faults)?),
        Kind::HttpRoute => Resource::HttpRoute(http_route::check(typed(spec, &at, faults)?, &at, faults)?),
        Kind::TcpRoute => Resource::TcpRoute(tcp_route::check(typed(spec, &at, faults)?, &at, faults)?),
        Kind::GatewayClass => Resource::GatewayClass(grants::check_class(typed(spec, &at, faults)?)),
        Kind::ReferenceGrant => Resource::ReferenceGrant(grants::check(typed(spec, &at, faults)?, &at, faults)),
        Kind::Service => Resource::Service(service::check(typed(spec, &at, faults)?, &at, faults)?),
        Kind::Filter => Resource::Filter(Box::new(filter::check(typed(spec, &at, faults)?, &at, faults)?)),
        Kind::BackendPolicy => Resource::BackendPolicy(backend_policy::check(typed(spec, &at, faults)?, &at, faults)?),
        Kind::AccessPolicy => {
            let id = object(tree, kind)?;
            let policy = access_policy::check(typed(spec, &at, faults)?, &id.namespace, &at, faults)?;
            Resource::AccessPolicy(policy)
        }
    })
}
