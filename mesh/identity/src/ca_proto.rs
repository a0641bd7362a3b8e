//! `weir.v1.Certificates`: the gRPC service that signs a workload's certificate. The caller is authenticated by a join
//! token in `authorization`, or by the client certificate of the connection.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::server::{NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// The maximum size of a request or response, in bytes. A chain and the roots of a rotation are a few KiB.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

/// The path of the call.
pub(crate) const SIGN_PATH: &str = "/weir.v1.Certificates/Sign";

/// `weir.v1.SignRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SignRequest {
    /// A certificate signing request (PKCS #10, DER). Only its public key and its signature are used: the control plane
    /// decides the identity.
    #[prost(bytes = "vec", tag = "1")]
    pub request: Vec<u8>,
}

/// `weir.v1.Signed`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SignResponse {
    /// The certificate, and those between it and a root (DER).
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain: Vec<Vec<u8>>,
    /// The trust bundle from now on (DER).
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub roots: Vec<Vec<u8>>,
}

/// The handler of the service.
pub trait CertificateService: Send + Sync + 'static {
    /// Signs a request, or returns the gRPC status of the rejection.
    fn sign(&self, request: Request<SignRequest>) -> impl Future<Output = Result<SignResponse, Status>> + Send;
}

/// The service for tonic's server.
#[derive(Debug)]
pub struct CertificateServiceServer<S>(Arc<S>);

impl<S> CertificateServiceServer<S> {
    /// Creates a service that calls `service`.
    pub fn new(service: Arc<S>) -> Self {
        Self(service)
    }
}

impl<S> Clone for CertificateServiceServer<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> NamedService for CertificateServiceServer<S> {
    const NAME: &'static str = "weir.v1.Certificates";
}

type BoxFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S: CertificateService> Service<http::Request<Body>> for CertificateServiceServer<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            if request.uri().path() != SIGN_PATH {
                return Ok(Status::unimplemented("there is only `Sign`").into_http());
            }
            let codec = ProstCodec::<SignResponse, SignRequest>::default();
            let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE_BYTES);
            Ok(grpc.unary(SignMethod(service), request).await)
        })
    }
}

struct SignMethod<S>(Arc<S>);

impl<S: CertificateService> UnaryService<SignRequest> for SignMethod<S> {
    type Response = SignResponse;
    type Future = BoxFuture<Response<SignResponse>, Status>;

    fn call(&mut self, request: Request<SignRequest>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.sign(request).await.map(Response::new) })
    }
}
