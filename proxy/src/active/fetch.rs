//! Fetching of remote modules: downloads a module once into a folder of the cache, after checking its hash. From then
//! on it is a file like any other. Used by `module_loader.rs`.
//!
//! A proxy with mutual TLS to its control plane fetches from there and uses only the path of the URL. Other proxies
//! fetch the URL over plain HTTP.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::Channel;
use tower_service::Service;
use tracing::{info, warn};
use weir_loader::ModuleLoadError;
use weir_model::{ModuleHash, RemoteModule, write_private};

use crate::control_plane::ControlPlane;
use crate::identity::Identity;
use crate::limits::{
    CONTROL_PLANE_CONNECT_TIMEOUT, MAX_MODULE_BYTES, MODULE_FETCH_DEADLINE, MODULE_FETCH_PAUSE, MODULE_FETCH_TIMEOUT,
    UNUSED_MODULE_RETENTION,
};
use crate::task;

/// A control plane with the identity that this proxy presents to it.
#[derive(Clone)]
pub(crate) struct AuthenticatedControlPlane {
    /// The control plane.
    pub(crate) control_plane: Arc<ControlPlane>,
    /// The identity of this proxy.
    pub(crate) identity: Arc<Identity>,
}

/// Returns the file of a module below the cache folder.
fn module_path(cache: &Path, hash: &ModuleHash) -> PathBuf {
    cache.join("modules").join(format!("{hash}.wasm"))
}

/// Returns the file of a remote module, after fetching it if necessary. Retries failed downloads for
/// [`MODULE_FETCH_DEADLINE`].
///
/// # Errors
/// The download fails until the deadline, the content has another hash, or the file cannot be written.
pub(super) async fn fetch(
    module: &RemoteModule,
    cache: &Path,
    control_plane: Option<&AuthenticatedControlPlane>,
) -> Result<PathBuf, ModuleLoadError> {
    let path = module_path(cache, &module.sha256);
    if path.exists() {
        return Ok(path); // Its hash was checked before it got its name.
    }
    let deadline = Instant::now() + MODULE_FETCH_DEADLINE;
    let started = Instant::now();
    let by = if control_plane.is_some() { "by mutual TLS" } else { "by plain HTTP" };
    loop {
        let fetched = timeout(MODULE_FETCH_TIMEOUT, async {
            match control_plane {
                Some(source) => download_from_control_plane(source, &module.url).await,
                None => download(&module.url).await,
            }
        });
        let fetched = fetched.await;
        let reason = match fetched.unwrap_or_else(|_| Err("the download takes too long".to_owned())) {
            Ok(bytes) => {
                let size = bytes.len();
                store_module(module, path.clone(), bytes).await?;
                let (sha256, duration_ms) = (module.sha256, started.elapsed().as_millis());
                info!(%sha256, bytes = size, duration_ms, by, "module fetched");
                return Ok(path);
            }
            Err(reason) => reason,
        };
        if Instant::now() > deadline {
            let reason = format!("the module {} cannot be fetched from {}: {reason}", module.sha256, module.url);
            return Err(ModuleLoadError::new(
                reason,
                "check that the control plane is reachable; the active configuration keeps serving",
            ));
        }
        warn!(url = %module.url, "a module cannot be fetched yet: {reason}");
        sleep(MODULE_FETCH_PAUSE).await;
    }
}

async fn store_module(module: &RemoteModule, path: PathBuf, bytes: Bytes) -> Result<(), ModuleLoadError> {
    let expected = module.sha256;
    let stored = task::blocking("module store", move || store(&path, &bytes, &expected)).await;
    match stored {
        Some(Ok(())) => Ok(()),
        Some(Err(StoreError::HashMismatch(found))) => Err(ModuleLoadError::new(
            format!("{} has the SHA-256 {found}, not {expected}", module.url),
            "the content of the URL has changed; push the bundle again",
        )),
        Some(Err(StoreError::Io(error))) => {
            Err(ModuleLoadError::new(format!("the fetched module cannot be stored: {error}"), "check --cache"))
        }
        None => {
            Err(ModuleLoadError::new("storing the module failed by a bug of the proxy", "see the panic in the log"))
        }
    }
}

/// Downloads the path of `url` from the control plane, by mutual TLS.
async fn download_from_control_plane(source: &AuthenticatedControlPlane, url: &str) -> Result<Bytes, String> {
    let AuthenticatedControlPlane { control_plane, identity } = source;
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let config = identity.client_config().ok_or("this proxy has no identity yet")?;
    let (channel, replica) = control_plane.connect(Some(&config)).await?;
    control_plane.demote(replica); // Until the download succeeds, because this future may be dropped at any time.
    let bytes = get(channel, uri.path()).await?;
    control_plane.prefer(replica);
    Ok(bytes)
}

async fn get(mut channel: Channel, path: &str) -> Result<Bytes, String> {
    let request = Request::get(path).body(tonic::body::Body::empty()).map_err(|error| error.to_string())?;
    poll_fn(|context| channel.poll_ready(context)).await.map_err(|error| error.to_string())?;
    let response = channel.call(request).await.map_err(|error| error.to_string())?;
    read(response).await
}

/// Downloads `url` over plain HTTP/1.1.
async fn download(url: &str) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let authority = uri.authority().ok_or("the URL has no host")?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let connect = TcpStream::connect((authority.host().trim_matches(['[', ']']), port));
    let socket = timeout(CONTROL_PLANE_CONNECT_TIMEOUT, connect).await.map_err(|_| "no connection in time")?;
    let socket = socket.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
    task::spawn("module fetch", connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, authority.as_str()).body(Empty::<Bytes>::new());
    let response = sender.send_request(request.map_err(|error| error.to_string())?).await;
    read(response.map_err(|error| error.to_string())?).await
}

async fn read<B>(response: Response<B>) -> Result<Bytes, String>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if response.status() != http::StatusCode::OK {
        return Err(format!("the response status is {}", response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_MODULE_BYTES).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
}

enum StoreError {
    HashMismatch(ModuleHash),
    Io(io::Error),
}

/// Writes the file after checking the hash of its content. Blocks on the disk.
fn store(path: &Path, bytes: &[u8], expected: &ModuleHash) -> Result<(), StoreError> {
    let found = ModuleHash(*weir_host_abi::ModuleHash::of(bytes).as_bytes());
    if found != *expected {
        return Err(StoreError::HashMismatch(found));
    }
    write_private(path, bytes).map_err(StoreError::Io)
}

/// Deletes fetched modules that are unused and older than [`UNUSED_MODULE_RETENTION`]. Blocks on the disk.
pub(super) fn sweep(cache: &Path, used: &[ModuleHash]) {
    let used: Vec<PathBuf> = used.iter().map(|hash| module_path(cache, hash)).collect();
    let Ok(entries) = fs::read_dir(cache.join("modules")) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if !used.contains(&path) && age.unwrap_or(Duration::ZERO) > UNUSED_MODULE_RETENTION {
            drop(fs::remove_file(&path)); // Retried after the next change.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_with_wrong_hash_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let hash = ModuleHash(*weir_host_abi::ModuleHash::of(b"one").as_bytes());
        let path = module_path(folder.path(), &hash);
        assert!(matches!(store(&path, b"two", &hash), Err(StoreError::HashMismatch(_))));
        assert!(!path.exists());
        assert!(store(&path, b"one", &hash).is_ok());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        sweep(folder.path(), &[]);
        assert!(path.exists(), "recently fetched modules are retained");
    }
}
