//! The status of an object: accepted (else it would not be there), references resolved, and on how many proxies it
//! works.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use weir_resources::{Kind, ObjectId};

use crate::board::{Board, Program, ScopedOffer, ScopedOffers};
use crate::limits::MAX_NOTES;
use crate::status::proxies::{ProxyBook, ProxyEntry};

/// The proxies as they are at one moment, and what each is told.
pub struct Seen {
    proxies: Vec<ProxyEntry>,
    offers: ScopedOffers,
}

impl Seen {
    /// At this moment.
    pub fn now(book: &ProxyBook, board: &Board) -> Self {
        let proxies = book.all();
        let offers = board.offers(proxies.iter().map(|proxy| (&proxy.scope, proxy.program)));
        Self { proxies, offers }
    }

    /// The proxies that are told of an object. A gRPC client asks for what it wants to call, and for nothing else.
    fn told_of(&self, object: &ObjectId) -> impl Iterator<Item = &ProxyEntry> {
        self.proxies.iter().filter(move |proxy| {
            let offer = self.offers.get(&(proxy.scope.clone(), proxy.program));
            proxy.program != Program::Grpc && offer.is_some_and(|offer| is_for(object, offer))
        })
    }
}

/// What an object's conditions are.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// It was understood, and does not contradict the others.
    pub accepted: Condition,
    /// Everything that it refers to is there.
    pub resolved_refs: Condition,
    /// On how many proxies it works.
    pub programmed: Programmed,
    /// What of it the Envoys among these cannot do, and leave out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A condition that holds or not, and why not.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Whether it holds.
    pub status: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// On how many proxies an object works.
#[derive(Debug, Clone, Serialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase")]
pub struct Programmed {
    /// True when there are proxies that are to have it, and it works on each of them.
    pub status: bool,
    /// Proxies that are to have it.
    pub proxies: usize,
    /// Of these, those that have it.
    pub programmed: usize,
    /// Of these, those that refuse it or cannot serve it.
    pub refused: usize,
    /// In words: `41/42 proxies, 1 refused: edge-7: …`.
    pub message: String,
}

impl ObjectStatus {
    /// The status of an object that is told since a generation.
    pub(crate) fn of(object: &ObjectId, since: u64, value: Option<&Value>, seen: &Seen) -> Self {
        let holds = || Condition { status: true, reason: None };
        let programmed = Programmed::of(object, since, seen);
        Self { accepted: holds(), resolved_refs: holds(), programmed, notes: notes(object, value, seen) }
    }
}

/// What of an object an Envoy cannot do, if one is told of it.
fn notes(object: &ObjectId, value: Option<&Value>, seen: &Seen) -> Vec<String> {
    let says = |pointer: &str| value.and_then(|value| value.pointer(pointer));
    let lacks: Vec<&str> = match object.kind {
        Kind::Filter => {
            let written = |(pointer, lacks): (&str, &'static str)| says(pointer).is_some().then_some(lacks);
            let lacks = NOT_IN_ENVOY.into_iter().filter_map(written);
            std::iter::once("does not enforce limits of filters (`limits`)").chain(lacks).collect()
        }
        Kind::BackendPolicy if says("/spec/timeouts/request").is_some() => {
            vec!["applies `timeouts.request` of routes alone, not of a BackendPolicy"]
        }
        Kind::Mesh if says("/spec/mtls/mode").is_some_and(|mode| mode == "Permissive") => vec!["answers no plain text"],
        _ => return Vec::new(),
    };
    let envoys = seen.told_of(object).filter(|proxy| proxy.program == Program::Envoy);
    let of = |proxy: &ProxyEntry| {
        let node = &proxy.node;
        lacks.iter().map(|lacks| format!("{node} is an Envoy, which {lacks}")).collect::<Vec<_>>()
    };
    envoys.flat_map(of).take(MAX_NOTES).collect()
}

/// Fields of a Filter that an Envoy is not told of, and what it does instead.
const NOT_IN_ENVOY: [(&str, &str); 3] = [
    ("/spec/allow/services", "lets its callouts go to every Service that it knows (`allow.services`)"),
    ("/spec/isolation", "has one VM on each worker (`isolation`)"),
    ("/spec/recycle", "keeps its VMs for ever (`recycle`)"),
];

impl Programmed {
    fn of(object: &ObjectId, since: u64, seen: &Seen) -> Self {
        let mut counts = Self::default();
        let mut text = None;
        for proxy in seen.told_of(object) {
            counts.proxies += 1;
            match proxy.failure_of(object) {
                Some(reason) => {
                    counts.refused += 1;
                    text = Some(reason);
                }
                None if proxy.has() >= since => counts.programmed += 1,
                None => {}
            }
        }
        counts.status = counts.proxies > 0 && counts.programmed == counts.proxies;
        counts.message = match (counts.proxies, text) {
            (0, _) => "no proxy is connected that needs it".to_owned(),
            (all, None) => format!("{}/{all} proxies", counts.programmed),
            (all, Some(text)) => format!("{}/{all} proxies, {} refused: {text}", counts.programmed, counts.refused),
        };
        counts
    }
}

/// Whether a proxy with this offer is told of the object. Of what becomes part of others, everybody is.
fn is_for(object: &ObjectId, offer: &ScopedOffer) -> bool {
    match object.kind {
        Kind::Gateway
        | Kind::HttpRoute
        | Kind::TcpRoute
        | Kind::Service
        | Kind::Filter
        | Kind::AccessPolicy
        | Kind::Secret => offer.objects.contains(object),
        Kind::GatewayClass | Kind::ReferenceGrant | Kind::BackendPolicy | Kind::Mesh => true,
    }
}
