//! The SDS server for an Envoy on the same host (xDS, `SecretDiscoveryService`): serves the identity on a Unix socket
//! with mode 0600. The private key is generated in this process and leaves it through that socket only.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Empty, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use weir_model::ContentHash;
use weir_xds::proto::{
    Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, SecretDiscoveryService,
    SecretDiscoveryServiceServer,
};
use weir_xds::workload_secrets;

use crate::identity::current::Identity;
use crate::limits::XDS_REQUEST_QUEUE;
use crate::task;

/// Serves the identity on a Unix socket. Replaces an existing file at `path`.
///
/// # Errors
/// The socket cannot be created.
pub(crate) async fn serve_secrets(path: &Path, identity: Arc<Identity>) -> io::Result<()> {
    let draft = path.with_extension("tmp");
    drop(std::fs::remove_file(&draft)); // A crashed process may have left one.
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&draft, path)?; // The socket becomes visible with its final permissions.
    let service = SecretDiscoveryServiceServer::new(SecretService { identity });
    let served = Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener)).await;
    served.map_err(io::Error::other)
}

struct SecretService {
    identity: Arc<Identity>,
}

type SecretResponses = ReceiverStream<Result<DiscoveryResponse, Status>>;

#[tonic::async_trait]
impl SecretDiscoveryService for SecretService {
    type StreamSecretsStream = SecretResponses;
    type DeltaSecretsStream = Pin<Box<Empty<Result<DeltaDiscoveryResponse, Status>>>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (responses, receiver) = mpsc::channel(XDS_REQUEST_QUEUE);
        let stream = SecretStream { identity: Arc::clone(&self.identity), responses, requested: Vec::new(), nonce: 0 };
        task::spawn("secrets", stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("use StreamSecrets"))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("use StreamSecrets"))
    }
}

/// One SDS stream. An Envoy opens one per secret.
struct SecretStream {
    identity: Arc<Identity>,
    responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    requested: Vec<String>,
    nonce: u64,
}

impl SecretStream {
    async fn run(mut self, mut requests: Streaming<DiscoveryRequest>) {
        let mut changes = self.identity.changes();
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => if !self.needs_response(request) { continue },
                    Some(Err(_)) | None => return,
                },
                changed = changes.changed() => if changed.is_err() { return },
            }
            if self.send().await.is_none() {
                return;
            }
        }
    }

    /// Returns true if a request subscribes to something, false if it only acknowledges a response.
    fn needs_response(&mut self, request: DiscoveryRequest) -> bool {
        if let Some(error) = request.error_detail {
            warn!("the Envoy rejected its identity: {}", error.message);
        }
        let is_first = request.response_nonce.is_empty();
        let is_new = self.requested != request.resource_names;
        self.requested = request.resource_names;
        is_first || is_new
    }

    /// Sends the requested secrets if there is an identity. Returns `None` if the stream has closed.
    async fn send(&mut self) -> Option<()> {
        let Some(current) = self.identity.get() else { return Some(()) }; // Sent once there is an identity.
        let [certificates, key, roots] = current.identity.to_pems();
        let secrets = workload_secrets(&certificates, &key, &roots);
        let requested =
            secrets.into_iter().filter(|(name, _)| self.requested.iter().any(|requested| requested == name));
        let resources: Vec<Any> = requested.map(|(_, secret)| secret).collect();
        let Some(type_url) = resources.first().map(|secret| secret.type_url.clone()) else { return Some(()) };
        self.nonce += 1;
        let version = ContentHash::of(&(&certificates, &roots)).to_string();
        info!(id = %current.identity.id, secrets = %self.requested.join(","), "identity sent to the Envoy");
        let response = DiscoveryResponse {
            version_info: version,
            resources,
            type_url,
            nonce: self.nonce.to_string(),
            ..DiscoveryResponse::default()
        };
        self.responses.send(Ok(response)).await.ok()
    }
}
