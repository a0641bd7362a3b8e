//! etcd as the engine: several control planes share one, and each may write. A member that does not answer is left for the
//! next one.
//!
//! A write whose answer is lost may have happened. It is sent again, and its guard fails if it had: so whoever writes with
//! a guard puts something first that nobody else writes, and by that it is recognised.
//!
//! Every call blocks.

mod wire;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};
use tracing::warn;

use self::wire::{
    Compare, DeleteRangeRequest, Held, Operation, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchRequest,
};
use super::operation::{Guard, Order, Write};
use crate::limits::{
    ETCD_KEEPALIVE, ETCD_PAGE, ETCD_TIMEOUT, MAX_ETCD_OPERATIONS, MAX_ETCD_WATCH_PAUSE, MIN_ETCD_WATCH_PAUSE,
};
use crate::store::StoreError;

/// Where an etcd is, and how to talk to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// Its members, as `HOST:PORT`.
    pub members: Vec<String>,
    /// What every key begins with.
    pub prefix: String,
    /// How it is encrypted; nothing for plain text.
    pub tls: Option<EtcdTls>,
}

/// The files that a connection by TLS is made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// Who signs the members' certificates.
    pub ca: PathBuf,
    /// Our own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

impl fmt::Display for EtcdOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "etcds" } else { "etcd" };
        write!(formatter, "{scheme}://{}/{}", self.members.join(","), self.prefix.trim_end_matches('/'))
    }
}

/// Keys and values in an etcd.
#[derive(Debug)]
pub(crate) struct Etcd {
    /// Nothing only while it is dropped.
    runtime: Option<Runtime>,
    members: Arc<Members>,
    prefix: String,
}

#[derive(Debug)]
struct Members {
    names: Vec<String>,
    channels: Vec<Channel>,
    /// The one that answered last.
    current: AtomicUsize,
}

impl Etcd {
    /// An etcd that answers.
    ///
    /// # Errors
    /// It does not; its files cannot be read.
    pub(crate) fn open(options: &EtcdOptions) -> Result<Self, StoreError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let builder = builder.worker_threads(1).enable_all().thread_name("etcd");
        let runtime = builder.build().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let inside = runtime.enter(); // Channels belong to the runtime in which they are made.
        let tls = options.tls.as_ref().map(EtcdTls::config).transpose()?;
        let channel = |name: &String| channel(name, tls.as_ref()).map_err(StoreError::Unavailable);
        let channels = options.members.iter().map(channel).collect::<Result<Vec<_>, _>>()?;
        let members = Members { names: options.members.clone(), channels, current: AtomicUsize::new(0) };
        drop(inside);
        let etcd = Self { runtime: Some(runtime), members: Arc::new(members), prefix: options.prefix.clone() };
        etcd.get("head")?; // Whether it is there at all.
        Ok(etcd)
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let request = RangeRequest { key: self.key(key), limit: 1, ..RangeRequest::default() };
        let answer = self.ask(request, wire::range).0?;
        Ok(answer.kvs.into_iter().next().map(|entry| entry.value))
    }

    /// As [`super::Engine::list`].
    pub(crate) fn list(
        &self,
        range: (&str, &str),
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.pages(range, (limit, false), order)
    }

    /// As [`super::Engine::keys`].
    pub(crate) fn keys(&self, range: (&str, &str)) -> Result<Vec<String>, StoreError> {
        let found = self.pages(range, (usize::MAX, true), Order::Forward)?;
        Ok(found.into_iter().map(|(key, _)| key).collect())
    }

    /// As [`super::Engine::write`]. What does not fit into one transaction is written before, or deleted after
    /// it: only the first of several values and the last deletions can be alone.
    pub(crate) fn write(&self, guards: &[Guard<'_>], write: &Write) -> Result<bool, StoreError> {
        let (first, later) = write.deletes.split_at(write.deletes.len().min(MAX_ETCD_OPERATIONS - write.puts.len()));
        if !self.transact(guards, (&write.puts, first))? {
            return Ok(false);
        }
        for deletes in later.chunks(MAX_ETCD_OPERATIONS) {
            self.transact(&[], (&[], deletes))?;
        }
        Ok(true)
    }

    /// Says when something may have changed, by anybody.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        let (changed, changes) = watch::channel(0);
        let range = (self.prefix.clone().into_bytes(), after(&self.prefix));
        if let Some(runtime) = &self.runtime {
            runtime.spawn(Arc::clone(&self.members).follow(range, changed));
        }
        changes
    }

    fn pages(
        &self,
        (from, to): (&str, &str),
        (limit, keys_only): (usize, bool),
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (mut from, mut to) = (self.key(from), self.key(to));
        let mut found = Vec::new();
        while found.len() < limit && from < to {
            let count = (limit - found.len()).min(ETCD_PAGE);
            let request = RangeRequest {
                key: from.clone(),
                range_end: to.clone(),
                limit: i64::try_from(count).unwrap_or(i64::MAX),
                // Keys come in order by themselves; for any order that is asked for, the whole range is read first.
                sort_order: if order == Order::Forward { 0 } else { 2 },
                keys_only,
            };
            let page = self.ask(request, wire::range).0?.kvs;
            let is_last = page.len() < count;
            if let Some(last) = page.last() {
                match order {
                    Order::Forward => from = [last.key.as_slice(), b"\0"].concat(),
                    Order::Reverse => to.clone_from(&last.key),
                }
            }
            for entry in page {
                let key =
                    String::from_utf8(entry.key).ok().and_then(|key| Some(key.strip_prefix(&self.prefix)?.to_owned()));
                found.push((key.ok_or_else(|| StoreError::Damaged("a key is not ours".to_owned()))?, entry.value));
            }
            if is_last {
                break;
            }
        }
        Ok(found)
    }

    fn transact(
        &self,
        guards: &[Guard<'_>],
        (puts, deletes): (&[(String, Vec<u8>)], &[String]),
    ) -> Result<bool, StoreError> {
        let compare = |guard: &Guard<'_>| {
            let held = guard.value.map_or(Held::Version(0), |value| Held::Value(value.to_vec()));
            Compare { target: held.target(), key: self.key(guard.key), held: Some(held) }
        };
        let put =
            |(key, value): &(String, Vec<u8>)| Operation::Put(PutRequest { key: self.key(key), value: value.clone() });
        let delete = |key: &String| Operation::Delete(DeleteRangeRequest { key: self.key(key) });
        let operations = puts.iter().map(put).chain(deletes.iter().map(delete));
        let request = TxnRequest {
            compare: guards.iter().map(compare).collect(),
            success: operations.map(|operation| RequestOp { operation: Some(operation) }).collect(),
        };
        let (answer, was_lost) = self.ask(request, wire::transact);
        let succeeded = answer?.succeeded;
        match puts.first() {
            Some((key, value)) if !succeeded && was_lost => Ok(self.get(key)?.as_ref() == Some(value)),
            _ => Ok(succeeded),
        }
    }

    /// Asks the member that answered last, and the others when it does not. Also whether an answer was lost on the way: what
    /// was asked for may have happened more than once.
    fn ask<Q, A, F>(&self, request: Q, call: impl Fn(Channel, Q) -> F + Send + 'static) -> (Result<A, StoreError>, bool)
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
        F: Future<Output = Result<A, Status>> + Send,
    {
        let Some(runtime) = &self.runtime else { return (Err(unavailable("it is closed")), false) };
        let (done, answer) = sync_channel(1);
        let members = Arc::clone(&self.members);
        runtime.spawn(async move { done.send(members.ask(request, call).await) });
        answer.recv().unwrap_or_else(|_| (Err(unavailable("the call has failed by a bug")), true))
    }

    fn key(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // Whoever drops it may be within another runtime.
        }
    }
}

impl Members {
    async fn ask<Q, A, F>(&self, request: Q, call: impl Fn(Channel, Q) -> F) -> (Result<A, StoreError>, bool)
    where
        Q: Clone,
        F: Future<Output = Result<A, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let (mut reasons, mut was_lost) = (Vec::new(), false);
        for number in first..first + self.channels.len() {
            let channel = self.channels[number % self.channels.len()].clone();
            let answer = timeout(ETCD_TIMEOUT, call(channel, request.clone())).await;
            match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Ok(answer) => {
                    self.current.store(number % self.channels.len(), Ordering::Relaxed);
                    return (Ok(answer), was_lost);
                }
                Err(status) => {
                    was_lost |= !is_refusal(&status);
                    reasons.push(format!("{}: {}", self.name(number), said(&status)));
                    if is_refusal(&status) {
                        break;
                    }
                }
            }
        }
        (Err(unavailable(&reasons.join("; "))), was_lost)
    }

    fn name(&self, number: usize) -> &str {
        &self.names[number % self.names.len()]
    }

    /// Watches a range, by one member after the other, for as long as anybody wants to know.
    async fn follow(self: Arc<Self>, (key, end): (Vec<u8>, Vec<u8>), changed: watch::Sender<u64>) {
        let mut pause = MIN_ETCD_WATCH_PAUSE;
        for number in 0.. {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.watch(number, (&key, &end), &changed) => ended,
                () = changed.closed() => return,
            };
            if began.elapsed() > MAX_ETCD_WATCH_PAUSE {
                pause = MIN_ETCD_WATCH_PAUSE;
            }
            if pause == MIN_ETCD_WATCH_PAUSE {
                warn!(member = self.name(number), "etcd says no more what others write: {ended}");
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_ETCD_WATCH_PAUSE);
        }
    }

    /// Watches a range by one member, until that ends; why it did.
    async fn watch(&self, number: usize, range: (&[u8], &[u8]), changed: &watch::Sender<u64>) -> String {
        let create = WatchCreateRequest { key: range.0.to_vec(), range_end: range.1.to_vec() };
        let (requests, receiver) = mpsc::channel(1);
        drop(requests.send(WatchRequest { create: Some(create) }).await);
        let channel = self.channels[number % self.channels.len()].clone();
        let opened = timeout(ETCD_TIMEOUT, wire::watch(channel, ReceiverStream::new(receiver))).await;
        let mut responses = match opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
            Ok(responses) => responses,
            Err(status) => return said(&status),
        };
        loop {
            match responses.message().await {
                Ok(Some(response)) if response.is_cancelled => return response.cancel_reason,
                // The first one says that it is watched from now on: what was written before is to be read now.
                Ok(Some(_)) => changed.send_modify(|count| *count += 1),
                Ok(None) => return "it has ended the watch".to_owned(),
                Err(status) => return said(&status),
            }
        }
    }
}

impl EtcdTls {
    fn config(&self) -> Result<ClientTlsConfig, StoreError> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| StoreError::Unavailable(format!("{}: {error}", path.display())))
        };
        let config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&self.ca)?));
        Ok(match &self.own {
            Some((certificate, key)) => config.identity(Identity::from_pem(read(certificate)?, read(key)?)),
            None => config,
        })
    }
}

fn channel(name: &str, tls: Option<&ClientTlsConfig>) -> Result<Channel, String> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let bad = |error: tonic::transport::Error| format!("the store etcd://{name}: {error}");
    let endpoint = Endpoint::from_shared(format!("{scheme}://{name}")).map_err(bad)?;
    let endpoint = endpoint
        .connect_timeout(ETCD_TIMEOUT)
        .http2_keep_alive_interval(ETCD_KEEPALIVE)
        .keep_alive_timeout(ETCD_KEEPALIVE)
        .tcp_nodelay(true);
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls.clone()).map_err(bad)?,
        None => endpoint,
    };
    Ok(endpoint.connect_lazy())
}

/// What a status says, and what it came of.
fn said(status: &Status) -> String {
    let mut cause: &dyn Error = status;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let (message, cause) = (status.message(), cause.to_string());
    if cause.contains(message) { cause } else { format!("{message}: {cause}") }
}

/// Whether nothing has happened, for certain.
fn is_refusal(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
    )
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable(format!("etcd cannot be read or written: {reason}"))
}

/// The end of the range of all keys with a prefix.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1; // No byte of UTF-8 is 255.
    }
    end
}
