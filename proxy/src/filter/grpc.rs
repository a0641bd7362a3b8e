//! gRPC requests that filters make themselves (`proxy_grpc_call`, `proxy_grpc_stream`): unary calls with one answer, and
//! streams of messages both ways. Bounded in number, size and time like every callout.
//!
//! ```text
//! guest ─► start ─► task: send ─► head, messages, trailers ─► guest's callbacks, on the plugin context
//!   └──── send, close, cancel ──► Upload (what the task's request body is made of)
//! ```

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use weir_host_abi::abi::protobuf::{Field, bytes_of, fields, number_of};
use weir_host_abi::host::GrpcCall;

use crate::body::Body;
use crate::error::ProxyError;
use crate::filter::reply::grpc_status;
use crate::limits::MAX_CALLOUT_BODY_BYTES;
use crate::upstream::{Cluster, Outgoing, SendOptions, Upstreams, send};

/// What a gRPC request brings, in this order: what a guest's callbacks can read.
#[derive(Debug)]
pub(super) enum GrpcEvent {
    /// The response's headers.
    InitialMetadata(HeaderMap),
    /// A message without its frame.
    Message(Bytes),
    /// The response's trailers.
    TrailingMetadata(HeaderMap),
    /// The end, with its status and text.
    Closed(u32, String),
}

/// gRPC's codes that are made here.
const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
pub(super) const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNKNOWN: u32 = 2;

/// Bytes before each message: whether it is compressed, and its length.
const FRAME_HEADER: usize = 5;

/// A message with its frame.
pub(super) fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + FRAME_HEADER);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(message);
    bytes.freeze()
}

/// Where a call goes: what a guest gives is the name of a cluster, or an `envoy.config.core.v3.GrpcService`.
pub(super) struct Target {
    pub(super) cluster: Vec<u8>,
    authority: Option<Vec<u8>>,
    timeout: Option<Duration>,
    metadata: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Target {
    /// The bare name of a cluster.
    pub(super) fn plain(name: &[u8]) -> Self {
        Self { cluster: name.to_vec(), authority: None, timeout: None, metadata: Vec::new() }
    }

    /// A serialised `GrpcService` with an `envoy_grpc` (fields 1, 3 and 5 of it).
    pub(super) fn of_service(bytes: &[u8]) -> Option<Self> {
        let service = fields(bytes)?;
        let envoy = fields(bytes_of(&service, 1)?)?;
        let timeout = bytes_of(&service, 3).and_then(fields).map(|duration| {
            Duration::from_secs(number_of(&duration, 1))
                .saturating_add(Duration::from_nanos(number_of(&duration, 2).min(999_999_999)))
        });
        let pair = |field: &(u64, Field<'_>)| {
            let Field::Bytes(bytes) = field.1 else { return None };
            let pair = fields(bytes).filter(|_| field.0 == 5)?;
            Some((bytes_of(&pair, 1)?.to_vec(), bytes_of(&pair, 2).unwrap_or_default().to_vec()))
        };
        Some(Self {
            cluster: bytes_of(&envoy, 1)?.to_vec(),
            authority: bytes_of(&envoy, 2).map(<[u8]>::to_vec),
            timeout,
            metadata: service.iter().filter_map(pair).collect(),
        })
    }

    /// How long the whole may take: what the call says, or the service.
    pub(super) fn timeout(&self, call: &GrpcCall<'_>) -> Option<Duration> {
        call.timeout.or(self.timeout)
    }

    /// The request of a call, when it is valid.
    pub(super) fn request(&self, call: &GrpcCall<'_>, cluster: &Cluster, body: Body) -> Option<Outgoing> {
        let path = [b"/", call.service, b"/", call.method].concat();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        let service = self.metadata.iter().map(|(name, value)| (&name[..], &value[..]));
        for (name, value) in call.metadata.iter().chain(service) {
            if name.first() != Some(&b':') {
                headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
            }
        }
        let authority = self.authority.as_deref().unwrap_or(cluster.model().name.as_str().as_bytes());
        // A cluster's name has a slash, which no authority may have.
        let authority: Vec<u8> = authority.iter().map(|byte| if *byte == b'/' { b'.' } else { *byte }).collect();
        Some(Outgoing {
            method: Method::POST,
            scheme: "http",
            authority: HeaderValue::from_bytes(&authority).ok()?,
            path: PathAndQuery::try_from(&path[..]).ok()?,
            headers,
            body,
        })
    }
}

/// What a guest sends on a stream and the upstream has not taken yet.
#[derive(Clone, Default)]
pub(super) struct Upload(Rc<RefCell<Waiting>>);

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    waker: Option<Waker>,
}

impl Upload {
    /// Adds a message; false when too much waits already.
    pub(super) fn push(&self, message: &[u8]) -> bool {
        let mut waiting = self.0.borrow_mut();
        if waiting.bytes + message.len() > MAX_CALLOUT_BODY_BYTES {
            return false;
        }
        waiting.bytes += message.len();
        waiting.frames.push_back(framed(message));
        waiting.wake();
        true
    }

    /// Nothing more comes. False when that had been said before.
    pub(super) fn end(&self) -> bool {
        let mut waiting = self.0.borrow_mut();
        waiting.wake();
        !std::mem::replace(&mut waiting.ended, true)
    }

    /// True once nothing more comes.
    pub(super) fn is_ended(&self) -> bool {
        self.0.borrow().ended
    }
}

impl Waiting {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut waiting = self.0.borrow_mut();
        if let Some(frame) = waiting.frames.pop_front() {
            waiting.bytes = waiting.bytes.saturating_sub(frame.len().saturating_sub(FRAME_HEADER));
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if waiting.ended {
            return Poll::Ready(None);
        }
        waiting.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Takes messages out of a body that comes in pieces.
#[derive(Default)]
struct Unframed {
    bytes: BytesMut,
}

impl Unframed {
    /// The next whole message; what is wrong with it when it cannot be taken.
    fn next(&mut self) -> Result<Option<Bytes>, (u32, &'static str)> {
        let Some(header) = self.bytes.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
        let [compressed, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err((INTERNAL, "compressed message"));
        }
        if length > MAX_CALLOUT_BODY_BYTES {
            return Err((RESOURCE_EXHAUSTED, "message too large"));
        }
        if self.bytes.len() < FRAME_HEADER + length {
            return Ok(None);
        }
        self.bytes.advance(FRAME_HEADER);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }
}

/// Sends a request and hands over what comes back, until `tell` says that nobody listens any more. The last event is
/// always [`GrpcEvent::Closed`], within `timeout`.
pub(super) async fn exchange(
    upstreams: &Rc<Upstreams>,
    (cluster, outgoing): (&Arc<Cluster>, Outgoing),
    timeout: Option<Duration>,
    tell: &mut dyn FnMut(GrpcEvent) -> bool,
) {
    let talk = talk(upstreams, (cluster, outgoing), tell);
    let ended = match timeout {
        None => talk.await,
        Some(timeout) => match tokio::time::timeout(timeout, talk).await {
            Ok(ended) => ended,
            Err(_) => Some((DEADLINE_EXCEEDED, "timeout".to_owned())),
        },
    };
    if let Some((code, text)) = ended {
        tell(GrpcEvent::Closed(code, text));
    }
}

/// The status that the exchange ended with; `None` when nobody listens any more.
async fn talk(
    upstreams: &Rc<Upstreams>,
    (cluster, outgoing): (&Arc<Cluster>, Outgoing),
    tell: &mut dyn FnMut(GrpcEvent) -> bool,
) -> Option<(u32, String)> {
    let reset = || Some((UNAVAILABLE, "reset".to_owned()));
    let Ok(answer) = send(upstreams, cluster, outgoing, SendOptions::default()).await else { return reset() };
    let (head, mut body) = answer.response.into_parts();
    if head.status != StatusCode::OK {
        return Some((grpc_status(head.status), format!("HTTP status {}", head.status.as_u16())));
    }
    // Without messages the status stands in the headers.
    if let Some(status) = status_in(&head.headers) {
        return tell(GrpcEvent::TrailingMetadata(head.headers)).then_some(status);
    }
    if !tell(GrpcEvent::InitialMetadata(head.headers)) {
        return None;
    }
    let mut messages = Unframed::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return reset() };
        match frame.into_data() {
            Ok(data) => messages.bytes.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let status = status_in(&trailers).unwrap_or((UNKNOWN, "no status".to_owned()));
                return tell(GrpcEvent::TrailingMetadata(trailers)).then_some(status);
            }
        }
        loop {
            match messages.next() {
                Ok(Some(message)) => {
                    if !tell(GrpcEvent::Message(message)) {
                        return None;
                    }
                }
                Ok(None) => break,
                Err((code, text)) => return Some((code, text.to_owned())),
            }
        }
    }
    drop(answer.lease);
    Some((UNKNOWN, "no status".to_owned()))
}

/// The status in headers or trailers.
fn status_in(headers: &HeaderMap) -> Option<(u32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN);
    let text = headers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    Some((code, text.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole() {
        let mut unframed = Unframed::default();
        let both = [framed(b"one"), framed(b"")].concat();
        let mut taken = Vec::new();
        for byte in both {
            unframed.bytes.put_u8(byte);
            taken.extend(unframed.next().unwrap());
        }
        assert_eq!(taken, [&b"one"[..], b""]);
        unframed.bytes.extend_from_slice(&[1, 0, 0, 0, 0]);
        assert_eq!(unframed.next(), Err((INTERNAL, "compressed message")));
        let mut unframed = Unframed { bytes: BytesMut::from(&[0, 0xff, 0, 0, 0][..]) };
        assert_eq!(unframed.next(), Err((RESOURCE_EXHAUSTED, "message too large")));
    }

    #[test]
    fn a_service_names_its_cluster() {
        use weir_host_abi::abi::protobuf::{put_bytes, put_number};
        let message = |parts: &[(u64, &[u8])]| {
            let mut out = Vec::new();
            parts.iter().for_each(|(field, bytes)| put_bytes(&mut out, *field, bytes));
            out
        };
        let mut duration = Vec::new();
        put_number(&mut duration, 1, 3);
        let service = message(&[
            (1, &message(&[(1, b"shop/api:80"), (2, b"api.test")])),
            (3, &duration),
            (5, &message(&[(1, b"x-key"), (2, b"value")])),
        ]);
        let target = Target::of_service(&service).unwrap();
        assert_eq!((&target.cluster[..], target.authority.as_deref()), (&b"shop/api:80"[..], Some(&b"api.test"[..])));
        assert_eq!((target.timeout, target.metadata.len()), (Some(Duration::from_secs(3)), 1));
        assert!(Target::of_service(b"plain-name").is_none());
    }

    #[test]
    fn what_waits_is_bounded() {
        let upload = Upload::default();
        let half = vec![0; MAX_CALLOUT_BODY_BYTES / 2];
        assert!(upload.push(&half) && upload.push(&half) && !upload.push(b"x"));
        assert!(upload.end() && !upload.end() && upload.is_ended());
    }
}
