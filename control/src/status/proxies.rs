//! The proxies whose streams are open, and what each has said. Written by the task of each stream, read by the API.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use weir_model::{ResourceId, SpiffeId};
use weir_resources::{ObjectId, object_of};
use weir_xds::Kind;
use weir_xds::Report;

use crate::board::{Program, Scope};
use crate::limits::{MAX_SHOWN_REFUSAL, MAX_SHOWN_REFUSALS, MAX_STREAMS};
use crate::store::ObjectName;

/// The proxies whose streams are open.
#[derive(Debug)]
pub struct ProxyBook {
    proxies: Mutex<BTreeMap<u64, Arc<Mutex<ProxyEntry>>>>,
    last: Mutex<u64>,
    changed: watch::Sender<u64>,
}

/// One proxy.
#[derive(Debug, Clone)]
pub struct ProxyEntry {
    /// What it calls itself.
    pub node: String,
    /// What it may see.
    pub scope: Scope,
    /// What kind of program it is.
    pub program: Program,
    identity: Option<SpiffeId>,
    program_name: String,
    protocol: &'static str,
    since: jiff::Timestamp,
    /// The generation that it has answered whole.
    settled: u64,
    /// The generation that it says it serves; proxies of ours say so.
    serves: Option<u64>,
    /// What it has refused or cannot serve, and has not been told anew since.
    failed: BTreeMap<(Kind, String), String>,
    last_refusal: Option<(jiff::Timestamp, String)>,
    /// When it was behind first, if it is.
    pub(crate) behind_since: Option<jiff::Timestamp>,
}

/// What the API says of one proxy.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// What it calls itself.
    pub node: String,
    /// The Gateway that it serves; nothing when it serves every Gateway.
    pub gateway: Option<String>,
    /// Who it has proved to be; nothing for one that is believed.
    pub identity: Option<String>,
    /// `weir-proxy`, `envoy`, …
    pub program: String,
    /// `delta` or `state of the world`.
    pub protocol: &'static str,
    /// When it opened its stream.
    #[schemars(with = "String")]
    pub connected: jiff::Timestamp,
    /// The newest generation there is.
    pub newest: u64,
    /// The generation that it has accepted whole.
    pub accepted: u64,
    /// The generation that serves there, as it says itself; proxies of ours do.
    pub serves: Option<u64>,
    /// For how long it has been behind, in milliseconds; 0 when it is not.
    pub lag_ms: i64,
    /// What it has refused, or cannot serve.
    pub failed: Vec<FailedResource>,
    /// What it refused last, also when that is over.
    pub last_refusal: Option<String>,
}

/// A resource that a proxy has refused or cannot serve.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedResource {
    /// `Cluster`, `Listener`, …
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The object that it was made of.
    pub object: Option<ObjectName>,
    /// Why.
    pub reason: String,
}

impl ProxyBook {
    /// No proxy yet.
    pub fn new() -> Arc<Self> {
        let (changed, _) = watch::channel(0);
        Arc::new(Self { proxies: Mutex::default(), last: Mutex::new(0), changed })
    }

    /// A stream is open. `None` when there are too many.
    pub(crate) fn open(&self, entry: ProxyEntry) -> Option<(u64, Arc<Mutex<ProxyEntry>>)> {
        let mut proxies = self.proxies.lock();
        if proxies.len() >= MAX_STREAMS {
            return None;
        }
        let mut last = self.last.lock();
        *last += 1;
        let entry = Arc::new(Mutex::new(entry));
        proxies.insert(*last, Arc::clone(&entry));
        Some((*last, entry))
    }

    /// A stream has ended.
    pub(crate) fn close(&self, id: u64) {
        self.proxies.lock().remove(&id);
        self.note_change();
    }

    /// Something of a proxy has changed.
    pub(crate) fn note_change(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Says when something has changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All of them, as they are.
    pub fn all(&self) -> Vec<ProxyEntry> {
        self.proxies.lock().values().map(|entry| entry.lock().clone()).collect()
    }
}

impl ProxyEntry {
    /// A proxy that has said who it is, and nothing else.
    pub(crate) fn new(node: String, scope: Scope, program: (Program, String), protocol: &'static str) -> Self {
        Self {
            node,
            scope,
            program: program.0,
            identity: None,
            program_name: program.1,
            protocol,
            since: jiff::Timestamp::now(),
            settled: 0,
            serves: None,
            failed: BTreeMap::new(),
            last_refusal: None,
            behind_since: None,
        }
    }

    /// It has proved to be this.
    pub(crate) fn proved(self, identity: Option<SpiffeId>) -> Self {
        Self { identity, ..self }
    }

    /// It took these in.
    pub(crate) fn accepted(&mut self, kind: Kind, names: &[Arc<str>]) {
        if !self.failed.is_empty() {
            names.iter().for_each(|name| drop(self.failed.remove(&(kind, name.as_ref().to_owned()))));
        }
    }

    /// It refused these.
    pub(crate) fn refused(&mut self, kind: Kind, names: &[Arc<str>], text: &str) {
        let text: String = text.chars().take(MAX_SHOWN_REFUSAL).collect();
        for name in names {
            if self.failed.len() < MAX_SHOWN_REFUSALS {
                self.failed.insert((kind, name.as_ref().to_owned()), text.clone());
            }
        }
        self.last_refusal = Some((jiff::Timestamp::now(), text));
    }

    /// It says what became of what it took in, up to a generation.
    pub(crate) fn reported(&mut self, report: Report, serves: Option<u64>) {
        if let Some(generation) = serves {
            self.serve(generation);
        }
        self.failed.clear(); // What it refused is among what it reports, or was told anew.
        for (kind, name, reason) in report.failed {
            let reason: String = reason.chars().take(MAX_SHOWN_REFUSAL).collect();
            self.last_refusal = Some((jiff::Timestamp::now(), format!("{kind:?} {name}: {reason}")));
            self.failed.insert((kind, name), reason);
        }
    }

    /// It has answered everything of a generation.
    pub(crate) fn settle(&mut self, generation: u64) {
        self.settled = generation;
        if self.program != Program::Weir {
            self.behind_since = None;
        }
    }

    /// What serves there is a generation's, too.
    pub(crate) fn serve(&mut self, generation: u64) {
        self.serves = Some(generation);
        self.behind_since = None;
    }

    /// The generation that it has, as far as it says.
    pub fn has(&self) -> u64 {
        match self.program {
            Program::Weir => self.serves.unwrap_or(0),
            Program::Envoy | Program::Grpc => self.settled,
        }
    }

    /// True when it has everything of a generation and refuses nothing.
    pub fn is_up_to_date(&self, generation: u64) -> bool {
        self.has() == generation && self.failed.is_empty()
    }

    /// True when it refuses something, or cannot serve it.
    pub fn is_refusing(&self) -> bool {
        !self.failed.is_empty()
    }

    /// Why this object does not work there; `None` when nothing is known against it.
    pub fn failure_of(&self, object: &ObjectId) -> Option<String> {
        let of_it = |(kind, name): &(Kind, String)| object_of(&resource(*kind, name)).as_ref() == Some(object);
        let (_, reason) = self.failed.iter().find(|(key, _)| of_it(key))?;
        Some(format!("{}: {reason}", self.node))
    }

    /// As the API says it.
    pub fn status(&self, newest: u64) -> ProxyStatus {
        let failed = self.failed.iter().map(|((kind, name), reason)| FailedResource {
            kind: format!("{kind:?}"),
            name: name.clone(),
            object: object_of(&resource(*kind, name)).as_ref().map(ObjectName::from),
            reason: reason.clone(),
        });
        let behind =
            self.behind_since.map(|since| (jiff::Timestamp::now().as_millisecond() - since.as_millisecond()).max(0));
        ProxyStatus {
            node: self.node.clone(),
            gateway: match &self.scope {
                Scope::Everything => None,
                Scope::Gateway(name) => Some(name.clone()),
            },
            identity: self.identity.as_ref().map(ToString::to_string),
            program: self.program_name.clone(),
            protocol: self.protocol,
            connected: self.since,
            newest,
            accepted: self.settled,
            serves: self.serves,
            lag_ms: if self.has() < newest { behind.unwrap_or(0) } else { 0 },
            failed: failed.collect(),
            last_refusal: self.last_refusal.as_ref().map(|(time, text)| format!("{time}: {text}")),
        }
    }
}

fn resource(kind: Kind, name: &str) -> ResourceId {
    ResourceId { kind: kind.resource(), name: name.to_owned() }
}
