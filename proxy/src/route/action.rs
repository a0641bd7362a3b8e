//! What a route does with a request: which cluster it goes to, what the endpoint sees in place of what the downstream
//! sent, or where the downstream is sent instead. Everything that can be computed beforehand is; called by `stream`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use weir_model::{ClusterName, Forward, Fraction, PathMatch, PathRewrite, Redirect, RouteAction};

use super::edits::HeaderEdits;
use super::hosts::without_port;
use crate::head::RequestHead;
use crate::upstream::Cluster;

/// A route ready to serve.
pub(crate) struct Route {
    /// What was asked for.
    pub(crate) model: Arc<weir_model::Route>,
    /// Its position in the table, for what others keep beside it.
    pub(crate) index: usize,
    /// Each possible cluster and the weights of those up to it together.
    targets: Box<[(Arc<Cluster>, u64)]>,
    /// What only a routing mark may choose.
    versions: Box<[TargetVersion]>,
    mirrors: Box<[(Arc<Cluster>, Fraction)]>,
    request_edits: HeaderEdits,
    response_edits: HeaderEdits,
    host: Option<HeaderValue>,
}

/// The endpoints of one version of a target.
struct TargetVersion {
    of: ClusterName,
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
            let cluster = clusters.get(&target.cluster)?;
            sum += u64::from(target.weight.get());
            Some((Arc::clone(cluster), sum))
        });
        let targets = targets.collect();
        let versions = forward
            .iter()
            .flat_map(|forward| &forward.versions)
            .filter_map(|weir_model::TargetVersion { of, version, cluster }| {
                let cluster = Arc::clone(clusters.get(cluster)?);
                Some(TargetVersion { of: of.clone(), version: Arc::clone(version), cluster })
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
            request_edits: HeaderEdits::new(&model.request_headers),
            response_edits: HeaderEdits::new(&model.response_headers),
            host,
            model,
        }
    }

    /// True when a new route would be this one.
    pub(super) fn is(
        &self,
        model: &Arc<weir_model::Route>,
        index: usize,
        clusters: &HashMap<ClusterName, Arc<Cluster>>,
    ) -> bool {
        let current = |cluster: &Arc<Cluster>| {
            clusters.get(&cluster.model().name).is_some_and(|current| Arc::ptr_eq(current, cluster))
        };
        let asked = forward(model)
            .map_or((0, 0, 0), |forward| (forward.targets.len(), forward.versions.len(), forward.mirrors.len()));
        self.index == index
            && (Arc::ptr_eq(&self.model, model) || self.model == *model)
            && asked == (self.targets.len(), self.versions.len(), self.mirrors.len())
            && self.targets.iter().all(|(cluster, _)| current(cluster))
            && self.versions.iter().all(|version| current(&version.cluster))
            && self.mirrors.iter().all(|(cluster, _)| current(cluster))
    }

    /// The cluster for one request, by weight; `draw` is uniform over all `u32`. `None` when no target may be used.
    pub(crate) fn pick_target(&self, draw: u32) -> Option<&Arc<Cluster>> {
        let (last, total) = self.targets.last()?;
        if self.targets.len() == 1 {
            return (*total > 0).then_some(last);
        }
        // `draw` as a fraction of 2^32, of the total.
        let share = (u128::from(draw) * u128::from(*total)) >> 32;
        self.targets.iter().find(|(_, sum)| share < u128::from(*sum)).map(|(cluster, _)| cluster)
    }

    /// The cluster that a routing mark names: a target of this route (`namespace/service:port`, whatever its weight), a
    /// version of one (`namespace/service:port@version`), or a version of whichever target `draw` picks (`@version`).
    /// `None` when it names anything else.
    pub(crate) fn marked_target(&self, mark: &[u8], draw: u32) -> Option<&Arc<Cluster>> {
        let mark = std::str::from_utf8(mark).ok()?;
        let Some((target, version)) = mark.split_once('@') else {
            return self.targets.iter().map(|(cluster, _)| cluster).find(|it| it.model().name.as_str() == mark);
        };
        let target = match target {
            "" => self.pick_target(draw)?.model().name.as_str(),
            named => named,
        };
        let is_it = |it: &&TargetVersion| it.of.as_str() == target && *it.version == *version;
        self.versions.iter().find(is_it).map(|it| &it.cluster)
    }

    /// Who else gets a copy, and of which share of the requests.
    pub(crate) fn mirrors(&self) -> &[(Arc<Cluster>, Fraction)] {
        &self.mirrors
    }

    /// Changes to the request's headers before it is forwarded.
    pub(crate) fn request_edits(&self) -> &HeaderEdits {
        &self.request_edits
    }

    /// Changes to the response's headers before it is sent down.
    pub(crate) fn response_edits(&self) -> &HeaderEdits {
        &self.response_edits
    }

    /// The host that the endpoint sees, when it is another.
    pub(crate) fn rewritten_host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// The path that the endpoint sees, when it is another. The query stays.
    pub(crate) fn rewritten_path(&self, path: &PathAndQuery) -> Option<PathAndQuery> {
        let rewrite = forward(&self.model)?.rewrite.path.as_ref()?;
        let mut text = self.replaced(path.path(), rewrite);
        push_query(&mut text, path);
        PathAndQuery::from_maybe_shared(Bytes::from(text)).ok()
    }

    /// Where the downstream is sent, and with which status; `None` when the route does not redirect. `port` is that of
    /// the listener.
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
        if let Some(port) = redirected_port(redirect, scheme, port) {
            location.push(b':');
            location.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
        let mut path = match &redirect.path {
            Some(rewrite) => self.replaced(request.path.path(), rewrite),
            None => request.path.path().to_owned(),
        };
        push_query(&mut path, &request.path);
        location.extend_from_slice(path.as_bytes());
        let status = StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND);
        HeaderValue::from_maybe_shared(Bytes::from(location)).ok().map(|location| (status, location))
    }

    /// The path with what was matched replaced, as the Gateway API's table for `ReplacePrefixMatch` has it: a slash at
    /// the end of the replacement is ignored, and what is left is never empty.
    fn replaced(&self, path: &str, rewrite: &PathRewrite) -> String {
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
        RouteAction::Redirect(_) | RouteAction::Respond(_) => None,
    }
}

fn push_query(text: &mut String, path: &PathAndQuery) {
    if let Some(query) = path.query() {
        text.push('?');
        text.push_str(query);
    }
}

/// The port to write: the one asked for, or that of the scheme asked for, or the listener's; none where it is the
/// scheme's own (Gateway API `HTTPRequestRedirectFilter`).
fn redirected_port(redirect: &Redirect, scheme: &str, listener: u16) -> Option<u16> {
    let own = if scheme == "https" { 443 } else { 80 };
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => own,
        (None, None) => listener,
    };
    (port != own).then_some(port)
}
