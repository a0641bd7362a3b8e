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
use std::sync::Arc;
use std::time::Duration;

use crate::kind::Kind;
use crate::limits::{MAX_PEER_WAIT, MAX_RESOURCES};
use crate::offer::{Named, Offer, Resources};
use crate::outgoing::Outgoing;
use crate::proto::{DeltaDiscoveryRequest, DiscoveryRequest};
pub use crate::protocol::{Protocol, Said};
use crate::report::Report;
use crate::subscription::{Remaining, Subscription};

/// The state of one stream.
#[derive(Debug)]
pub struct ServerState {
    protocol: Protocol,
    kinds: BTreeMap<Kind, Subscription>,
    nonces: u64,
    /// Endpoints that the peer was given clusters for and has not asked for, and until when that is waited for.
    awaited: BTreeSet<Arc<str>>,
    awaited_until: Duration,
    /// True when the peer came with what another stream has given it.
    resumed: bool,
    /// When the stream was first looked at.
    since: Option<Duration>,
}

/// A response before it has a form.
#[derive(Debug)]
struct Response {
    kind: Kind,
    put: Vec<Named>,
    removed: Vec<Arc<str>>,
    nonce: String,
}

impl ServerState {
    /// A stream on which nothing was said yet.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            kinds: Kind::ALL.into_iter().map(|kind| (kind, Subscription::default())).collect(),
            nonces: 0,
            awaited: BTreeSet::new(),
            awaited_until: Duration::ZERO,
            resumed: false,
            since: None,
        }
    }

    /// Takes in a request of a delta stream. Names that are offered now share memory with the offer.
    pub fn on_delta_request(&mut self, request: &DeltaDiscoveryRequest, offer: &Offer) -> Said {
        if let Some(report) = Report::of(request) {
            return Said::Reported(report);
        }
        let Some(kind) = Kind::of_url(&request.type_url) else { return Said::Unknown(request.type_url.clone()) };
        let held = self.kinds.entry(kind).or_default();
        let is_first = !std::mem::replace(&mut held.begun, true);
        if is_first {
            let versions = request.initial_resource_versions.iter();
            held.sent = Arc::new(versions.map(|(name, version)| offer.known(kind, name, version)).collect());
            self.resumed |= !held.sent.is_empty();
            held.wildcard = request.resource_names_subscribe.is_empty();
            held.due = held.wildcard; // Who asks for everything is told when that is nothing.
        }
        let changes = !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty();
        if is_first || changes {
            held.look_again();
        }
        for name in &request.resource_names_subscribe {
            if name == "*" {
                held.wildcard = true;
                continue;
            }
            held.told_missing.remove(name.as_str());
            let name = offer.name(kind, name);
            if !held.names.insert(Arc::clone(&name)) && !is_first {
                held.again.insert(name); // Who asks for what he has asked for has lost it.
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
    pub fn on_request(&mut self, request: &DiscoveryRequest, offer: &Offer) -> Said {
        let Some(kind) = Kind::of_url(&request.type_url) else { return Said::Unknown(request.type_url.clone()) };
        let held = self.kinds.entry(kind).or_default();
        let is_first = !std::mem::replace(&mut held.begun, true);
        let said = held.answered(kind, &request.response_nonce, request.error_detail.as_ref());
        if said == Said::Stale {
            return said; // Its names are those of a moment ago.
        }
        let names = request.resource_names.iter().filter(|name| *name != "*");
        let names: BTreeSet<Arc<str>> = names.map(|name| offer.name(kind, name)).collect();
        if names.len() > MAX_RESOURCES {
            return Said::TooMany(kind);
        }
        // Everything until a name was given; after that an empty list is nothing.
        let wildcard = kind.is_wildcard()
            && ((held.wildcard || is_first) && names.is_empty()
                || request.resource_names.iter().any(|name| name == "*"));
        if std::mem::replace(&mut held.wildcard, wildcard) != wildcard || held.names != names {
            held.look_again();
        }
        if held.names != names {
            held.told_missing.clear();
            held.due |= names.difference(&held.names).next().is_some();
            held.retain_sent(|name| wildcard || names.contains(name));
            held.names = names;
        }
        held.due |= is_first && held.wildcard;
        self.note_asked(kind);
        said
    }

    /// The next response, if one is due; `now` is any clock that never goes back.
    pub fn next_response(&mut self, offer: &Offer, now: Duration) -> Option<Outgoing> {
        let Response { kind, put, removed, nonce } = self.next(offer, now)?;
        Some(match self.protocol {
            Protocol::Delta => Outgoing::delta(kind, put, &removed, nonce),
            Protocol::StateOfTheWorld => {
                let sent = self.kinds[&kind].sent.iter();
                Outgoing::state(kind, sent.map(|(name, sent)| (Arc::clone(name), Arc::clone(sent))).collect(), nonce)
            }
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
            && self.kinds.values().all(|held| !held.in_flight && !held.due)
            && self.kinds.iter().all(|(kind, held)| held.remaining(offer.of_kind(*kind)).is_empty())
    }

    fn next(&mut self, offer: &Offer, now: Duration) -> Option<Response> {
        self.since.get_or_insert(now);
        let protocol = self.protocol;
        let mut gone_from = Vec::new();
        for kind in Kind::ALL {
            let waits_for_endpoints = !self.awaited.is_empty() && now < self.awaited_until;
            if kind > Kind::Endpoints && (waits_for_endpoints || self.kinds[&Kind::Cluster].in_flight) {
                return None;
            }
            let held = self.kinds.entry(kind).or_default();
            if held.in_flight {
                if kind == Kind::Cluster {
                    continue; // Envoy answers for a new cluster when it has its endpoints.
                }
                return None;
            }
            let offered = offer.of_kind(kind);
            let Remaining { put, missing, gone } = held.remaining(offered);
            if !put.is_empty() || !missing.is_empty() || held.due {
                self.note_given(kind, &put, now);
                return Some(self.send(kind, (offered, gone.is_empty()), put, missing));
            }
            if gone.is_empty() {
                held.set_done(offered);
            } else {
                gone_from.push((kind, gone));
            }
        }
        let (kind, gone) = gone_from.pop()?;
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
        Some(self.send(kind, (offer.of_kind(kind), false), Vec::new(), gone))
    }

    fn has_begun_after(&self, kind: Kind) -> bool {
        self.kinds.iter().all(|(other, held)| *other <= kind || held.begun)
    }

    /// Forgets what was sent without a word, and looks for something else.
    fn forget(&mut self, offer: &Offer, now: Duration, kind: Kind, gone: &[Arc<str>]) -> Option<Response> {
        let held = self.kinds.entry(kind).or_default();
        let gone: BTreeSet<&Arc<str>> = gone.iter().collect();
        Arc::make_mut(&mut held.sent).retain(|name, _| !gone.contains(name));
        self.next(offer, now)
    }

    fn send(
        &mut self,
        kind: Kind,
        offered: (&Arc<Resources>, bool),
        put: Vec<Named>,
        removed: Vec<Arc<str>>,
    ) -> Response {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        self.kinds.entry(kind).or_default().send((&put, &removed), offered, (self.protocol, &nonce));
        Response { kind, put, removed, nonce }
    }

    /// A peer that was given a cluster gets its endpoints once more, even unchanged: else Envoy waits for them for ever.
    fn note_given(&mut self, kind: Kind, put: &[Named], now: Duration) {
        if kind != Kind::Cluster || !self.kinds[&kind].wildcard {
            return;
        }
        let endpoints = self.kinds.entry(Kind::Endpoints).or_default();
        for (name, _) in put {
            if endpoints.sent.contains_key(name) {
                endpoints.repeat(Arc::clone(name));
            }
        }
        self.awaited.extend(put.iter().map(|(name, _)| name).filter(|name| !endpoints.wants(name)).cloned());
        self.awaited_until = now + MAX_PEER_WAIT;
    }

    fn note_asked(&mut self, kind: Kind) {
        if kind == Kind::Endpoints {
            let held = &self.kinds[&kind];
            self.awaited.retain(|name| !held.wants(name));
        }
    }
}
