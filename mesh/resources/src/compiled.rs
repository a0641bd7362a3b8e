//! A snapshot with the memory of where each part of it was written, so that what the proxy finds out later (a port in
//! use, a module that does not load) can still be said in terms of the person's own text.

use std::path::Path;

use weir_model::{ModuleSource, PluginName, Rejection, ResourceId, ResourceKind, Snapshot};

use crate::compile::plugins::POLICY;
use crate::document::{FieldPath, FieldStep};
use crate::refusal::Refusal;
use crate::resource::{ObjectId, Resource};
use crate::source::Sources;
use crate::written::Kind;

/// A snapshot, and where each part of it was written.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What the files describe.
    pub snapshot: Snapshot,
    sources: Sources,
}

impl Compiled {
    pub(crate) const fn new(snapshot: Snapshot, sources: Sources) -> Self {
        Self { snapshot, sources }
    }

    /// A snapshot that nobody has written down here: it came over the wire.
    pub fn unwritten(snapshot: Snapshot) -> Self {
        Self { snapshot, sources: Sources::default() }
    }

    /// The objects that were written, the file of each, and a hash that changes when its text does.
    pub fn objects(&self) -> impl Iterator<Item = (&ObjectId, &Path, [u8; 32])> {
        let documents = self.sources.documents().iter().enumerate();
        documents.filter_map(|(index, source)| {
            Some((source.document.id.as_ref()?, self.sources.path(index).as_path(), source.hash))
        })
    }

    /// Says a rejection that came up later in terms of what was written: at the field to blame, or at the beginning of
    /// the document when no field is.
    pub fn refusal(&self, rejection: &Rejection) -> Refusal {
        let Some((document, id)) = self.origin(&rejection.resource) else {
            return Self::unwritten_refusal(rejection.clone());
        };
        let path = self.field(document, id, rejection);
        self.sources.refusal(document, &path, &rejection.reason, &rejection.hint).1
    }

    /// A rejection of something that nobody has written down here.
    pub fn unwritten_refusal(rejection: Rejection) -> Refusal {
        let Rejection { resource, field, reason, hint } = rejection;
        Refusal { object: Some(resource.to_string()), field, ..Refusal::unplaced(reason, hint) }
    }

    /// The document that a resource was made of.
    fn origin(&self, resource: &ResourceId) -> Option<(usize, &ObjectId)> {
        let object = object_of(resource)?;
        let is_it = |id: &&ObjectId| **id == object;
        let mut documents = self.sources.documents().iter().enumerate();
        documents.find_map(|(index, source)| Some((index, source.document.id.as_ref().filter(is_it)?)))
    }

    fn field(&self, document: usize, id: &ObjectId, rejection: &Rejection) -> FieldPath {
        let field = rejection.field.split(['.', '[']).next().unwrap_or_default();
        match id.kind {
            Kind::AccessPolicy => return spec(&[]),
            Kind::Secret => return FieldPath::default(),
            _ => {}
        }
        match (rejection.resource.kind, field) {
            (ResourceKind::Listener, "address") => self.listener_port(document, &rejection.resource.name),
            (ResourceKind::Plugin, "module") => spec(&["module", self.module_field(id)]),
            (ResourceKind::Plugin, "configuration") => spec(&["config"]),
            (ResourceKind::Plugin, "limits") => spec(&["limits"]),
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
        let mut path = spec(&["listeners"]);
        if let Some(index) = gateway.listeners.iter().position(|it| *it.name == *listener) {
            path.0.push(FieldStep::Entry(index));
            path.0.push(FieldStep::Field("port".to_owned()));
        }
        path
    }
}

/// The object that a resource was made of. Names of objects hold no `/`, so a resource's name says which.
pub fn object_of(resource: &ResourceId) -> Option<ObjectId> {
    let (namespace, rest) = resource.name.split_once('/')?;
    let (kind, name) = match resource.kind {
        ResourceKind::Listener | ResourceKind::RouteTable => (Kind::Gateway, rest.split_once('/')?.0),
        ResourceKind::Cluster => (Kind::Service, rest.split_once(':')?.0),
        ResourceKind::Secret => (Kind::Secret, rest),
        ResourceKind::Plugin => match rest.strip_prefix(POLICY) {
            Some(policy) => (Kind::AccessPolicy, policy),
            None => (Kind::Filter, rest),
        },
    };
    Some(ObjectId { kind, namespace: namespace.into(), name: name.into() })
}

fn spec(fields: &[&str]) -> FieldPath {
    let steps = std::iter::once("spec").chain(fields.iter().copied());
    FieldPath(steps.map(|step| FieldStep::Field(step.to_owned())).collect())
}
