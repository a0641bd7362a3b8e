//! Resources: validated documents. The third validation step: the typed value of each kind, and every rule that needs
//! no other object. Called for each new document.
//!
//! ```text
//! node ─► type meta ─► schema ─► typed (serde) ─► rules of the kind ─► Resource
//!             └──────────┴─────────────┴──────────────┴─► field errors, all of them, with positions
//! ```

pub(crate) mod list;
pub(crate) mod type_meta;
pub(crate) mod authorization_policy;
pub(crate) mod filter;
pub(crate) mod filter_limits;
pub(crate) mod filter_vm;
pub(crate) mod backend_tls_policy;
pub(crate) mod backend_traffic_policy;
pub(crate) mod client_traffic_policy;
pub(crate) mod gateway;
pub(crate) mod grants;
pub(crate) mod tcp_route;
pub(crate) mod grpc_route;
pub(crate) mod http_route;
pub(crate) mod service_entry;
pub(crate) mod service_ref;
pub(crate) mod mesh;
pub(crate) mod config_map;
pub(crate) mod secret;
pub(crate) mod secret_ref;
pub(crate) mod protocol_options;
pub(crate) mod field;
pub(crate) mod id;

use std::sync::Arc;

use weir_model::limits::MAX_METADATA_BYTES;

use crate::resource::field::{object, typed};
use crate::schema;
use crate::spec::{Kind, Metadata};
use crate::syntax;
use crate::yaml::{FieldErrors, FieldPathRef, Node, ParsedDocument, Position};

pub(crate) use authorization_policy::AuthorizationPolicy;
pub(crate) use backend_tls_policy::BackendTlsPolicy;
pub(crate) use backend_traffic_policy::BackendTrafficPolicy;
pub(crate) use client_traffic_policy::ClientTrafficPolicy;
pub(crate) use config_map::ConfigMap;
pub(crate) use filter::{ClusterRef, Filter, TargetKind};
pub(crate) use gateway::{AllowedNamespaces, Gateway, GatewayListener, ListenerTls};
pub(crate) use grants::{GatewayClass, ReferenceGrant};
pub(crate) use http_route::{BackendRef, HttpRoute, MethodLengths, ParentRef, Rule, RuleAction, RuleBackend};
pub use id::ObjectId;
pub(crate) use list::parse_resources;
pub(crate) use mesh::Mesh;
pub(crate) use secret::Secret;
pub(crate) use secret_ref::{SecretTemplate, SecretUse};
pub(crate) use service_entry::{ServiceEntry, ServicePort};
pub(crate) use tcp_route::TcpRoute;

/// A valid object.
#[derive(Debug)]
pub(crate) enum Resource {
    Gateway(Gateway),
    HttpRoute(HttpRoute),
    GrpcRoute(HttpRoute),
    TcpRoute(TcpRoute),
    GatewayClass(GatewayClass),
    ReferenceGrant(ReferenceGrant),
    ServiceEntry(ServiceEntry),
    Filter(Box<Filter>),
    BackendTrafficPolicy(Box<BackendTrafficPolicy>),
    BackendTlsPolicy(Box<BackendTlsPolicy>),
    ClientTrafficPolicy(Box<ClientTrafficPolicy>),
    AuthorizationPolicy(AuthorizationPolicy),
    Secret(Secret),
    ConfigMap(ConfigMap),
    Mesh(Mesh),
}

impl Resource {
    /// Returns the route, for an HTTPRoute or a GRPCRoute.
    pub(crate) const fn http_route(&self) -> Option<&HttpRoute> {
        match self {
            Self::HttpRoute(route) | Self::GrpcRoute(route) => Some(route),
            _ => None,
        }
    }
}

/// A document after all checks that need no other document.
#[derive(Debug)]
pub(crate) struct Document {
    /// The kind, if it is known.
    pub(crate) kind: Option<Kind>,
    /// The identity, if kind and name are readable.
    pub(crate) id: Option<ObjectId>,
    /// The creation, as far as `metadata` has it.
    pub(crate) creation: Creation,
    /// The labels and annotations, which filters can read.
    pub(crate) metadata: weir_model::Metadata,
    /// The typed value; `None` if the document has errors.
    pub(crate) resource: Option<Resource>,
    /// The position of the document's first value, from the start of the chunk.
    pub(crate) start: Position,
    /// The errors, in the order found.
    pub(crate) errors: Vec<LocatedFieldError>,
}

impl Document {
    /// Returns the object's name in diagnostics.
    pub(crate) fn label(&self) -> Option<String> {
        match (&self.id, self.kind) {
            (Some(id), _) => Some(id.to_string()),
            (None, Some(kind)) => Some(kind.name().to_owned()),
            (None, None) => None,
        }
    }
}

/// The creation of an object. The smaller one is older.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Creation {
    /// At a time: an object of Kubernetes, or one that an older release has stored.
    Time(String),
    /// By a revision of the control plane.
    Revision {
        /// The revision.
        revision: u64,
        /// The position among the objects that the revision applied.
        index: u64,
    },
    /// Unknown, as for most objects in files.
    #[default]
    Unknown,
}

/// An error with its position.
#[derive(Debug, Clone)]
pub(crate) struct LocatedFieldError {
    /// The position from the start of the chunk.
    pub(crate) position: Position,
    /// The field's path.
    pub(crate) field: String,
    /// The reason.
    pub(crate) reason: String,
    /// The hint.
    pub(crate) hint: String,
}

/// Validates a parsed document. The result has a resource or errors.
pub(crate) fn read_document(parsed: ParsedDocument) -> Document {
    let ParsedDocument { root: node, errors: parse_errors } = parsed;
    let mut errors = FieldErrors::default();
    for error in parse_errors {
        errors.push(error);
    }
    let kind = type_meta::kind(&node, &mut errors);
    let id = kind.and_then(|kind| object(&node, kind));
    let mut resource = None;
    let (mut creation, mut metadata) = (Creation::Unknown, weir_model::Metadata::default());
    if let Some(kind) = kind {
        schema::check(&node, schema::kind_schema(kind), &FieldPathRef::ROOT, &mut errors);
        if errors.is_empty() {
            (creation, metadata) = check_metadata(&node, kind, &mut errors).unwrap_or_default();
            resource = check_spec(&node, kind, &mut errors);
        }
    }
    let resource = resource.filter(|_| errors.is_empty());
    let locate = |error: crate::yaml::FieldError| LocatedFieldError {
        position: error.position.unwrap_or_else(|| node.locate(&error.path)),
        field: error.path.to_string(),
        reason: error.reason,
        hint: error.hint,
    };
    let errors = errors.into_vec().into_iter().map(locate).collect();
    Document { kind, id, creation, metadata, resource, start: node.position, errors }
}

fn check_metadata(node: &Node, kind: Kind, errors: &mut FieldErrors) -> Option<(Creation, weir_model::Metadata)> {
    let root = FieldPathRef::ROOT;
    let at = root.field("metadata");
    let metadata = typed(node.field("metadata")?, &at, errors)?;
    let Metadata { name, namespace, labels, annotations, creation_timestamp, creation_revision, creation_index } =
        metadata;
    errors.check(&at.field("name"), syntax::name::object_name(&name));
    match namespace {
        Some(_) if !kind.is_namespaced() => {
            errors.add(&at.field("namespace"), format!("a {} belongs to no namespace", kind.name()), "remove it");
        }
        Some(namespace) => errors.check(&at.field("namespace"), syntax::name::label(&namespace)),
        None => {}
    }
    let list = at.field("labels");
    for (key, value) in labels.iter().flatten() {
        errors.check(&list.field(key), syntax::name::label_key(key));
        errors.check(&list.field(key), syntax::name::label_value(value));
    }
    let list = at.field("annotations");
    for key in annotations.iter().flat_map(|annotations| annotations.keys()) {
        errors.check(&list.field(key), syntax::name::label_key(key));
    }
    if let Some(created) = &creation_timestamp {
        errors.check(&at.field("creationTimestamp"), syntax::name::timestamp(created));
    }
    let texts = labels.iter().chain(&annotations).flatten().filter(|(key, _)| *key != LAST_APPLIED_ANNOTATION);
    let bytes: usize = texts.map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        let reason = format!("labels and annotations of {bytes} bytes");
        errors.add(&at, reason, format!("use at most {MAX_METADATA_BYTES}: filters can read them"));
    }
    let creation = match (creation_revision, creation_timestamp) {
        (Some(revision), _) => Creation::Revision { revision, index: creation_index.unwrap_or_default() },
        (None, Some(time)) => Creation::Time(time),
        (None, None) => Creation::Unknown,
    };
    Some((creation, filter_metadata(labels, annotations)))
}

/// The annotation in which kubectl stores the whole object. Filters do not receive it.
const LAST_APPLIED_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

type StringMap = std::collections::BTreeMap<String, String>;

fn filter_metadata(labels: Option<StringMap>, annotations: Option<StringMap>) -> weir_model::Metadata {
    let text = |(key, value): (String, String)| (Arc::from(key), Arc::from(value));
    let is_for_filters = |(key, _): &(String, String)| key != LAST_APPLIED_ANNOTATION;
    let group = |texts: Option<StringMap>| texts.into_iter().flatten().filter(is_for_filters).map(text).collect();
    let groups = [("labels", labels), ("annotations", annotations)];
    weir_model::Metadata::new(groups.map(|(name, texts)| (Arc::from(name), group(texts))))
}

fn check_spec(node: &Node, kind: Kind, errors: &mut FieldErrors) -> Option<Resource> {
    let root = FieldPathRef::ROOT;
    let at = root.field("spec");
    if kind == Kind::Secret {
        return Some(Resource::Secret(secret::check(typed(node, &root, errors)?, errors)?));
    }
    if kind == Kind::ConfigMap {
        return Some(Resource::ConfigMap(config_map::check(typed(node, &root, errors)?, errors)?));
    }
    let spec = node.field("spec")?;
    Some(match kind {
        Kind::Secret | Kind::ConfigMap => return None, // Handled above.
        Kind::Mesh => {
            let name = node.field("metadata").and_then(|metadata| metadata.field("name")?.text()).unwrap_or_default();
            Resource::Mesh(mesh::check(typed(spec, &at, errors)?, name, errors)?)
        }
        Kind::Gateway => Resource::Gateway(gateway::check(typed(spec, &at, errors)?, &at, errors)?),
        Kind::HttpRoute => Resource::HttpRoute(http_route::check(typed(spec, &at, errors)?, &at, errors)?),
        Kind::GrpcRoute => Resource::GrpcRoute(grpc_route::check(typed(spec, &at, errors)?, &at, errors)?),
        Kind::TcpRoute => Resource::TcpRoute(tcp_route::check(typed(spec, &at, errors)?, &at, errors)?),
        Kind::GatewayClass => Resource::GatewayClass(grants::check_class(typed(spec, &at, errors)?)),
        Kind::ReferenceGrant => Resource::ReferenceGrant(grants::check(typed(spec, &at, errors)?, &at, errors)),
        Kind::ServiceEntry => Resource::ServiceEntry(service_entry::check(typed(spec, &at, errors)?, &at, errors)?),
        Kind::Filter => Resource::Filter(Box::new(filter::check(typed(spec, &at, errors)?, &at, errors)?)),
        Kind::BackendTrafficPolicy => Resource::BackendTrafficPolicy(Box::new(backend_traffic_policy::check(
            typed(spec, &at, errors)?,
            &at,
            errors,
        )?)),
        Kind::BackendTlsPolicy => {
            Resource::BackendTlsPolicy(Box::new(backend_tls_policy::check(typed(spec, &at, errors)?, &at, errors)?))
        }
        Kind::ClientTrafficPolicy => Resource::ClientTrafficPolicy(Box::new(client_traffic_policy::check(
            typed(spec, &at, errors)?,
            &at,
            errors,
        )?)),
        Kind::AuthorizationPolicy => {
            let id = object(node, kind)?;
            let policy = authorization_policy::check(typed(spec, &at, errors)?, &id.namespace, &at, errors)?;
            Resource::AuthorizationPolicy(policy)
        }
    })
}
