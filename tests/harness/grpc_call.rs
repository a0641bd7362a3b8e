//! Unary gRPC calls with raw messages: a client of tonic, and an origin.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::client::{Grpc, GrpcService};
use tonic::codec::{Codec as GrpcCodec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::body::{BodyError, with_trailers};
use crate::origin::{Codec, Origin};
use crate::wait::with_deadline;

/// A gRPC client of one connection. It leaves `grpc-timeout` to the peer. Dropping it closes the connection.
#[derive(Debug)]
pub struct GrpcCaller {
    client: Grpc<Connection>,
    _tasks: JoinSet<()>,
}

impl GrpcCaller {
    /// Opens a connection, for calls to `host`.
    pub async fn connect(address: SocketAddr, host: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the proxy listens");
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("a preface can be written");
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) }); // The call reports the same error.
        let origin: Uri = format!("http://{host}").parse().expect("a valid host");
        Self { client: Grpc::with_origin(Connection(sender), origin), _tasks: tasks }
    }

    /// Makes a unary call with an empty message.
    pub async fn call(&mut self, path: &str) -> Result<Bytes, Status> {
        self.call_with(path, &[]).await
    }

    /// Makes a unary call with an empty message and some metadata.
    ///
    /// # Errors
    /// The status of the call, if it is not OK.
    pub async fn call_with(&mut self, path: &str, metadata: &[(&'static str, &str)]) -> Result<Bytes, Status> {
        let mut request = tonic::Request::new(Bytes::new());
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().expect("valid metadata"));
        }
        let path_and_query: PathAndQuery = path.parse().expect("a valid path");
        self.client.ready().await.map_err(|error| Status::from_error(Box::new(error)))?;
        let call = self.client.unary(request, path_and_query, RawCodec);
        with_deadline(&format!("the call of {path}"), call).await.map(tonic::Response::into_inner)
    }
}

/// Starts a gRPC server that answers every call with a message.
pub async fn grpc_origin(message: &'static str) -> Origin {
    Origin::start(Codec::Http2, move |_request: Request<Incoming>| async move {
        let mut frame = vec![0];
        frame.put_u32(u32::try_from(message.len()).map_err(|_| BodyError)?);
        frame.extend_from_slice(message.as_bytes());
        let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
        let mut response = Response::new(with_trailers(frame, trailers));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        Ok(response)
    })
    .await
}

#[derive(Debug, Clone)]
struct Connection(http2::SendRequest<tonic::body::Body>);

impl GrpcService<tonic::body::Body> for Connection {
    type ResponseBody = Incoming;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Messages as they are.
#[derive(Debug, Clone, Copy, Default)]
struct RawCodec;

impl GrpcCodec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
