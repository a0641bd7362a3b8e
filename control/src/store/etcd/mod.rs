//! The etcd key-value store: several control planes share one etcd, and each may write. A call that a member does not
//! answer is sent to the next member.
//!
//! If the response is lost, the transaction may have been applied. The transaction is sent again. If the second attempt
//! fails its preconditions, the transaction's marker is read back: its value is unique to this transaction, so reading
//! it means that the first attempt was applied.
//!
//! Every method of [`EtcdKv`] blocks on etcd.

mod proto;

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

use self::proto::{
    Compare, CompareTarget, DeleteRangeRequest, Operation, PutRequest, RangeRequest, RequestOp, TxnRequest,
    WatchCreateRequest, WatchRequest,
};
use super::error::StoreError;
use super::txn::{KeyRange, Order, Precondition, Put, Txn};
use crate::limits::{
    ETCD_KEEPALIVE, ETCD_PAGE, ETCD_TIMEOUT, MAX_ETCD_OPERATIONS, MAX_ETCD_WATCH_PAUSE, MIN_ETCD_WATCH_PAUSE,
};

/// The address of an etcd cluster and its credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// The cluster's members, as `HOST:PORT`.
    pub members: Vec<String>,
    /// The prefix of every key.
    pub prefix: String,
    /// The TLS files; `None` for plaintext.
    pub tls: Option<EtcdTls>,
}

/// The files of a TLS connection to etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The CA that signed the members' certificates.
    pub ca: PathBuf,
    /// The client certificate; `None` if etcd does not require one.
    pub client: Option<EtcdKeyPair>,
}

/// A client certificate and its key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdKeyPair {
    /// The certificate (PEM).
    pub certificate: PathBuf,
    /// The certificate's private key (PEM).
    pub key: PathBuf,
}

impl fmt::Display for EtcdOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "etcds" } else { "etcd" };
        write!(formatter, "{scheme}://{}/{}", self.members.join(","), self.prefix.trim_end_matches('/'))
    }
}

/// A key-value store in etcd.
#[derive(Debug)]
pub(crate) struct EtcdKv {
    /// `None` only while the value is dropped.
    runtime: Option<Runtime>,
    endpoints: Arc<Endpoints>,
    prefix: String,
}

/// The members of the etcd cluster, with failover.
#[derive(Debug)]
struct Endpoints {
    names: Vec<String>,
    channels: Vec<Channel>,
    /// The index of the member that answered last.
    current: AtomicUsize,
}

/// The response of a call, and whether an earlier attempt of the call may have been applied without a response.
struct CallResult<A> {
    response: Result<A, StoreError>,
    maybe_applied: bool,
}

/// The keys from `start` to before `end`, with the store's prefix.
#[derive(Debug, Clone)]
struct ByteRange {
    start: Vec<u8>,
    end: Vec<u8>,
}

/// The limits of a listing.
#[derive(Debug, Clone, Copy)]
struct ListOptions {
    limit: usize,
    keys_only: bool,
    order: Order,
}

impl EtcdKv {
    /// Connects to an etcd.
    ///
    /// # Errors
    /// No member answers, or a TLS file cannot be read.
    pub(crate) fn open(options: &EtcdOptions) -> Result<Self, StoreError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let builder = builder.worker_threads(1).enable_all().thread_name("etcd");
        let runtime = builder.build().map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let inside = runtime.enter(); // A channel belongs to the runtime in which it is created.
        let tls = options.tls.as_ref().map(EtcdTls::config).transpose()?;
        let channel = |name: &String| channel(name, tls.as_ref()).map_err(StoreError::Unavailable);
        let channels = options.members.iter().map(channel).collect::<Result<Vec<_>, _>>()?;
        let endpoints = Endpoints { names: options.members.clone(), channels, current: AtomicUsize::new(0) };
        drop(inside);
        let etcd = Self { runtime: Some(runtime), endpoints: Arc::new(endpoints), prefix: options.prefix.clone() };
        etcd.get("head")?; // Fails if no member answers.
        Ok(etcd)
    }

    /// Returns the value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let request = RangeRequest { key: self.key(key), limit: 1, ..RangeRequest::default() };
        let response = self.call(request, proto::range).response?;
        Ok(response.kvs.into_iter().next().map(|entry| entry.value))
    }

    /// Returns at most `limit` keys of a range with their values, sorted.
    pub(crate) fn list(
        &self,
        range: KeyRange<'_>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.pages(range, ListOptions { limit, keys_only: false, order })
    }

    /// Returns the keys of a range, sorted.
    pub(crate) fn keys(&self, range: KeyRange<'_>) -> Result<Vec<String>, StoreError> {
        let found = self.pages(range, ListOptions { limit: usize::MAX, keys_only: true, order: Order::Forward })?;
        Ok(found.into_iter().map(|(key, _)| key).collect())
    }

    /// Applies a transaction if every precondition is met, and returns whether it did. Deletions beyond the limit of
    /// one etcd transaction follow in further transactions, without preconditions.
    pub(crate) fn write(&self, preconditions: &[Precondition<'_>], txn: &Txn) -> Result<bool, StoreError> {
        let puts: Vec<&Put> = txn.all_puts().collect();
        let (first, later) = txn.deletes.split_at(txn.deletes.len().min(MAX_ETCD_OPERATIONS - puts.len()));
        let CallResult { response, maybe_applied } =
            self.call(self.txn_request(preconditions, &puts, first), proto::transact);
        let mut is_applied = response?.succeeded;
        if let Some(marker) = txn.marker.as_ref().filter(|_| !is_applied && maybe_applied) {
            is_applied = self.get(&marker.key)?.as_ref() == Some(&marker.value);
        }
        if !is_applied {
            return Ok(false);
        }
        for deletes in later.chunks(MAX_ETCD_OPERATIONS) {
            self.call(self.txn_request(&[], &[], deletes), proto::transact).response?;
        }
        Ok(true)
    }

    /// Starts to watch all keys, and returns a channel that changes when any process may have written.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        let (changed, changes) = watch::channel(0);
        let range = ByteRange { start: self.prefix.clone().into_bytes(), end: prefix_end(&self.prefix) };
        if let Some(runtime) = &self.runtime {
            runtime.spawn(Arc::clone(&self.endpoints).follow(range, changed));
        }
        changes
    }

    fn pages(&self, range: KeyRange<'_>, options: ListOptions) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let ListOptions { limit, keys_only, order } = options;
        let mut range = ByteRange { start: self.key(range.from), end: self.key(range.to) };
        let mut found = Vec::new();
        while found.len() < limit && range.start < range.end {
            let count = (limit - found.len()).min(ETCD_PAGE);
            let request = RangeRequest {
                key: range.start.clone(),
                range_end: range.end.clone(),
                limit: i64::try_from(count).unwrap_or(i64::MAX),
                // etcd returns keys in ascending order. With a sort order, even ascending, it reads the whole range
                // first.
                sort_order: if order == Order::Forward { 0 } else { 2 },
                keys_only,
            };
            let page = self.call(request, proto::range).response?.kvs;
            let is_last = page.len() < count;
            if let Some(last) = page.last() {
                match order {
                    Order::Forward => range.start = [last.key.as_slice(), b"\0"].concat(),
                    Order::Reverse => range.end.clone_from(&last.key),
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

    fn txn_request(&self, preconditions: &[Precondition<'_>], puts: &[&Put], deletes: &[String]) -> TxnRequest {
        let compare = |precondition: &Precondition<'_>| {
            let expected =
                precondition.value.map_or(CompareTarget::Version(0), |value| CompareTarget::Value(value.to_vec()));
            Compare { target: expected.target(), key: self.key(precondition.key), target_union: Some(expected) }
        };
        let put = |put: &&Put| Operation::Put(PutRequest { key: self.key(&put.key), value: put.value.clone() });
        let delete = |key: &String| Operation::Delete(DeleteRangeRequest { key: self.key(key) });
        let operations = puts.iter().map(put).chain(deletes.iter().map(delete));
        TxnRequest {
            compare: preconditions.iter().map(compare).collect(),
            success: operations.map(|operation| RequestOp { operation: Some(operation) }).collect(),
        }
    }

    /// Calls the member that answered last, and the other members if it does not answer.
    fn call<Q, A, F>(&self, request: Q, rpc: impl Fn(Channel, Q) -> F + Send + 'static) -> CallResult<A>
    where
        Q: Clone + Send + 'static,
        A: Send + 'static,
        F: Future<Output = Result<A, Status>> + Send,
    {
        let Some(runtime) = &self.runtime else {
            return CallResult { response: Err(unavailable("it is closed")), maybe_applied: false };
        };
        let (done, result) = sync_channel(1);
        let endpoints = Arc::clone(&self.endpoints);
        runtime.spawn(async move { done.send(endpoints.call(request, rpc).await) });
        result.recv().unwrap_or_else(|_| CallResult {
            response: Err(unavailable("the call has failed by a bug")),
            maybe_applied: true,
        })
    }

    fn key(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }
}

impl Drop for EtcdKv {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background(); // Dropping a runtime inside another one panics.
        }
    }
}

impl Endpoints {
    async fn call<Q, A, F>(&self, request: Q, rpc: impl Fn(Channel, Q) -> F) -> CallResult<A>
    where
        Q: Clone,
        F: Future<Output = Result<A, Status>>,
    {
        let first = self.current.load(Ordering::Relaxed);
        let (mut reasons, mut maybe_applied) = (Vec::new(), false);
        for number in first..first + self.channels.len() {
            let channel = self.channels[number % self.channels.len()].clone();
            let response = timeout(ETCD_TIMEOUT, rpc(channel, request.clone())).await;
            match response.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                Ok(response) => {
                    self.current.store(number % self.channels.len(), Ordering::Relaxed);
                    return CallResult { response: Ok(response), maybe_applied };
                }
                Err(status) => {
                    maybe_applied |= !is_definitive(&status);
                    reasons.push(format!("{}: {}", self.name(number), status_message(&status)));
                    if is_definitive(&status) {
                        break;
                    }
                }
            }
        }
        CallResult { response: Err(unavailable(&reasons.join("; "))), maybe_applied }
    }

    fn name(&self, number: usize) -> &str {
        &self.names[number % self.names.len()]
    }

    /// Watches a range until the receiver of `changed` is dropped. A watch that ends is opened again at the next
    /// member.
    async fn follow(self: Arc<Self>, range: ByteRange, changed: watch::Sender<u64>) {
        let mut pause = MIN_ETCD_WATCH_PAUSE;
        for number in 0.. {
            let started = Instant::now();
            let reason = tokio::select! {
                reason = self.watch(number, range.clone(), &changed) => reason,
                () = changed.closed() => return,
            };
            if started.elapsed() > MAX_ETCD_WATCH_PAUSE {
                pause = MIN_ETCD_WATCH_PAUSE;
            }
            if pause == MIN_ETCD_WATCH_PAUSE {
                warn!(member = self.name(number), reason, "etcd watch ended");
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_ETCD_WATCH_PAUSE);
        }
    }

    /// Watches a range at one member until the watch ends, and returns the reason.
    async fn watch(&self, number: usize, range: ByteRange, changed: &watch::Sender<u64>) -> String {
        let create = WatchCreateRequest { key: range.start, range_end: range.end };
        let (requests, receiver) = mpsc::channel(1);
        drop(requests.send(WatchRequest { create: Some(create) }).await);
        let channel = self.channels[number % self.channels.len()].clone();
        let opened = timeout(ETCD_TIMEOUT, proto::watch(channel, ReceiverStream::new(receiver))).await;
        let mut responses = match opened.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
            Ok(responses) => responses,
            Err(status) => return status_message(&status),
        };
        loop {
            match responses.message().await {
                Ok(Some(response)) if response.is_cancelled => return response.cancel_reason,
                // The first response confirms the watch. It counts as a change: earlier writes were not watched.
                Ok(Some(_)) => changed.send_modify(|count| *count += 1),
                Ok(None) => return "it has ended the watch".to_owned(),
                Err(status) => return status_message(&status),
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
        Ok(match &self.client {
            Some(pair) => config.identity(Identity::from_pem(read(&pair.certificate)?, read(&pair.key)?)),
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

/// Returns a status's message and its root cause.
fn status_message(status: &Status) -> String {
    let mut cause: &dyn Error = status;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let (message, cause) = (status.message(), cause.to_string());
    if cause.contains(message) { cause } else { format!("{message}: {cause}") }
}

/// Returns true if etcd did not apply the request.
fn is_definitive(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal
    )
}

fn unavailable(reason: &str) -> StoreError {
    if reason.contains("database space exceeded") {
        return StoreError::Unavailable(format!(
            "etcd accepts no writes: {reason}; compact and defragment it, or raise --quota-backend-bytes, and disarm its \
             alarm (`etcdctl alarm disarm`)"
        ));
    }
    StoreError::Unavailable(format!("etcd cannot be read or written: {reason}"))
}

/// Returns the end of the range of all keys with a prefix.
fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1; // UTF-8 has no byte 255.
    }
    end
}
