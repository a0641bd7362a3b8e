//! An identity for the Envoy beside us: SDS on a socket that nobody else may open (xDS, `SecretDiscoveryService`). The key is
//! made here and goes over that socket alone.

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
use weir_model::Version;
use weir_xds::own_secrets;
use weir_xds::proto::{
    Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, SecretDiscoveryService,
    SecretDiscoveryServiceServer,
};

use crate::identity::Identity;
use crate::limits::XDS_REQUEST_QUEUE;
use crate::task;

/// Serves the identity on a socket, which takes the place of what is there.
///
/// # Errors
/// The socket cannot be made.
pub(crate) async fn serve_secrets(path: &Path, identity: Arc<Identity>) -> io::Result<()> {
    let draft = path.with_extension("tmp");
    drop(std::fs::remove_file(&draft)); // One that a crash has left.
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&draft, path)?; // It appears with its permissions.
    let service = SecretDiscoveryServiceServer::new(Secrets { identity });
    let served = Server::builder().add_service(service).serve_with_incoming(UnixListenerStream::new(listener)).await;
    served.map_err(io::Error::other)
}

struct Secrets {
    identity: Arc<Identity>,
}

type Answers = ReceiverStream<Result<DiscoveryResponse, Status>>;

#[tonic::async_trait]
impl SecretDiscoveryService for Secrets {
    type StreamSecretsStream = Answers;
    type DeltaSecretsStream = Pin<Box<Empty<Result<DeltaDiscoveryResponse, Status>>>>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let (answers, receiver) = mpsc::channel(XDS_REQUEST_QUEUE);
        let stream = SecretStream { identity: Arc::clone(&self.identity), answers, wanted: Vec::new(), nonce: 0 };
        task::spawn("secrets", stream.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn delta_secrets(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        Err(Status::unimplemented("ask by StreamSecrets"))
    }

    async fn fetch_secrets(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        Err(Status::unimplemented("ask by StreamSecrets"))
    }
}

/// One stream of an Envoy: it opens one for each secret.
struct SecretStream {
    identity: Arc<Identity>,
    answers: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    wanted: Vec<String>,
    nonce: u64,
}

impl SecretStream {
    async fn run(mut self, mut requests: Streaming<DiscoveryRequest>) {
        let mut changes = self.identity.changes();
        loop {
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => if !self.asks_for_more(request) { continue },
                    Some(Err(_)) | None => return,
                },
                changed = changes.changed() => if changed.is_err() { return },
            }
            if self.send().await.is_none() {
                return;
            }
        }
    }

    /// Whether a request asks for something, and is not only an answer.
    fn asks_for_more(&mut self, request: DiscoveryRequest) -> bool {
        if let Some(error) = request.error_detail {
            warn!("the Envoy refuses its identity: {}", error.message);
        }
        let is_first = request.response_nonce.is_empty();
        let is_new = self.wanted != request.resource_names;
        self.wanted = request.resource_names;
        is_first || is_new
    }

    /// Sends what is wanted, as soon as there is an identity; `None` when the stream has ended.
    async fn send(&mut self) -> Option<()> {
        let Some(own) = self.identity.get() else { return Some(()) }; // It is sent when it is there.
        let [certificates, key, roots] = own.identity.to_pems();
        let secrets = own_secrets(&certificates, &key, &roots);
        let wanted = secrets.into_iter().filter(|(name, _)| self.wanted.iter().any(|wanted| wanted == name));
        let resources: Vec<Any> = wanted.map(|(_, secret)| secret).collect();
        let Some(type_url) = resources.first().map(|secret| secret.type_url.clone()) else { return Some(()) };
        self.nonce += 1;
        let version = Version::of(&(&certificates, &roots)).to_string();
        info!(id = %own.identity.id, secrets = %self.wanted.join(","), "the Envoy gets its identity");
        let response = DiscoveryResponse {
            version_info: version,
            resources,
            type_url,
            nonce: self.nonce.to_string(),
            ..DiscoveryResponse::default()
        };
        self.answers.send(Ok(response)).await.ok()
    }
}
