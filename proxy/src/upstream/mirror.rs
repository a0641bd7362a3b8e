//! Request mirroring: sends copies of requests to a second cluster and drops its responses. `stream` calls it for a
//! route's mirrors.
//!
//! A copy has the same host, path and headers. Unlike Envoy, no `-shadow` is appended to the host, because a mirror
//! that routes by host would not see what the endpoint sees. A mirror never delays the original request: its body is
//! buffered up to a limit, and a mirror that exceeds it loses its copy, which is counted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use super::cluster::Cluster;
use super::request_form::UpstreamRequest;
use super::send::{SendOptions, send};
use super::worker::Upstreams;
use crate::body::Body;
use crate::error::ProxyError;
use crate::limits::{MAX_MIRROR_RESPONSE_BYTES, MIRROR_BUFFER_BYTES, MIRROR_TIMEOUT};
use crate::task;

/// Sends a copy to a cluster in its own task. Drops it when too many are in flight.
pub(crate) fn mirror(upstreams: &Rc<Upstreams>, cluster: &Arc<Cluster>, copy: UpstreamRequest) {
    let Some(permit) = upstreams.acquire_mirror_permit() else {
        upstreams.cluster_state(cluster).counters().mirrors_dropped.increment();
        return;
    };
    let (upstreams, cluster) = (Rc::clone(upstreams), Arc::clone(cluster));
    drop(task::spawn_local("mirror", async move {
        let _permit = permit;
        let done = tokio::time::timeout(MIRROR_TIMEOUT, deliver(&upstreams, &cluster, copy)).await;
        if !matches!(done, Ok(Ok(()))) {
            upstreams.cluster_state(&cluster).counters().mirrors_dropped.increment();
        }
    }));
}

async fn deliver(upstreams: &Rc<Upstreams>, cluster: &Arc<Cluster>, copy: UpstreamRequest) -> Result<(), ProxyError> {
    let response = send(upstreams, cluster, copy, SendOptions::default()).await.map_err(|error| error.error)?;
    let mut body = response.response.into_body();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_MIRROR_RESPONSE_BYTES {
            break;
        }
    }
    drop(response.lease);
    Ok(())
}

/// Splits a body in two. The first reads the original; the second returns what the first has read.
pub(crate) fn tee(body: Body) -> (Body, Body) {
    match body {
        body if body.is_end_stream() => (body, Body::Empty),
        Body::Full(bytes) => (Body::Full(bytes.clone()), Body::Full(bytes)),
        body => {
            let buffer = Rc::new(RefCell::new(MirrorBuffer::default()));
            let copy = MirrorBody { size: body.size_hint(), buffer: Rc::clone(&buffer) };
            (Body::stream(TeeBody { body, buffer: Some(buffer) }), Body::stream(copy))
        }
    }
}

/// Frames that the first body has read and the second has not.
#[derive(Default)]
struct MirrorBuffer {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    waker: Option<Waker>,
    end: Option<MirrorEnd>,
}

#[derive(Clone, Copy)]
enum MirrorEnd {
    Complete,
    /// The second lagged too far behind, or the first was not read to its end.
    Truncated,
}

impl MirrorBuffer {
    fn push(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len();
            self.frames.push_back(Frame::data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.frames.push_back(Frame::trailers(trailers.clone()));
        }
        self.wake();
    }

    fn end(&mut self, end: MirrorEnd) {
        self.end.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct TeeBody {
    body: Body,
    /// `None` once the copy was dropped.
    buffer: Option<Rc<RefCell<MirrorBuffer>>>,
}

impl TeeBody {
    fn copy_frame(&mut self, frame: Option<&Result<Frame<Bytes>, ProxyError>>) {
        let Some(shared) = &self.buffer else { return };
        let mut buffer = shared.borrow_mut();
        let gone = Rc::strong_count(shared) == 1;
        let lags = buffer.bytes > MIRROR_BUFFER_BYTES;
        match frame {
            Some(Ok(frame)) if !gone && !lags => return buffer.push(frame),
            None => buffer.end(MirrorEnd::Complete),
            Some(_) => {
                buffer.frames.clear();
                buffer.end(MirrorEnd::Truncated);
            }
        }
        drop(buffer);
        self.buffer = None;
    }
}

impl Drop for TeeBody {
    fn drop(&mut self) {
        let end = if self.body.is_end_stream() { MirrorEnd::Complete } else { MirrorEnd::Truncated };
        if let Some(buffer) = &self.buffer {
            buffer.borrow_mut().end(end);
        }
    }
}

impl HttpBody for TeeBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(frame) = &poll {
            this.copy_frame(frame.as_ref());
        }
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct MirrorBody {
    size: SizeHint,
    buffer: Rc<RefCell<MirrorBuffer>>,
}

impl HttpBody for MirrorBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut buffer = self.buffer.borrow_mut();
        if let Some(frame) = buffer.frames.pop_front() {
            buffer.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        match buffer.end {
            Some(MirrorEnd::Complete) => Poll::Ready(None),
            Some(MirrorEnd::Truncated) => Poll::Ready(Some(Err(ProxyError::Overflow("mirror_buffer")))),
            None => {
                buffer.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use weir_model::UpstreamProtocol;

    use super::super::testing::*;
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn mirror_receives_identical_request() {
        on_worker(async {
            let (address, seen) = endpoint(UpstreamProtocol::Http1, echo).await;
            let (shadow, copies) = raw_endpoint(|_, stream, seen| serve_all(stream, seen)).await;
            let upstreams = Upstreams::new(Identity::empty());
            let (cluster, shadow) = (cluster(&[address], |_| {}), cluster(&[shadow], |_| {}));
            let (body, copy) = tee(chunks(vec![b"abc", b"def"], None));
            mirror(&upstreams, &shadow, request(Method::POST, copy));
            read_response(
                send(&upstreams, &cluster, request(Method::POST, body), SendOptions::default()).await.unwrap(),
            )
            .await;
            wait_until(|| copies.requests() >= 1).await;
            assert_eq!((seen.requests(), shadow.counts().mirrors_dropped), (1, 0));
            assert!(copies.requests.borrow()[0].contains("host: a.com\r\n"));
        });
    }

    #[test]
    fn slow_mirror_loses_its_copy_without_delaying_request() {
        on_worker(async {
            let (address, _) = endpoint(UpstreamProtocol::Http1, echo).await;
            let (shadow, _) = raw_endpoint(|_, stream, _| async move {
                let _open = stream;
                std::future::pending::<()>().await;
            })
            .await;
            let upstreams = Upstreams::new(Identity::empty());
            let (cluster, shadow) = (cluster(&[address], |_| {}), cluster(&[shadow], |_| {}));
            // Far more than the buffer and the sockets can store.
            const CHUNK: &[u8] = &[b'x'; 64 * 1024];
            let count = 16 * 1024 * 1024 / CHUNK.len();
            assert!(MIRROR_BUFFER_BYTES < count * CHUNK.len() / 16);
            let (body, copy) = tee(chunks(vec![CHUNK; count], None));
            mirror(&upstreams, &shadow, request(Method::POST, copy));
            let answer = send(&upstreams, &cluster, request(Method::POST, body), SendOptions::default()).await.unwrap();
            assert_eq!(read_response(answer).await.1.len(), count * CHUNK.len());
            wait_until(|| shadow.counts().mirrors_dropped == 1 && shadow.counts().connections == 0).await;
        });
    }
}
