//! The action of a route: the cluster of a request, rewrites and header changes, or a redirect. Everything that does
//! not depend on the request is computed beforehand. `stream` calls it.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use weir_model::{ClusterName, Forward, Fraction, PathMatch, PathRewrite, Redirect, RouteAction};

use super::cors::CompiledCors;
use super::header_modifier::CompiledHeaderModifier;
use super::hosts::without_port;
use crate::head::RequestHead;
use crate::upstream::Cluster;

/// A compiled route.
pub(crate) struct Route {
    /// The route's model.
    pub(crate) model: Arc<weir_model::Route>,
    /// The position in the table.
    pub(crate) index: usize,
    targets: Box<[Target]>,
    /// The versions of targets, which only a routing mark can choose.
    versions: Box<[TargetVersion]>,
    mirrors: Box<[(Arc<Cluster>, Fraction)]>,
    request_edits: Option<Box<CompiledHeaderModifier>>,
    response_edits: Option<Box<CompiledHeaderModifier>>,
    host: Option<HeaderValue>,
    cors: Option<Box<CompiledCors>>,
}

/// A target cluster of a route.
struct Target {
    cluster: Arc<Cluster>,
    /// The sum of the weights up to this target.
    sum: u64,
    /// The changes of headers; `None` without any.
    edits: Option<Box<TargetEdits>>,
}

/// The changes of headers of one target. They are made before those of the route, as in Envoy.
pub(crate) struct TargetEdits {
    /// Of the request.
    pub(crate) request: CompiledHeaderModifier,
    /// Of the response.
    pub(crate) response: CompiledHeaderModifier,
}

/// The cluster of one request.
#[derive(Clone, Copy)]
pub(crate) struct ChosenTarget<'a> {
    /// The cluster: that of a target, or of one of its versions.
    pub(crate) cluster: &'a Arc<Cluster>,
    /// The changes of headers of the target.
    pub(crate) edits: Option<&'a TargetEdits>,
}

impl Target {
    fn chosen(&self) -> ChosenTarget<'_> {
        ChosenTarget { cluster: &self.cluster, edits: self.edits.as_deref() }
    }

    fn name(&self) -> &str {
        self.cluster.model().name.as_str()
    }
}

/// One version of a target: a cluster with the endpoints of that version.
struct TargetVersion {
    target: ClusterName,
    version: Arc<str>,
    cluster: Arc<Cluster>,
}

impl Route {
    pub(super) fn new(
        model: Arc<weir_model::Route>,
        index: usize,
        clusters: &HashMap<ClusterName, Arc<Cluster>>,
    ) -> Self {
        let forward = forward(&model);
        let mut sum = 0;
        let targets = forward.iter().flat_map(|forward| &forward.targets).filter_map(|target| {
            let cluster = Arc::clone(clusters.get(&target.cluster)?);
            sum += u64::from(target.weight.get());
            let edits = (!target.is_plain()).then(|| {
                Box::new(TargetEdits {
                    request: CompiledHeaderModifier::new(&target.request_headers),
                    response: CompiledHeaderModifier::new(&target.response_headers),
                })
            });
            Some(Target { cluster, sum, edits })
        });
        let targets = targets.collect();
        let versions = forward
            .iter()
            .flat_map(|forward| &forward.versions)
            .filter_map(|weir_model::TargetVersion { target: of, version, cluster }| {
                let cluster = Arc::clone(clusters.get(cluster)?);
                Some(TargetVersion { target: of.clone(), version: Arc::clone(version), cluster })
            })
            .collect();
        let mirrors = forward
            .iter()
            .flat_map(|forward| &forward.mirrors)
            .filter_map(|mirror| Some((Arc::clone(clusters.get(&mirror.cluster)?), mirror.fraction)))
            .collect();
        let host = forward.and_then(|forward| HeaderValue::from_str(forward.rewrite.host.as_ref()?).ok());
        Self {
            index,
            targets,
            versions,
            mirrors,
            request_edits: CompiledHeaderModifier::of(&model.request_headers),
            response_edits: CompiledHeaderModifier::of(&model.response_headers),
            host,
            cors: model.cors.as_ref().map(|policy| Box::new(CompiledCors::new(policy))),
            model,
        }
    }

    /// Returns true if compiling these parameters would return an equal route.
    pub(super) fn is_unchanged(
        &self,
        model: &Arc<weir_model::Route>,
        index: usize,
        clusters: &HashMap<ClusterName, Arc<Cluster>>,
    ) -> bool {
        let current = |cluster: &Arc<Cluster>| {
            clusters.get(&cluster.model().name).is_some_and(|current| Arc::ptr_eq(current, cluster))
        };
        let counts = forward(model)
            .map_or((0, 0, 0), |forward| (forward.targets.len(), forward.versions.len(), forward.mirrors.len()));
        self.index == index
            && (Arc::ptr_eq(&self.model, model) || self.model == *model)
            && counts == (self.targets.len(), self.versions.len(), self.mirrors.len())
            && self.targets.iter().all(|target| current(&target.cluster))
            && self.versions.iter().all(|version| current(&version.cluster))
            && self.mirrors.iter().all(|(cluster, _)| current(cluster))
    }

    /// Returns the cluster for one request, by weight. `draw` is uniform over all `u32`. `None` when no target is
    /// usable.
    pub(crate) fn pick_target(&self, draw: u32) -> Option<ChosenTarget<'_>> {
        let last = self.targets.last()?;
        if self.targets.len() == 1 {
            return (last.sum > 0).then(|| last.chosen());
        }
        // Scales `draw` from 2^32 to the total weight.
        let share = (u128::from(draw) * u128::from(last.sum)) >> 32;
        self.targets.iter().find(|target| share < u128::from(target.sum)).map(Target::chosen)
    }

    /// Returns the cluster that a routing mark names; `None` when it names none of this route.
    ///
    /// A mark is a target of this route (`namespace/service:port`, whatever its weight), a version of one
    /// (`namespace/service:port@version`), or a version of the target that `draw` picks (`@version`).
    pub(crate) fn marked_target(&self, mark: &[u8], draw: u32) -> Option<ChosenTarget<'_>> {
        let mark = std::str::from_utf8(mark).ok()?;
        let Some((target, version)) = mark.split_once('@') else {
            return self.targets.iter().find(|target| target.name() == mark).map(Target::chosen);
        };
        let target = match target {
            "" => self.pick_target(draw)?.cluster.model().name.as_str(),
            named => named,
        };
        let matches =
            |candidate: &&TargetVersion| candidate.target.as_str() == target && *candidate.version == *version;
        let cluster = &self.versions.iter().find(matches)?.cluster;
        let target = self.targets.iter().find(|candidate| candidate.name() == target);
        Some(ChosenTarget { cluster, edits: target.and_then(|target| target.edits.as_deref()) })
    }

    /// Returns the cross-origin policy.
    pub(crate) fn cors(&self) -> Option<&CompiledCors> {
        self.cors.as_deref()
    }

    /// Returns the clusters that get a copy, each with its share of the requests.
    pub(crate) fn mirrors(&self) -> &[(Arc<Cluster>, Fraction)] {
        &self.mirrors
    }

    /// Returns the changes of the request's headers; `None` without any.
    pub(crate) fn request_modifier(&self) -> Option<&CompiledHeaderModifier> {
        self.request_edits.as_deref()
    }

    /// Returns the changes of the response's headers; `None` without any.
    pub(crate) fn response_modifier(&self) -> Option<&CompiledHeaderModifier> {
        self.response_edits.as_deref()
    }

    /// Returns the rewritten host; `None` when the route does not rewrite it.
    pub(crate) fn rewritten_host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// Returns the rewritten path with the original query; `None` when the route does not rewrite it.
    pub(crate) fn rewritten_path(&self, path: &PathAndQuery) -> Option<PathAndQuery> {
        let rewrite = forward(&self.model)?.rewrite.path.as_ref()?;
        let mut text = self.rewrite_path(path.path(), rewrite);
        push_query(&mut text, path);
        PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
    }

    /// Returns the status and the `location` of a redirect; `None` when the route does not redirect. `port` is the
    /// listener's.
    pub(crate) fn redirect(&self, request: &RequestHead, port: u16) -> Option<(StatusCode, HeaderValue)> {
        let RouteAction::Redirect(redirect) = &self.model.action else { return None };
        let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
        let mut location = Vec::new();
        location.extend_from_slice(scheme.as_bytes());
        location.extend_from_slice(b"://");
        match &redirect.host {
            Some(host) => location.extend_from_slice(host.as_bytes()),
            None => location.extend_from_slice(without_port(request.authority.as_bytes())),
        }
        if let Some(port) = redirect_port(redirect, scheme, port) {
            location.push(b':');
            location.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
        let mut path = match &redirect.path {
            Some(rewrite) => self.rewrite_path(request.path.path(), rewrite),
            None => request.path.path().to_owned(),
        };
        push_query(&mut path, &request.path);
        location.extend_from_slice(path.as_bytes());
        let status = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
        HeaderValue::from_maybe_shared(Bytes::from(location)).ok().map(|location| (status, location))
    }

    /// Returns the path with its matched part replaced, as in the Gateway API's table for `ReplacePrefixMatch`.
    ///
    /// A slash at the end of the replacement is ignored, and the result is never empty.
    fn rewrite_path(&self, path: &str, rewrite: &PathRewrite) -> String {
        let replacement = match rewrite {
            PathRewrite::Full(full) => return (**full).to_owned(),
            PathRewrite::Prefix(replacement) => replacement.trim_end_matches('/'),
        };
        let PathMatch::Prefix(prefix) = &self.model.matches.path else { return path.to_owned() };
        let rest = path.strip_prefix(&**prefix).unwrap_or(path);
        let mut text = String::with_capacity(replacement.len() + rest.len() + 1);
        text.push_str(replacement);
        text.push_str(rest);
        if text.is_empty() {
            text.push('/');
        }
        text
    }
}

fn forward(model: &weir_model::Route) -> Option<&Forward> {
    match &model.action {
        RouteAction::Forward(forward) => Some(forward),
        RouteAction::Redirect(_) | RouteAction::Respond(_) | RouteAction::NoBackend => None,
    }
}

fn push_query(text: &mut String, path: &PathAndQuery) {
    if let Some(query) = path.query() {
        text.push('?');
        text.push_str(query);
    }
}

/// Returns the port of a redirect; `None` when it is the scheme's default (Gateway API `HTTPRequestRedirectFilter`).
///
/// The port is the redirect's own, or the default of the redirect's scheme, or the listener's.
fn redirect_port(redirect: &Redirect, scheme: &str, listener: u16) -> Option<u16> {
    let default = if scheme == "https" { 443 } else { 80 };
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => default,
        (None, None) => listener,
    };
    (port != default).then_some(port)
}
