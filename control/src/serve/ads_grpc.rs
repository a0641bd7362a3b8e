//! ADS as gRPC over HTTP/2, without tonic's encoder: a response is encoded in chunks, while its peer receives them.
//! tonic encodes each message completely, and retains the largest buffer for the life of the stream.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use tokio::sync::mpsc;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;
use weir_xds::ChunkedResponse;
use weir_xds::limits::MAX_MESSAGE_BYTES;

use crate::serve::ads::{AdsProtocol, AdsServer, Delta, Sotw};

/// The paths of both protocols: `/<service>/<method>`.
const STATE: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
const DELTA: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

impl NamedService for AdsServer {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<http::Request<Body>> for AdsServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let opened = match request.uri().path() {
            DELTA => self.open_stream::<Delta>(requests::<Delta>(request)),
            STATE => self.open_stream::<Sotw>(requests::<Sotw>(request)),
            _ => Err(Status::unimplemented("there are StreamAggregatedResources and DeltaAggregatedResources")),
        };
        ready(Ok(opened.map_or_else(Status::into_http, answer)))
    }
}

fn requests<P: AdsProtocol>(request: http::Request<Body>) -> Request<Streaming<P::Request>> {
    use tonic::codec::Codec;
    let decoder = ProstCodec::<P::Request, P::Request>::default().decoder();
    Request::from_http(request.map(|body| Streaming::new_request(decoder, body, None, Some(MAX_MESSAGE_BYTES))))
}

fn answer(responses: mpsc::Receiver<Result<ChunkedResponse, Status>>) -> http::Response<Body> {
    let mut answer = http::Response::new(Body::new(ResponseBody { responses, current: None, is_over: false }));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

/// The response body of one stream.
struct ResponseBody {
    responses: mpsc::Receiver<Result<ChunkedResponse, Status>>,
    /// The response that is being sent.
    current: Option<ChunkedResponse>,
    is_over: bool,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Some(piece) = self.current.as_mut().and_then(ChunkedResponse::next_chunk) {
            return Poll::Ready(Some(Ok(Frame::data(piece.into()))));
        }
        self.current = None;
        let status = match std::task::ready!(self.responses.poll_recv(context)) {
            Some(Ok(mut response)) => match prefix(&response) {
                Ok(mut first) => {
                    first.extend(response.next_chunk().unwrap_or_default());
                    self.current = Some(response);
                    return Poll::Ready(Some(Ok(Frame::data(first.into()))));
                }
                Err(status) => status,
            },
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.is_over = true;
        let mut trailers = HeaderMap::new();
        drop(status.add_header(&mut trailers)); // Cannot fail: the message is valid text of this program.
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

/// Returns the Length-Prefixed-Message header of gRPC over HTTP/2: the flag for no compression, and the length.
fn prefix(response: &ChunkedResponse) -> Result<Vec<u8>, Status> {
    let length = response.encoded_len();
    let short = u32::try_from(length).ok().filter(|_| length <= MAX_MESSAGE_BYTES);
    let short = short.ok_or_else(|| Status::out_of_range(format!("a response of {length} bytes")))?;
    Ok([&[0][..], &short.to_be_bytes()].concat())
}
