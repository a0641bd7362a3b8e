//! `weir.v1.Certificates`: one call, by which a workload has a certificate signed. Proof of who asks is a join token in
//! `authorization`, or the certificate of the connection.

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

/// Bytes of a request or an answer: a chain and the roots of a rotation are a few KiB.
pub const MAX_MESSAGE_BYTES: usize = 256 * 1024;

pub(crate) const SIGN: &str = "/weir.v1.Certificates/Sign";

/// `weir.v1.SignRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SignRequest {
    /// PKCS #10, in DER. Only its key and the proof that the asker has it are used: who it is for is not its to say.
    #[prost(bytes = "vec", tag = "1")]
    pub request: Vec<u8>,
}

/// `weir.v1.Signed`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Signed {
    /// The certificate, and those between it and a root, in DER.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub chain: Vec<Vec<u8>>,
    /// Every root to believe from now on, in DER.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub roots: Vec<Vec<u8>>,
}

/// Who signs.
pub trait Certificates: Send + Sync + 'static {
    /// Signs, or says why not.
    fn sign(&self, request: Request<SignRequest>) -> impl Future<Output = Result<Signed, Status>> + Send;
}

/// The service, for tonic's server.
#[derive(Debug)]
pub struct CertificatesServer<S>(Arc<S>);

impl<S> CertificatesServer<S> {
    /// A service that asks `signer`.
    pub fn new(signer: Arc<S>) -> Self {
        Self(signer)
    }
}

impl<S> Clone for CertificatesServer<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> NamedService for CertificatesServer<S> {
    const NAME: &'static str = "weir.v1.Certificates";
}

type Answer<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S: Certificates> Service<http::Request<Body>> for CertificatesServer<S> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let signer = Arc::clone(&self.0);
        Box::pin(async move {
            if request.uri().path() != SIGN {
                return Ok(Status::unimplemented("there is only `Sign`").into_http());
            }
            let codec = ProstCodec::<Signed, SignRequest>::default();
            let mut grpc = tonic::server::Grpc::new(codec).max_decoding_message_size(MAX_MESSAGE_BYTES);
            Ok(grpc.unary(SignMethod(signer), request).await)
        })
    }
}

struct SignMethod<S>(Arc<S>);

impl<S: Certificates> UnaryService<SignRequest> for SignMethod<S> {
    type Response = Signed;
    type Future = Answer<Response<Signed>, Status>;

    fn call(&mut self, request: Request<SignRequest>) -> Self::Future {
        let signer = Arc::clone(&self.0);
        Box::pin(async move { signer.sign(request).await.map(Response::new) })
    }
}
