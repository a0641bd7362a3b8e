//! Copies of requests for a second cluster, whose answers are dropped. Called by `stream` for a route's mirrors.
//!
//! A copy is a faithful one: same host, same path, same headers (Envoy's `-shadow` behind the host is not added: a
//! mirror that routes by host would not see what the endpoint sees). It never holds up the request it is a copy of: what
//! a mirror has not taken waits in a bounded buffer, and when that is full the mirror loses the copy, which is counted.

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
use super::send::{Outgoing, SendOptions, send};
use super::worker::Upstreams;
use crate::body::Body;
use crate::error::ProxyError;
use crate::limits::{MIRROR_ANSWER_BYTES, MIRROR_BUFFER_BYTES, MIRROR_TIMEOUT};
use crate::task;

/// Sends a copy to a cluster in a task of its own, or not at all when too many are under way.
pub(crate) fn mirror(upstreams: &Rc<Upstreams>, cluster: &Arc<Cluster>, copy: Outgoing) {
    let Some(place) = upstreams.enter_mirror() else {
        upstreams.of(cluster).shard().mirrors_dropped.increment();
        return;
    };
    let (upstreams, cluster) = (Rc::clone(upstreams), Arc::clone(cluster));
    drop(task::spawn_local("mirror", async move {
        let _place = place;
        let done = tokio::time::timeout(MIRROR_TIMEOUT, deliver(&upstreams, &cluster, copy)).await;
        if !matches!(done, Ok(Ok(()))) {
            upstreams.of(&cluster).shard().mirrors_dropped.increment();
        }
    }));
}

async fn deliver(upstreams: &Rc<Upstreams>, cluster: &Arc<Cluster>, copy: Outgoing) -> Result<(), ProxyError> {
    let answer = send(upstreams, cluster, copy, SendOptions::default()).await.map_err(|failure| failure.error)?;
    let mut body = answer.response.into_body();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MIRROR_ANSWER_BYTES {
            break;
        }
    }
    drop(answer.lease);
    Ok(())
}

/// Two bodies of one: the first reads it, the second is given what the first has read.
pub(crate) fn tee(body: Body) -> (Body, Body) {
    match body {
        body if body.is_end_stream() => (body, Body::Empty),
        Body::Full(bytes) => (Body::Full(bytes.clone()), Body::Full(bytes)),
        body => {
            let between = Rc::new(RefCell::new(Between::default()));
            let copy = Copied { size: body.size_hint(), between: Rc::clone(&between) };
            (Body::made(Tee { body, between: Some(between) }), Body::made(copy))
        }
    }
}

/// What the first has read and the second has not.
#[derive(Default)]
struct Between {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    waker: Option<Waker>,
    end: Option<End>,
}

#[derive(Clone, Copy)]
enum End {
    Whole,
    /// The second lagged too far behind, or the first was not read to its end.
    Lost,
}

impl Between {
    fn push(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len();
            self.frames.push_back(Frame::data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.frames.push_back(Frame::trailers(trailers.clone()));
        }
        self.wake();
    }

    fn end(&mut self, end: End) {
        self.end.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

struct Tee {
    body: Body,
    /// `None` when there is no copy any more.
    between: Option<Rc<RefCell<Between>>>,
}

impl Tee {
    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, ProxyError>>) {
        let Some(shared) = &self.between else { return };
        let mut between = shared.borrow_mut();
        let gone = Rc::strong_count(shared) == 1;
        let lags = between.bytes > MIRROR_BUFFER_BYTES;
        match frame {
            Some(Ok(frame)) if !gone && !lags => return between.push(frame),
            None => between.end(End::Whole),
            Some(_) => {
                between.frames.clear();
                between.end(End::Lost);
            }
        }
        drop(between);
        self.between = None;
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let end = if self.body.is_end_stream() { End::Whole } else { End::Lost };
        if let Some(between) = &self.between {
            between.borrow_mut().end(end);
        }
    }
}

impl HttpBody for Tee {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(frame) = &poll {
            this.note(frame.as_ref());
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

struct Copied {
    size: SizeHint,
    between: Rc<RefCell<Between>>,
}

impl HttpBody for Copied {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut between = self.between.borrow_mut();
        if let Some(frame) = between.frames.pop_front() {
            between.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        match between.end {
            Some(End::Whole) => Poll::Ready(None),
            Some(End::Lost) => Poll::Ready(Some(Err(ProxyError::Overflow("mirror_buffer")))),
            None => {
                between.waker = Some(context.waker().clone());
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
    fn a_mirror_gets_a_faithful_copy() {
        on_worker(async {
            let (address, seen) = endpoint(UpstreamProtocol::Http1, echo).await;
            let (shadow, copies) = sockets(|_, stream, seen| answer_all(stream, seen)).await;
            let upstreams = Upstreams::new(Identity::none());
            let (cluster, shadow) = (cluster(&[address], |_| {}), cluster(&[shadow], |_| {}));
            let (body, copy) = tee(chunks(vec![b"abc", b"def"], None));
            mirror(&upstreams, &shadow, outgoing(Method::POST, copy));
            finish(send(&upstreams, &cluster, outgoing(Method::POST, body), SendOptions::default()).await.unwrap())
                .await;
            until(|| copies.requests() >= 1).await;
            assert_eq!((seen.requests(), shadow.counts().mirrors_dropped), (1, 0));
            assert!(copies.requests.borrow()[0].contains("host: a.com\r\n"));
        });
    }

    #[test]
    fn a_slow_mirror_loses_its_copy_and_never_slows_the_request() {
        on_worker(async {
            let (address, _) = endpoint(UpstreamProtocol::Http1, echo).await;
            let (shadow, _) = sockets(|_, stream, _| async move {
                let _open = stream;
                std::future::pending::<()>().await;
            })
            .await;
            let upstreams = Upstreams::new(Identity::none());
            let (cluster, shadow) = (cluster(&[address], |_| {}), cluster(&[shadow], |_| {}));
            // Far more than the buffer and the sockets hold together.
            const CHUNK: &[u8] = &[b'x'; 64 * 1024];
            let count = 16 * 1024 * 1024 / CHUNK.len();
            assert!(MIRROR_BUFFER_BYTES < count * CHUNK.len() / 16);
            let (body, copy) = tee(chunks(vec![CHUNK; count], None));
            mirror(&upstreams, &shadow, outgoing(Method::POST, copy));
            let answer =
                send(&upstreams, &cluster, outgoing(Method::POST, body), SendOptions::default()).await.unwrap();
            assert_eq!(finish(answer).await.1.len(), count * CHUNK.len());
            until(|| shadow.counts().mirrors_dropped == 1 && shadow.counts().connections == 0).await;
        });
    }
}
