//! The index of all objects by kind, namespace and name.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use weir_model::{Endpoint, ModuleSource};

use crate::bundle_catalog::{BundleCatalog, Manifest};
use crate::registered_endpoints::RegisteredEndpoints;
use crate::resolve::errors::ReferenceErrors;
use crate::resource::{
    AuthorizationPolicy, BackendTlsPolicy, BackendTrafficPolicy, ClientTrafficPolicy, Document, Filter, Gateway,
    GatewayClass, HttpRoute, Mesh, ObjectId, ReferenceGrant, Resource, Secret, ServiceEntry, TcpRoute,
};
use crate::source::Sources;
use crate::spec::Kind;
use crate::suggest::{hint, nearest, quoted};
use crate::yaml::FieldPathRef;

/// All objects by kind, namespace and name.
#[derive(Debug)]
pub(crate) struct ObjectIndex<'a> {
    by_name: HashMap<(Kind, &'a str, &'a str), usize>,
    documents: Vec<&'a Document>,
    /// Kinds with a document whose name is unreadable.
    kinds_without_name: HashSet<Kind>,
    is_partly_unreadable: bool,
    bundles: &'a BundleCatalog,
    registered: &'a RegisteredEndpoints,
}

/// The result of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The index of a valid document.
    Document(usize),
    /// The object has errors, or may be in an unreadable part: no further error is reported.
    Unknown,
    /// The object does not exist.
    Missing,
}

impl<'a> ObjectIndex<'a> {
    /// Creates the index. Reports an error for the second object of one name.
    pub(crate) fn new(
        sources: &'a Sources,
        bundles: &'a BundleCatalog,
        registered: &'a RegisteredEndpoints,
        errors: &mut ReferenceErrors,
    ) -> Self {
        let mut index = Self {
            by_name: HashMap::with_capacity(sources.documents().len()),
            documents: sources.documents().iter().map(|source| &*source.document).collect(),
            kinds_without_name: HashSet::new(),
            is_partly_unreadable: sources.is_partly_unreadable(),
            bundles,
            registered,
        };
        for (document, source) in sources.documents().iter().enumerate() {
            match (&source.document.id, source.document.kind) {
                (Some(id), _) => index.insert(document, id, sources, errors),
                (None, Some(kind)) => {
                    index.kinds_without_name.insert(kind);
                }
                // An unknown kind may be a misspelt one, so the document may have any name.
                (None, None) => index.is_partly_unreadable = true,
            }
        }
        index
    }

    fn insert(&mut self, document: usize, id: &'a ObjectId, sources: &Sources, errors: &mut ReferenceErrors) {
        let key = (id.kind, &*id.namespace, &*id.name);
        let Some(first) = self.by_name.get(&key) else {
            self.by_name.insert(key, document);
            return;
        };
        let root = FieldPathRef::ROOT;
        let metadata = root.field("metadata");
        let location = format!("{}:{}", sources.path(*first).display(), sources.line(*first));
        let reason = format!("there is another {} at {location}", quoted(&id.to_string()));
        errors.add(document, &metadata.field("name"), reason, "remove one of the two, or give it another name");
    }

    /// Looks up an object.
    pub(crate) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Lookup {
        match self.by_name.get(&(kind, namespace, name)) {
            Some(index) if self.documents[*index].resource.is_some() => Lookup::Document(*index),
            Some(_) => Lookup::Unknown,
            None if self.is_partly_unreadable || self.kinds_without_name.contains(&kind) => Lookup::Unknown,
            None => Lookup::Missing,
        }
    }

    /// Returns true if an object of this kind may exist in an invalid or unreadable document.
    pub(crate) fn may_exist_unparsed(&self, kind: Kind, namespace: &str) -> bool {
        let is_invalid = |index: &usize| self.documents[*index].resource.is_none();
        self.is_partly_unreadable
            || self.kinds_without_name.contains(&kind)
            || self.by_name.iter().any(|((other, other_namespace, _), index)| {
                *other == kind && *other_namespace == namespace && is_invalid(index)
            })
    }

    /// Returns the reason, as in ``no ServiceEntry `reviewz` in namespace `default` ``, and a hint.
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

    /// Returns the document of an index.
    pub(crate) fn document(&self, index: usize) -> &'a Document {
        self.documents[index]
    }

    /// Returns the valid objects in source order: index, identity, value.
    fn select<T: 'a>(
        &self,
        choose: impl Fn(&'a Resource) -> Option<&'a T>,
    ) -> impl Iterator<Item = (usize, &'a ObjectId, &'a T)> {
        self.documents.iter().enumerate().filter_map(move |(index, document)| {
            let document: &'a Document = document;
            let (id, chosen) = (document.id.as_ref()?, choose(document.resource.as_ref()?)?);
            // The second object of one name is reported as an error by `insert`.
            let is_first = self.by_name.get(&(id.kind, &*id.namespace, &*id.name)) == Some(&index);
            is_first.then_some((index, id, chosen))
        })
    }

    /// Returns all Gateways.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a Gateway)> {
        self.select(|resource| if let Resource::Gateway(object) = resource { Some(object) } else { None })
    }

    /// Returns all HTTPRoutes and GRPCRoutes.
    pub(crate) fn http_routes(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a HttpRoute)> {
        self.select(Resource::http_route)
    }

    /// Returns all TCPRoutes.
    pub(crate) fn tcp_routes(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a TcpRoute)> {
        self.select(|resource| if let Resource::TcpRoute(object) = resource { Some(object) } else { None })
    }

    /// Returns all GatewayClasses.
    pub(crate) fn gateway_classes(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a GatewayClass)> {
        self.select(|resource| if let Resource::GatewayClass(object) = resource { Some(object) } else { None })
    }

    /// Returns all ReferenceGrants.
    pub(crate) fn reference_grants(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a ReferenceGrant)> {
        self.select(|resource| if let Resource::ReferenceGrant(object) = resource { Some(object) } else { None })
    }

    /// Returns all ServiceEntries.
    pub(crate) fn service_entries(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a ServiceEntry)> {
        self.select(|resource| if let Resource::ServiceEntry(object) = resource { Some(object) } else { None })
    }

    /// Returns all Filters.
    pub(crate) fn filters(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a Filter)> {
        self.select(|resource| if let Resource::Filter(object) = resource { Some(&**object) } else { None })
    }

    /// Returns all AuthorizationPolicies.
    pub(crate) fn authorization_policies(
        &self,
    ) -> impl Iterator<Item = (usize, &'a ObjectId, &'a AuthorizationPolicy)> {
        self.select(|resource| if let Resource::AuthorizationPolicy(object) = resource { Some(object) } else { None })
    }

    /// Returns the registered endpoints of a ServiceEntry.
    pub(crate) fn registered(&self, service: &ObjectId) -> &'a [Endpoint] {
        self.registered.for_service(service)
    }

    /// Returns the Mesh object, if there is one.
    pub(crate) fn mesh(&self) -> Option<&'a Mesh> {
        self.select(|resource| if let Resource::Mesh(object) = resource { Some(object) } else { None })
            .next()
            .map(|(_, _, mesh)| mesh)
    }

    /// Returns all Secrets.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a Secret)> {
        self.select(|resource| if let Resource::Secret(object) = resource { Some(object) } else { None })
    }

    /// Returns the bundle catalog.
    pub(crate) const fn bundles(&self) -> &'a BundleCatalog {
        self.bundles
    }

    /// Returns the manifest of a Filter's bundle; `None` if the Filter has no bundle or the catalog does not know it.
    pub(crate) fn manifest(&self, filter: &Filter) -> Option<&'a Manifest> {
        match &filter.module {
            ModuleSource::Bundle(name) => self.bundles.get(name).map(Arc::as_ref),
            ModuleSource::File(_) | ModuleSource::Builtin(_) | ModuleSource::Remote(_) => None,
        }
    }

    /// Returns all ClientTrafficPolicies.
    pub(crate) fn client_traffic_policies(
        &self,
    ) -> impl Iterator<Item = (usize, &'a ObjectId, &'a ClientTrafficPolicy)> {
        self.select(
            |resource| if let Resource::ClientTrafficPolicy(object) = resource { Some(&**object) } else { None },
        )
    }

    /// Returns all BackendTLSPolicies.
    pub(crate) fn backend_tls_policies(&self) -> impl Iterator<Item = (usize, &'a ObjectId, &'a BackendTlsPolicy)> {
        self.select(|resource| if let Resource::BackendTlsPolicy(object) = resource { Some(&**object) } else { None })
    }

    /// Returns all BackendTrafficPolicies.
    pub(crate) fn backend_traffic_policies(
        &self,
    ) -> impl Iterator<Item = (usize, &'a ObjectId, &'a BackendTrafficPolicy)> {
        self.select(
            |resource| if let Resource::BackendTrafficPolicy(object) = resource { Some(&**object) } else { None },
        )
    }
}
