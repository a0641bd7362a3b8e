//! The control plane's side of a stream, for one peer: what it has asked for, what it holds, what it is to be sent next.
//! Speaks delta and state of the world; no IO. Whoever drives it hands requests in, and asks for the next response after
//! each request, each new offer, and when [`ServerState::wait`] is over.
//!
//! ```text
//!             Cluster ─► Endpoints ─► Plugin ─► Listener ─► RouteTable       new and changed resources, in this order
//!             Cluster ◄─ Endpoints ◄─ Plugin ◄─ Listener ◄─ RouteTable       then what is gone, in reverse
//! ```
//!
//! A kind waits while an earlier one has something to send or an answer to get, and listeners and routes wait until the
//! peer has asked for the endpoints of the clusters that it was just given. A peer that comes from another stream may hold
//! what it has not asked for yet; nothing is taken from it until it has. So a peer never goes where nothing is yet, and
//! never loses what something still points to.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use crate::kind::Kind;
use crate::limits::{MAX_PEER_WAIT, MAX_RESOURCES};
use crate::offer::{Offer, Offered};
use crate::proto::{
    CONTROL_PLANE, ControlPlane, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    Resource, Status,
};
use crate::report::Report;

/// Which of the two protocols a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Each response says what has changed.
    Delta,
    /// Each response says everything of its kind that was asked for.
    StateOfTheWorld,
}

/// What a request said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It only asks.
    Asked,
    /// The last response of the kind was taken in: the resources that it brought or took away.
    Accepted(Kind, Vec<String>),
    /// The last response of the kind was refused, or some of what it brought, and why.
    Refused(Kind, Vec<String>, String),
    /// What became of everything that was taken in.
    Reported(Report),
    /// It answers a response that is not the last one: what it says of it is void.
    Stale,
    /// It asks for a kind that we do not know, by its type URL.
    Unknown(String),
    /// It asks for too much.
    TooMany(Kind),
}

/// The state of one stream.
#[derive(Debug)]
pub struct ServerState {
    protocol: Protocol,
    kinds: BTreeMap<Kind, Held>,
    nonces: u64,
    /// Endpoints that the peer was given clusters for and has not asked for, and until when that is waited for.
    awaited: BTreeSet<String>,
    awaited_until: Duration,
    /// True when the peer came with what another stream has given it.
    resumed: bool,
    /// When the stream was first looked at.
    since: Option<Duration>,
}

/// What one peer has asked for and holds of one kind.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that has been said, or not")]
struct Held {
    begun: bool,
    wildcard: bool,
    names: BTreeSet<String>,
    sent: BTreeMap<String, Sent>,
    /// To be sent although the peer holds them.
    again: BTreeSet<String>,
    /// Asked for, not there, and told so.
    told_missing: BTreeSet<String>,
    /// The nonce of the last response; whoever asks for something else repeats it.
    last: Option<String>,
    /// True while the last response is not answered.
    in_flight: bool,
    /// What the last response brought or took away.
    moved: Vec<String>,
    /// State of the world: the set of names has changed, so that a response is due even when it is shorter.
    due: bool,
}

/// What a peer holds under a name.
#[derive(Debug)]
struct Sent {
    version: String,
    /// Not known when another stream has sent it.
    offered: Option<Arc<Offered>>,
}

/// A response before it has a form.
#[derive(Debug)]
struct Response {
    kind: Kind,
    put: Vec<(String, Arc<Offered>)>,
    removed: Vec<String>,
    nonce: String,
}

impl ServerState {
    /// A stream on which nothing was said yet.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            kinds: Kind::ALL.into_iter().map(|kind| (kind, Held::default())).collect(),
            nonces: 0,
            awaited: BTreeSet::new(),
            awaited_until: Duration::ZERO,
            resumed: false,
            since: None,
        }
    }

    /// Takes in a request of a delta stream.
    pub fn on_delta_request(&mut self, request: &DeltaDiscoveryRequest) -> Said {
        if let Some(report) = Report::of(request) {
            return Said::Reported(report);
        }
        let Some(kind) = Kind::of_url(&request.type_url) else { return Said::Unknown(request.type_url.clone()) };
        let held = self.kinds.entry(kind).or_default();
        let is_first = !std::mem::replace(&mut held.begun, true);
        if is_first {
            let versions = request.initial_resource_versions.iter();
            let known =
                |(name, version): (&String, &String)| (name.clone(), Sent { version: version.clone(), offered: None });
            held.sent = versions.map(known).collect();
            self.resumed |= !held.sent.is_empty();
            held.wildcard = request.resource_names_subscribe.is_empty();
            held.due = held.wildcard; // Who asks for everything is told when that is nothing.
        }
        for name in &request.resource_names_subscribe {
            if name == "*" {
                held.wildcard = true;
                continue;
            }
            held.told_missing.remove(name);
            if !held.names.insert(name.clone()) && !is_first {
                held.again.insert(name.clone()); // Who asks for what he has asked for has lost it.
            }
        }
        for name in &request.resource_names_unsubscribe {
            held.unsubscribe(name);
        }
        if held.names.len() > MAX_RESOURCES || held.sent.len() > MAX_RESOURCES {
            return Said::TooMany(kind);
        }
        let said = held.answered(kind, &request.response_nonce, request.error_detail.as_ref());
        self.note_asked(kind);
        said
    }

    /// Takes in a request of a stream that speaks state of the world.
    pub fn on_request(&mut self, request: &DiscoveryRequest) -> Said {
        let Some(kind) = Kind::of_url(&request.type_url) else { return Said::Unknown(request.type_url.clone()) };
        let held = self.kinds.entry(kind).or_default();
        let is_first = !std::mem::replace(&mut held.begun, true);
        let said = held.answered(kind, &request.response_nonce, request.error_detail.as_ref());
        if said == Said::Stale {
            return said; // Its names are those of a moment ago.
        }
        let names: BTreeSet<String> = request.resource_names.iter().filter(|name| *name != "*").cloned().collect();
        if names.len() > MAX_RESOURCES {
            return Said::TooMany(kind);
        }
        // Everything until a name was given; after that an empty list is nothing.
        held.wildcard = kind.is_wildcard()
            && ((held.wildcard || is_first) && names.is_empty()
                || request.resource_names.iter().any(|name| name == "*"));
        if held.names != names {
            held.told_missing.clear();
            held.due |= names.difference(&held.names).next().is_some();
            let wildcard = held.wildcard;
            held.sent.retain(|name, _| wildcard || names.contains(name));
            held.names = names;
        }
        held.due |= is_first && held.wildcard;
        self.note_asked(kind);
        said
    }

    /// The next response of a delta stream; `now` is any clock that never goes back.
    pub fn next_delta(&mut self, offer: &Offer, now: Duration) -> Option<DeltaDiscoveryResponse> {
        let Response { kind, put, removed, nonce } = self.next(offer, now)?;
        let resource = |(name, offered): (String, Arc<Offered>)| Resource {
            name,
            version: offered.version.clone(),
            resource: Some(offered.resource.clone()),
            ..Resource::default()
        };
        Some(DeltaDiscoveryResponse {
            resources: put.into_iter().map(resource).collect(),
            type_url: kind.type_url(),
            removed_resources: removed,
            nonce,
            control_plane: Some(ControlPlane { identifier: CONTROL_PLANE.to_owned() }),
            ..DeltaDiscoveryResponse::default()
        })
    }

    /// The next response of a stream that speaks state of the world.
    pub fn next_state(&mut self, offer: &Offer, now: Duration) -> Option<DiscoveryResponse> {
        let Response { kind, nonce, .. } = self.next(offer, now)?;
        let sent = self.kinds[&kind].sent.values();
        Some(DiscoveryResponse {
            version_info: nonce.clone(),
            resources: sent.filter_map(|sent| Some(sent.offered.as_ref()?.resource.clone())).collect(),
            type_url: kind.type_url(),
            nonce,
            control_plane: Some(ControlPlane { identifier: CONTROL_PLANE.to_owned() }),
            ..DiscoveryResponse::default()
        })
    }

    /// Until when nothing needs to be tried again, if something waits for time to pass.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        let endpoints = (!self.awaited.is_empty()).then_some(self.awaited_until);
        let rest = self.since.filter(|_| self.resumed && !self.has_begun_after(Kind::Cluster));
        endpoints.into_iter().chain(rest.map(|since| since + MAX_PEER_WAIT)).filter(|until| *until > now).min()
    }

    /// The number of the last response; what a [`Report`] counts by.
    pub fn last_nonce(&self) -> u64 {
        self.nonces
    }

    /// True when the peer has answered everything that it was sent, and everything that is offered was sent.
    pub fn is_settled(&self, offer: &Offer) -> bool {
        let has_all_asked =
            self.kinds.iter().all(|(kind, held)| held.begun || !kind.is_wildcard() || offer.of_kind(*kind).is_empty());
        has_all_asked
            && self.kinds.iter().all(|(kind, held)| {
                let nothing_new = held.new_in(offer, *kind).is_empty() && held.missing_in(offer, *kind).is_empty();
                !held.in_flight && !held.due && nothing_new && held.gone_in(offer, *kind).is_empty()
            })
    }

    fn next(&mut self, offer: &Offer, now: Duration) -> Option<Response> {
        self.since.get_or_insert(now);
        let protocol = self.protocol;
        for kind in Kind::ALL {
            let waits_for_endpoints = !self.awaited.is_empty() && now < self.awaited_until;
            if kind > Kind::Endpoints && (waits_for_endpoints || self.kinds[&Kind::Cluster].in_flight) {
                return None;
            }
            let held = &self.kinds[&kind];
            if held.in_flight {
                if kind == Kind::Cluster {
                    continue; // Envoy answers for a new cluster when it has its endpoints.
                }
                return None;
            }
            let put = held.new_in(offer, kind);
            let missing = held.missing_in(offer, kind);
            if put.is_empty() && missing.is_empty() && !held.due {
                continue;
            }
            self.note_given(kind, &put, now);
            return Some(self.send(kind, put, missing));
        }
        let gone = Kind::ALL.into_iter().rev().map(|kind| (kind, self.kinds[&kind].gone_in(offer, kind)));
        let (kind, gone) = gone.into_iter().find(|(_, gone)| !gone.is_empty())?;
        // What a peer holds from another stream of kinds that it has not asked for yet may refer to what is gone.
        let patience = self.since.map(|since| since + MAX_PEER_WAIT);
        if self.resumed && !self.has_begun_after(kind) && patience.is_some_and(|until| now < until) {
            return None;
        }
        // Endpoints and everything else that is asked for by name is left alone by a peer that speaks state of the
        // world when it is no longer offered: omission means nothing there.
        if protocol == Protocol::StateOfTheWorld && !kind.is_wildcard() {
            return self.forget(offer, now, kind, &gone);
        }
        Some(self.send(kind, Vec::new(), gone))
    }

    fn has_begun_after(&self, kind: Kind) -> bool {
        self.kinds.iter().all(|(other, held)| *other <= kind || held.begun)
    }

    /// Forgets what was sent without a word, and looks for something else.
    fn forget(&mut self, offer: &Offer, now: Duration, kind: Kind, gone: &[String]) -> Option<Response> {
        let held = self.kinds.entry(kind).or_default();
        for name in gone {
            held.sent.remove(name);
        }
        self.next(offer, now)
    }

    fn send(&mut self, kind: Kind, put: Vec<(String, Arc<Offered>)>, removed: Vec<String>) -> Response {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let held = self.kinds.entry(kind).or_default();
        for (name, offered) in &put {
            held.again.remove(name);
            held.told_missing.remove(name);
            let sent = Sent { version: offered.version.clone(), offered: Some(Arc::clone(offered)) };
            held.sent.insert(name.clone(), sent);
        }
        for name in &removed {
            held.sent.remove(name);
            held.again.remove(name);
            if held.names.contains(name) {
                held.told_missing.insert(name.clone());
            }
        }
        held.moved = match self.protocol {
            Protocol::Delta => put.iter().map(|(name, _)| name.clone()).chain(removed.iter().cloned()).collect(),
            // Every response says everything, so that every answer is about everything.
            Protocol::StateOfTheWorld => held.sent.keys().chain(&removed).cloned().collect(),
        };
        held.due = false;
        held.last = Some(nonce.clone());
        held.in_flight = true;
        Response { kind, put, removed, nonce }
    }

    /// A peer that was given a cluster gets its endpoints once more, even unchanged: else Envoy waits for them for ever.
    fn note_given(&mut self, kind: Kind, put: &[(String, Arc<Offered>)], now: Duration) {
        if kind != Kind::Cluster || !self.kinds[&kind].wildcard {
            return;
        }
        let endpoints = self.kinds.entry(Kind::Endpoints).or_default();
        for (name, _) in put {
            if endpoints.sent.contains_key(name) {
                endpoints.again.insert(name.clone());
            }
        }
        let asks_for_endpoints = |name: &String| endpoints.wildcard || endpoints.names.contains(name);
        self.awaited.extend(put.iter().map(|(name, _)| name.clone()).filter(|name| !asks_for_endpoints(name)));
        self.awaited_until = now + MAX_PEER_WAIT;
    }

    fn note_asked(&mut self, kind: Kind) {
        if kind == Kind::Endpoints {
            let held = &self.kinds[&kind];
            self.awaited.retain(|name| !held.wildcard && !held.names.contains(name));
        }
    }
}

impl Held {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == "*" {
            self.wildcard = false;
            let names = &self.names;
            self.sent.retain(|name, _| names.contains(name));
            return;
        }
        self.names.remove(name);
        self.again.remove(name);
        self.told_missing.remove(name);
        if !self.wildcard {
            self.sent.remove(name);
        }
    }

    fn answered(&mut self, kind: Kind, nonce: &str, error: Option<&Status>) -> Said {
        if nonce.is_empty() {
            return Said::Asked;
        }
        if self.last.as_deref() != Some(nonce) {
            return Said::Stale;
        }
        if !std::mem::replace(&mut self.in_flight, false) {
            return Said::Asked;
        }
        match error {
            None => Said::Accepted(kind, take(&mut self.moved)),
            // What was refused is not sent again until it says something else.
            Some(status) => Said::Refused(kind, self.blamed(&status.message), status.message.clone()),
        }
    }

    /// The resources that a refusal is about: those of the response that it names, or else all of them.
    fn blamed(&mut self, refusal: &str) -> Vec<String> {
        let moved = take(&mut self.moved);
        let named: Vec<String> = moved.iter().filter(|name| names_it(refusal, name)).cloned().collect();
        if named.is_empty() { moved } else { named }
    }

    /// What is offered, wanted, and not held in this version.
    fn new_in(&self, offer: &Offer, kind: Kind) -> Vec<(String, Arc<Offered>)> {
        if !self.begun {
            return Vec::new();
        }
        let offered = offer.of_kind(kind);
        let is_new = |(name, offered): &(&String, &Arc<Offered>)| {
            let held = self.sent.get(*name).is_some_and(|sent| sent.version == offered.version);
            !held || self.again.contains(*name)
        };
        let copy = |(name, offered): (&String, &Arc<Offered>)| (name.clone(), Arc::clone(offered));
        if self.wildcard {
            return offered.iter().filter(is_new).map(copy).collect();
        }
        self.names.iter().filter_map(|name| offered.get_key_value(name)).filter(is_new).map(copy).collect()
    }

    /// What was asked for, was never there, and is not known to be missing.
    fn missing_in(&self, offer: &Offer, kind: Kind) -> Vec<String> {
        let offered = offer.of_kind(kind);
        let is_missing = |name: &&String| {
            !offered.contains_key(*name) && !self.sent.contains_key(*name) && !self.told_missing.contains(*name)
        };
        self.names.iter().filter(is_missing).cloned().collect()
    }

    /// What is held and no longer offered.
    fn gone_in(&self, offer: &Offer, kind: Kind) -> Vec<String> {
        if !self.begun {
            return Vec::new();
        }
        let offered = offer.of_kind(kind);
        self.sent.keys().filter(|name| !offered.contains_key(*name) || !self.wants(name)).cloned().collect()
    }
}

/// True when a text holds a name, and not only one that begins or ends like it.
fn names_it(text: &str, name: &str) -> bool {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "-_/@".contains(character);
    text.match_indices(name).any(|(start, _)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + name.len()..].chars().next());
        !name.is_empty() && !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_whole() {
        for (text, name, expected) in [
            ("cluster a/web: is refused", "a/web", true),
            ("cluster a/web2: is refused", "a/web", false),
            ("cluster b-a/web: is refused", "a/web", false),
            ("Error adding listener(s) a/web", "a/web", true),
            ("x", "", false),
        ] {
            assert_eq!(names_it(text, name), expected, "{name} in {text}");
        }
    }
}
