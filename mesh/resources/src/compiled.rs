//! A snapshot with the source position of each part. Later errors of the proxy (a port in use, a module that does not
//! load) are reported at the field that caused them.

use std::path::Path;
use std::sync::Arc;

use weir_model::{ACCESS_POLICY_PREFIX, ModuleSource, PluginName, Rejection, ResourceId, ResourceKind, Snapshot};

use crate::compile::secrets::AUTHORITIES_PREFIX;
use crate::diagnostic::Diagnostic;
use crate::resource::{ObjectId, Resource, Secret};
use crate::source::{LastChunk, Sources};
use crate::spec::Kind;
use crate::yaml::{FieldError, FieldPath, FieldStep};

/// The text in place of a secret.
const HIDDEN: &str = "<hidden>";

/// A snapshot, its warnings, and its source positions.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The compiled snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Warnings about valid resources, ordered by file, line and column. Empty for a snapshot received over xDS.
    pub warnings: Vec<Diagnostic>,
    sources: Sources,
}

impl Compiled {
    pub(crate) const fn new(snapshot: Arc<Snapshot>, warnings: Vec<Diagnostic>, sources: Sources) -> Self {
        Self { snapshot, warnings, sources }
    }

    /// Creates a `Compiled` without source positions, for a snapshot received over xDS.
    pub fn from_wire(snapshot: Snapshot) -> Self {
        Self { snapshot: Arc::new(snapshot), warnings: Vec::new(), sources: Sources::default() }
    }

    /// Drops the texts of the files. A later diagnostic reads the file again, and has the position of the object if the
    /// file has changed since.
    pub fn drop_texts(&mut self) {
        self.sources.drop_texts();
    }

    /// Returns each object with the path of its file and the hash of its text.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectId, &Path, [u8; 32])> {
        let documents = self.sources.documents().iter().enumerate();
        documents.filter_map(|(index, source)| {
            Some((source.document.id.as_ref()?, self.sources.path(index).as_path(), source.hash))
        })
    }

    /// Converts a rejection of the running proxy to a diagnostic at the responsible field. The position is the start of
    /// the document if no field is responsible.
    pub fn diagnostic(&self, rejection: &Rejection) -> Diagnostic {
        let Some((document, id)) = self.source_document(&rejection.resource) else {
            return Self::wire_diagnostic(rejection.clone());
        };
        let path = self.field(document, id, rejection);
        let (reason, hint) = (self.hide_secrets(&rejection.reason), self.hide_secrets(&rejection.hint));
        let error = FieldError { path, position: None, reason, hint };
        self.sources.diagnostic(document, &error, &mut LastChunk::default()).1
    }

    /// Returns a text with `<hidden>` in place of the values of Secrets. A module that rejects its configuration may
    /// repeat a value that a `secretRef` stands for.
    fn hide_secrets(&self, text: &str) -> String {
        let documents = self.sources.documents().iter();
        let mut values: Vec<&str> = documents
            .filter_map(|source| match &source.document.resource {
                Some(Resource::Secret(Secret::Opaque(texts))) => Some(texts.values().map(|text| &**text)),
                _ => None,
            })
            .flatten()
            .filter(|value| !value.is_empty())
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len())); // One value may be a part of another one.
        values.iter().fold(text.to_owned(), |text, value| {
            text.replace(value, HIDDEN).replace(&value.escape_debug().to_string(), HIDDEN)
        })
    }

    /// Converts a rejection of a resource without source, received over xDS.
    pub fn wire_diagnostic(rejection: Rejection) -> Diagnostic {
        let Rejection { resource, field, reason, hint } = rejection;
        Diagnostic { object: Some(resource.to_string()), field, ..Diagnostic::without_position(reason, hint) }
    }

    /// Returns the index and identity of the document that a resource was compiled from.
    fn source_document(&self, resource: &ResourceId) -> Option<(usize, &ObjectId)> {
        let object = source_object(resource)?;
        let is_source = |id: &&ObjectId| **id == object;
        let mut documents = self.sources.documents().iter().enumerate();
        documents.find_map(|(index, source)| Some((index, source.document.id.as_ref().filter(is_source)?)))
    }

    fn field(&self, document: usize, id: &ObjectId, rejection: &Rejection) -> FieldPath {
        let field = rejection.field.split(['.', '[']).next().unwrap_or_default();
        match id.kind {
            Kind::AuthorizationPolicy => return spec_path(&[]),
            Kind::BackendTlsPolicy => return spec_path(&["validation"]),
            Kind::Secret => return FieldPath::default(),
            _ => {}
        }
        match (rejection.resource.kind, field) {
            (ResourceKind::Listener, "address") => self.listener_port(document, &rejection.resource.name),
            (ResourceKind::Plugin, "module") => spec_path(&["module", self.module_field(id)]),
            (ResourceKind::Plugin, "configuration") => spec_path(&["config"]),
            (ResourceKind::Plugin, "limits") => spec_path(&["limits"]),
            _ => FieldPath::default(),
        }
    }

    fn module_field(&self, id: &ObjectId) -> &'static str {
        let name = PluginName::new(&format!("{}/{}", id.namespace, id.name)).ok();
        let plugin = name.and_then(|name| self.snapshot.plugins.get(&name));
        match plugin.map(|plugin| &plugin.module) {
            Some(ModuleSource::Builtin(_)) => "builtin",
            Some(ModuleSource::Bundle(_)) => "bundle",
            Some(ModuleSource::File(_) | ModuleSource::Remote(_)) | None => "file",
        }
    }

    fn listener_port(&self, document: usize, name: &str) -> FieldPath {
        let Some(Resource::Gateway(gateway)) = &self.sources.documents()[document].document.resource else {
            return FieldPath::default();
        };
        let listener = name.rsplit('/').next().unwrap_or_default();
        let listener = listener.split('@').next().unwrap_or_default();
        let mut path = spec_path(&["listeners"]);
        if let Some(index) = gateway.listeners.iter().position(|other| *other.name == *listener) {
            path.0.push(FieldStep::Entry(index));
            path.0.push(FieldStep::Field("port".to_owned()));
        }
        path
    }
}

/// Returns the object that a resource was compiled from; `None` if its name has another form. Object names contain no
/// `/`, so the resource name is unambiguous.
pub fn source_object(resource: &ResourceId) -> Option<ObjectId> {
    let (namespace, rest) = resource.name.split_once('/')?;
    let (kind, name) = match resource.kind {
        ResourceKind::Listener | ResourceKind::RouteTable => (Kind::Gateway, rest.split_once('/')?.0),
        ResourceKind::Cluster => (Kind::ServiceEntry, rest.split_once(':')?.0),
        ResourceKind::Secret => match rest.strip_prefix(AUTHORITIES_PREFIX) {
            Some(policy) => (Kind::BackendTlsPolicy, policy),
            None => (Kind::Secret, rest),
        },
        ResourceKind::Plugin => match rest.strip_prefix(ACCESS_POLICY_PREFIX) {
            Some(policy) => (Kind::AuthorizationPolicy, policy),
            None => (Kind::Filter, rest),
        },
    };
    Some(ObjectId { kind, namespace: namespace.into(), name: name.into() })
}

fn spec_path(fields: &[&str]) -> FieldPath {
    let steps = std::iter::once("spec").chain(fields.iter().copied());
    FieldPath(steps.map(|step| FieldStep::Field(step.to_owned())).collect())
}
