//! Every object by kind, namespace and name; and whether one that is not there may be among what could not be read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use weir_model::{Endpoint, ModuleSource};

use crate::bundle::{Bundles, Manifest};
use crate::document::Path;
use crate::registered::Registered;
use crate::resolve::problem::Problems;
use crate::resource::{
    AccessPolicy, BackendPolicy, Document, Filter, Gateway, GatewayClass, HttpRoute, Mesh, ObjectId, ReferenceGrant,
    Resource, Secret, Service, TcpRoute,
};
use crate::source::Sources;
use crate::suggest::{hint, nearest, quoted};
use crate::written::Kind;

/// Every object by kind, namespace and name.
#[derive(Debug)]
pub(crate) struct Catalog<'a> {
    by_name: HashMap<(Kind, &'a str, &'a str), usize>,
    documents: Vec<&'a Document>,
    /// Kinds of which a document could be read so badly that its name is not known.
    nameless: HashSet<Kind>,
    is_partly_unreadable: bool,
    bundles: &'a Bundles,
    registered: &'a Registered,
}

/// What became of looking up a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is the document of this index, and good.
    Document(usize),
    /// It is refused itself, or may be among what could not be read: nothing more can be said.
    Unknown,
    /// It is not there.
    Missing,
}

impl<'a> Catalog<'a> {
    /// A catalog of all documents. The second object of the same name is refused.
    pub(crate) fn new(
        sources: &'a Sources,
        (bundles, registered): (&'a Bundles, &'a Registered),
        problems: &mut Problems,
    ) -> Self {
        let mut catalog = Self {
            by_name: HashMap::with_capacity(sources.documents().len()),
            documents: sources.documents().iter().map(|source| &*source.document).collect(),
            nameless: HashSet::new(),
            is_partly_unreadable: sources.is_partly_unreadable(),
            bundles,
            registered,
        };
        for (index, source) in sources.documents().iter().enumerate() {
            match (&source.document.id, source.document.kind) {
                (Some(id), _) => catalog.insert(index, id, sources, problems),
                (None, Some(kind)) => {
                    catalog.nameless.insert(kind);
                }
                // A document of a kind that is not known refers to nothing and is referred to by nothing, unless it
                // is a kind misspelt: then every name may be its own.
                (None, None) => catalog.is_partly_unreadable = true,
            }
        }
        catalog
    }

    fn insert(&mut self, index: usize, id: &'a ObjectId, sources: &Sources, problems: &mut Problems) {
        let key = (id.kind, &*id.namespace, &*id.name);
        let Some(first) = self.by_name.get(&key) else {
            self.by_name.insert(key, index);
            return;
        };
        let root = Path::ROOT;
        let metadata = root.field("metadata");
        let place = format!("{}:{}", sources.path(*first).display(), sources.line(*first));
        let reason = format!("there is another {} at {place}", quoted(&id.to_string()));
        problems.add(index, &metadata.field("name"), reason, "remove one of the two, or give it another name");
    }

    /// Looks up a name.
    pub(crate) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Found {
        match self.by_name.get(&(kind, namespace, name)) {
            Some(index) if self.documents[*index].resource.is_some() => Found::Document(*index),
            Some(_) => Found::Unknown,
            None if self.is_partly_unreadable || self.nameless.contains(&kind) => Found::Unknown,
            None => Found::Missing,
        }
    }

    /// True when an object of this kind may be there that nobody can see: its document is refused or unreadable.
    pub(crate) fn may_hide(&self, kind: Kind, namespace: &str) -> bool {
        let is_refused = |index: &usize| self.documents[*index].resource.is_none();
        self.is_partly_unreadable
            || self.nameless.contains(&kind)
            || self
                .by_name
                .iter()
                .any(|((other, place, _), it)| *other == kind && *place == namespace && is_refused(it))
    }

    /// ``no Service `reviewz` in namespace `default` `` and a hint.
    pub(crate) fn missing(&self, kind: Kind, namespace: &str, name: &str) -> (String, String) {
        let reason = format!("no {} {} in namespace {}", kind.name(), quoted(name), quoted(namespace));
        let mut here: Vec<&str> = Vec::new();
        let mut elsewhere: Vec<&str> = Vec::new();
        for (other, other_namespace, other_name) in self.by_name.keys() {
            if *other == kind && *other_namespace == namespace {
                here.push(other_name);
            } else if *other == kind && *other_name == name {
                elsewhere.push(other_namespace);
            }
        }
        here.sort_unstable();
        elsewhere.sort_unstable();
        let hint = match (nearest(name, here.iter().copied()), elsewhere.first()) {
            (None, Some(namespace)) => format!("there is one in namespace `{namespace}`"),
            _ if here.is_empty() => format!("write the {}, or remove the reference", kind.name()),
            _ => hint(name, here.iter().copied(), "there are"),
        };
        (reason, hint)
    }

    /// The document of an index.
    pub(crate) fn document(&self, index: usize) -> &'a Document {
        self.documents[index]
    }

    /// The objects that are good, in the order written: index, which one, what it says.
    fn objects<T: 'a>(
        &self,
        choose: impl Fn(&'a Resource) -> Option<&'a T>,
    ) -> impl Iterator<Item = (usize, &'a ObjectId, &'a T)> {
        self.documents.iter().enumerate().filter_map(move |(index, document)| {
            let document: &'a Document = document;
            let (id, chosen) = (document.id.as_ref()?, choose(document.resource.as_ref()?)?);
            // Of two of the same name the first counts; the other is refused as it is.
            let is_first = self.by_name.get(&(id.kind, &*id.namespace, &*id.name)) == Some(&index);
            is_first.then_some((index, id, chosen))
        })
    }

    /// All Gateways.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a Gateway)> {
        self.objects(|it| if let Resource::Gateway(it) = it { Some(it) } else { None })
    }

    /// All HTTPRoutes.
    pub(crate) fn http_routes(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a HttpRoute)> {
        self.objects(|it| if let Resource::HttpRoute(it) = it { Some(it) } else { None })
    }

    /// All TCPRoutes.
    pub(crate) fn tcp_routes(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a TcpRoute)> {
        self.objects(|it| if let Resource::TcpRoute(it) = it { Some(it) } else { None })
    }

    /// All GatewayClasses.
    pub(crate) fn gateway_classes(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a GatewayClass)> {
        self.objects(|it| if let Resource::GatewayClass(it) = it { Some(it) } else { None })
    }

    /// All ReferenceGrants.
    pub(crate) fn reference_grants(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a ReferenceGrant)> {
        self.objects(|it| if let Resource::ReferenceGrant(it) = it { Some(it) } else { None })
    }

    /// All Services.
    pub(crate) fn services(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a Service)> {
        self.objects(|it| if let Resource::Service(it) = it { Some(it) } else { None })
    }

    /// All Filters.
    pub(crate) fn filters(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a Filter)> {
        self.objects(|it| if let Resource::Filter(it) = it { Some(&**it) } else { None })
    }

    /// All AccessPolicies.
    pub(crate) fn access_policies(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a AccessPolicy)> {
        self.objects(|it| if let Resource::AccessPolicy(it) = it { Some(it) } else { None })
    }

    /// The endpoints of a Service that have registered themselves.
    pub(crate) fn registered(&self, service: &ObjectId) -> &'a [Endpoint] {
        self.registered.of(service)
    }

    /// What holds for every workload, if anybody says.
    pub(crate) fn mesh(&self) -> Option<&'a Mesh> {
        self.objects(|it| if let Resource::Mesh(it) = it { Some(it) } else { None }).next().map(|(_, _, mesh)| mesh)
    }

    /// All Secrets.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a Secret)> {
        self.objects(|it| if let Resource::Secret(it) = it { Some(it) } else { None })
    }

    /// The bundles that Filters may name.
    pub(crate) const fn bundles(&self) -> &'a Bundles {
        self.bundles
    }

    /// What the bundle of a Filter says of itself; `None` when it has none, or one that nobody here knows.
    pub(crate) fn manifest(&self, filter: &Filter) -> Option<&'a Manifest> {
        match &filter.module {
            ModuleSource::Bundle(name) => self.bundles.get(name).map(Arc::as_ref),
            ModuleSource::File(_) | ModuleSource::Builtin(_) | ModuleSource::Remote(_) => None,
        }
    }

    /// All BackendPolicies.
    pub(crate) fn backend_policies(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a BackendPolicy)> {
        self.objects(|it| if let Resource::BackendPolicy(it) = it { Some(it) } else { None })
    }
}
