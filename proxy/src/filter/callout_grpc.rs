//! gRPC callouts (`proxy_grpc_call`, `proxy_grpc_stream`): unary calls with one response, and streams of messages both
//! ways. Bounded in number, size and time like all callouts.
//!
//! ```text
//! guest ─► start_grpc ─► task: run_call ─► headers, messages, trailers ─► guest's callbacks, on the plugin context
//!   └────── send, close, cancel ──► GrpcSendStream (the body of the task's request)
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
use weir_host_abi::abi::protobuf::{WireValue, bytes_field, fields, varint_field};
use weir_host_abi::host::GrpcCall;

use crate::body::Body;
use crate::error::ProxyError;
use crate::filter::local_reply::grpc_status;
use crate::limits::MAX_CALLOUT_RESPONSE_BYTES;
use crate::upstream::{Cluster, SendOptions, UpstreamRequest, Upstreams, send};

/// An event of a gRPC call. They occur in this order.
#[derive(Debug)]
pub(super) enum GrpcEvent {
    /// Headers of the response.
    InitialMetadata(HeaderMap),
    /// A message without its frame header.
    Message(Bytes),
    /// Trailers of the response.
    TrailingMetadata(HeaderMap),
    /// The end of the call, with its status code and text.
    Closed(u32, String),
}

/// gRPC status codes that the proxy generates.
const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
pub(super) const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNKNOWN: u32 = 2;

/// Bytes of a message's frame header: the compressed flag, and the length in four bytes.
const FRAME_HEADER_BYTES: usize = 5;

/// Returns a message with its frame header.
pub(super) fn encode_frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + FRAME_HEADER_BYTES);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(message);
    bytes.freeze()
}

/// The destination of a gRPC call. A guest passes a cluster name or an `envoy.config.core.v3.GrpcService`.
pub(super) struct GrpcTarget {
    pub(super) cluster: Vec<u8>,
    authority: Option<Vec<u8>>,
    timeout: Option<Duration>,
    metadata: Vec<(Vec<u8>, Vec<u8>)>,
}

impl GrpcTarget {
    /// Returns the target for a cluster name.
    pub(super) fn from_cluster_name(name: &[u8]) -> Self {
        Self { cluster: name.to_vec(), authority: None, timeout: None, metadata: Vec::new() }
    }

    /// Parses a serialized `GrpcService` with an `envoy_grpc` (fields 1, 3 and 5). `None` for other bytes.
    pub(super) fn from_grpc_service(bytes: &[u8]) -> Option<Self> {
        let service = fields(bytes)?;
        let envoy = fields(bytes_field(&service, 1)?)?;
        let timeout = bytes_field(&service, 3).and_then(fields).map(|duration| {
            Duration::from_secs(varint_field(&duration, 1))
                .saturating_add(Duration::from_nanos(varint_field(&duration, 2).min(999_999_999)))
        });
        let pair = |field: &(u64, WireValue<'_>)| {
            let WireValue::Bytes(bytes) = field.1 else { return None };
            let pair = fields(bytes).filter(|_| field.0 == 5)?;
            Some((bytes_field(&pair, 1)?.to_vec(), bytes_field(&pair, 2).unwrap_or_default().to_vec()))
        };
        Some(Self {
            cluster: bytes_field(&envoy, 1)?.to_vec(),
            authority: bytes_field(&envoy, 2).map(<[u8]>::to_vec),
            timeout,
            metadata: service.iter().filter_map(pair).collect(),
        })
    }

    /// Returns the timeout of the call, or else of the service.
    pub(super) fn timeout(&self, call: &GrpcCall<'_>) -> Option<Duration> {
        call.timeout.or(self.timeout)
    }

    /// Returns the request of a call. `None` if a part of it is invalid.
    pub(super) fn request(&self, call: &GrpcCall<'_>, cluster: &Cluster, body: Body) -> Option<UpstreamRequest> {
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
        // A cluster name contains a slash, which is invalid in an authority.
        let authority: Vec<u8> = authority.iter().map(|byte| if *byte == b'/' { b'.' } else { *byte }).collect();
        Some(UpstreamRequest {
            method: Method::POST,
            scheme: "http",
            authority: HeaderValue::from_bytes(&authority).ok()?,
            path: PathAndQuery::try_from(&path[..]).ok()?,
            headers,
            sent_names: None,
            body,
        })
    }
}

/// Messages that a guest has sent on a stream, until the upstream reads them. The body of the stream's request.
#[derive(Clone, Default)]
pub(super) struct GrpcSendStream(Rc<RefCell<SendQueue>>);

#[derive(Default)]
struct SendQueue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    waker: Option<Waker>,
}

impl GrpcSendStream {
    /// Queues a message. Returns false if too many bytes wait already.
    pub(super) fn push(&self, message: &[u8]) -> bool {
        let mut queue = self.0.borrow_mut();
        if queue.bytes + message.len() > MAX_CALLOUT_RESPONSE_BYTES {
            return false;
        }
        queue.bytes += message.len();
        queue.frames.push_back(encode_frame(message));
        queue.wake();
        true
    }

    /// Ends the stream. Returns false if it had ended before.
    pub(super) fn end(&self) -> bool {
        let mut queue = self.0.borrow_mut();
        queue.wake();
        !std::mem::replace(&mut queue.ended, true)
    }

    /// Returns true once the stream has ended.
    pub(super) fn is_ended(&self) -> bool {
        self.0.borrow().ended
    }
}

impl SendQueue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl http_body::Body for GrpcSendStream {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut queue = self.0.borrow_mut();
        if let Some(frame) = queue.frames.pop_front() {
            queue.bytes = queue.bytes.saturating_sub(frame.len().saturating_sub(FRAME_HEADER_BYTES));
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Decoder of messages from body data in any chunks.
#[derive(Default)]
struct FrameDecoder {
    bytes: BytesMut,
}

impl FrameDecoder {
    /// Returns the next complete message, if there is one.
    ///
    /// # Errors
    /// A gRPC status code and text for a message that is compressed or too large.
    fn next(&mut self) -> Result<Option<Bytes>, (u32, &'static str)> {
        let Some(header) = self.bytes.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let [compressed, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err((INTERNAL, "compressed message"));
        }
        if length > MAX_CALLOUT_RESPONSE_BYTES {
            return Err((RESOURCE_EXHAUSTED, "message too large"));
        }
        if self.bytes.len() < FRAME_HEADER_BYTES + length {
            return Ok(None);
        }
        self.bytes.advance(FRAME_HEADER_BYTES);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }
}

/// Sends a request and passes each event to `on_event`, until that returns false. The last event is
/// [`GrpcEvent::Closed`], within `timeout`.
pub(super) async fn run_call(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    request: UpstreamRequest,
    timeout: Option<Duration>,
    on_event: &mut dyn FnMut(GrpcEvent) -> bool,
) {
    let call = send_and_receive(upstreams, cluster, request, on_event);
    let status = match timeout {
        None => call.await,
        Some(timeout) => match tokio::time::timeout(timeout, call).await {
            Ok(status) => status,
            Err(_) => Some((DEADLINE_EXCEEDED, "timeout".to_owned())),
        },
    };
    if let Some((code, text)) = status {
        on_event(GrpcEvent::Closed(code, text));
    }
}

/// Sends a request, passes its events to `on_event`, and returns the final status. `None` if `on_event` returned
/// false.
async fn send_and_receive(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    request: UpstreamRequest,
    on_event: &mut dyn FnMut(GrpcEvent) -> bool,
) -> Option<(u32, String)> {
    let reset = || Some((UNAVAILABLE, "reset".to_owned()));
    let Ok(received) = send(upstreams, cluster, request, SendOptions::default()).await else { return reset() };
    let (head, mut body) = received.response.into_parts();
    if head.status != StatusCode::OK {
        return Some((grpc_status(head.status), format!("HTTP status {}", head.status.as_u16())));
    }
    // A response without messages has its status in the headers.
    if let Some(status) = grpc_status_in(&head.headers) {
        return on_event(GrpcEvent::TrailingMetadata(head.headers)).then_some(status);
    }
    if !on_event(GrpcEvent::InitialMetadata(head.headers)) {
        return None;
    }
    let mut decoder = FrameDecoder::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return reset() };
        match frame.into_data() {
            Ok(data) => decoder.bytes.extend_from_slice(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let status = grpc_status_in(&trailers).unwrap_or((UNKNOWN, "no status".to_owned()));
                return on_event(GrpcEvent::TrailingMetadata(trailers)).then_some(status);
            }
        }
        loop {
            match decoder.next() {
                Ok(Some(message)) => {
                    if !on_event(GrpcEvent::Message(message)) {
                        return None;
                    }
                }
                Ok(None) => break,
                Err((code, text)) => return Some((code, text.to_owned())),
            }
        }
    }
    drop(received.lease);
    Some((UNKNOWN, "no status".to_owned()))
}

/// Returns the gRPC status in headers or trailers.
fn grpc_status_in(headers: &HeaderMap) -> Option<(u32, String)> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN);
    let text = headers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    Some((code, text.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_frames_are_decoded_into_messages() {
        let mut decoder = FrameDecoder::default();
        let both = [encode_frame(b"one"), encode_frame(b"")].concat();
        let mut messages = Vec::new();
        for byte in both {
            decoder.bytes.put_u8(byte);
            messages.extend(decoder.next().unwrap());
        }
        assert_eq!(messages, [&b"one"[..], b""]);
        decoder.bytes.extend_from_slice(&[1, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err((INTERNAL, "compressed message")));
        let mut decoder = FrameDecoder { bytes: BytesMut::from(&[0, 0xff, 0, 0, 0][..]) };
        assert_eq!(decoder.next(), Err((RESOURCE_EXHAUSTED, "message too large")));
    }

    #[test]
    fn grpc_service_is_parsed_into_target() {
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
        let target = GrpcTarget::from_grpc_service(&service).unwrap();
        assert_eq!((&target.cluster[..], target.authority.as_deref()), (&b"shop/api:80"[..], Some(&b"api.test"[..])));
        assert_eq!((target.timeout, target.metadata.len()), (Some(Duration::from_secs(3)), 1));
        assert!(GrpcTarget::from_grpc_service(b"plain-name").is_none());
    }

    #[test]
    fn send_queue_is_bounded() {
        let stream = GrpcSendStream::default();
        let half = vec![0; MAX_CALLOUT_RESPONSE_BYTES / 2];
        assert!(stream.push(&half) && stream.push(&half) && !stream.push(b"x"));
        assert!(stream.end() && !stream.end() && stream.is_ended());
    }
}
