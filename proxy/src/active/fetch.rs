//! Modules that are known by their hash: fetched once into a folder of the cache, checked there, and kept. From then on
//! they are files like any other. Used by `modules.rs`.
//!
//! A proxy that has proved to its control plane who it is fetches from there in the same way, whatever host the URL names:
//! only its path counts then. Any other goes to the URL, over plain HTTP.

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
use weir_loader::ModuleRefusal;
use weir_model::{ModuleHash, RemoteModule};

use crate::identity::{ControlPlane, Identity};
use crate::limits::{
    CONTROL_PLANE_CONNECT_TIMEOUT, MAX_MODULE_BYTES, MODULE_FETCH_PATIENCE, MODULE_FETCH_PAUSE, MODULE_FETCH_TIMEOUT,
    UNUSED_MODULE_AGE,
};
use crate::private_file;
use crate::task;

/// A control plane to which this proxy proves who it is, and what it is known as.
pub(crate) type ControlPlaneLink = (Arc<ControlPlane>, Arc<Identity>);

/// The file of a module below the cache folder.
fn place(cache: &Path, hash: &ModuleHash) -> PathBuf {
    cache.join("modules").join(format!("{hash}.wasm"))
}

/// Makes sure that the module is in its place, and says where that is; tries for a while when it cannot be had at once.
///
/// # Errors
/// It cannot be had, or what is there is something else.
pub(super) async fn fetch(
    module: &RemoteModule,
    cache: &Path,
    link: Option<&ControlPlaneLink>,
) -> Result<PathBuf, ModuleRefusal> {
    let path = place(cache, &module.sha256);
    if path.exists() {
        return Ok(path); // Checked before it got its name.
    }
    let give_up = Instant::now() + MODULE_FETCH_PATIENCE;
    let started = Instant::now();
    let by = if link.is_some() { "by mutual TLS" } else { "by plain HTTP" };
    loop {
        let fetched = timeout(MODULE_FETCH_TIMEOUT, async {
            match link {
                Some(link) => download_by(link, &module.url).await,
                None => download(&module.url).await,
            }
        });
        let fetched = fetched.await;
        let reason = match fetched.unwrap_or_else(|_| Err("takes too long".to_owned())) {
            Ok(bytes) => return keep(module, path, bytes, (started, by)).await,
            Err(reason) => reason,
        };
        if Instant::now() > give_up {
            let reason = format!("the module {} cannot be fetched from {}: {reason}", module.sha256, module.url);
            return Err(ModuleRefusal::new(reason, "is the control plane there? what serves goes on"));
        }
        warn!(url = %module.url, "a module cannot be fetched yet: {reason}");
        sleep(MODULE_FETCH_PAUSE).await;
    }
}

async fn keep(
    module: &RemoteModule,
    path: PathBuf,
    bytes: Bytes,
    (started, by): (Instant, &str),
) -> Result<PathBuf, ModuleRefusal> {
    let (expected, size, target) = (module.sha256, bytes.len(), path.clone());
    let stored = task::blocking("module store", move || store(&target, &bytes, &expected)).await;
    match stored {
        Some(Ok(())) => {
            let duration_ms = started.elapsed().as_millis();
            info!(sha256 = %expected, bytes = size, duration_ms, by, "module fetched");
            Ok(path)
        }
        Some(Err(StoreError::OtherHash(found))) => Err(ModuleRefusal::new(
            format!("what {} gives is not {expected} but {found}", module.url),
            "whoever serves it has changed it; push it anew",
        )),
        Some(Err(StoreError::Io(error))) => {
            Err(ModuleRefusal::new(format!("the fetched module cannot be stored: {error}"), "check --cache"))
        }
        None => Err(ModuleRefusal::new("storing it failed by a bug of the proxy", "the log says where")),
    }
}

/// By mutual TLS, from the control plane.
async fn download_by((control_plane, identity): &ControlPlaneLink, url: &str) -> Result<Bytes, String> {
    let uri: Uri = url.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let config = identity.client_config().ok_or("this proxy has no identity yet")?;
    let (channel, replica) = control_plane.connect(Some(&config)).await?;
    control_plane.leave(replica); // As long as nothing has come: this may be given up at any time.
    let bytes = ask(channel, uri.path()).await?;
    control_plane.stay(replica);
    Ok(bytes)
}

async fn ask(mut channel: Channel, path: &str) -> Result<Bytes, String> {
    let request = Request::get(path).body(tonic::body::Body::empty()).map_err(|error| error.to_string())?;
    poll_fn(|context| channel.poll_ready(context)).await.map_err(|error| error.to_string())?;
    let response = channel.call(request).await.map_err(|error| error.to_string())?;
    read(response).await
}

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
        return Err(format!("the answer is {}", response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_MODULE_BYTES).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
}

enum StoreError {
    OtherHash(ModuleHash),
    Io(io::Error),
}

/// The file gets its name when it is whole and what it should be.
fn store(path: &Path, bytes: &[u8], expected: &ModuleHash) -> Result<(), StoreError> {
    let found = ModuleHash(*weir_host_abi::ModuleHash::of(bytes).as_bytes());
    if found != *expected {
        return Err(StoreError::OtherHash(found));
    }
    private_file::write(path, bytes).map_err(StoreError::Io)
}

/// Deletes fetched modules that nothing uses and that were not fetched just now. Blocks.
pub(super) fn sweep(cache: &Path, used: &[ModuleHash]) {
    let used: Vec<PathBuf> = used.iter().map(|hash| place(cache, hash)).collect();
    let Ok(entries) = fs::read_dir(cache.join("modules")) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if !used.contains(&path) && age.unwrap_or(Duration::ZERO) > UNUSED_MODULE_AGE {
            drop(fs::remove_file(&path)); // It is tried again with the next change.
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hashes_right_gets_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let hash = ModuleHash(*weir_host_abi::ModuleHash::of(b"one").as_bytes());
        let path = place(folder.path(), &hash);
        assert!(matches!(store(&path, b"two", &hash), Err(StoreError::OtherHash(_))));
        assert!(!path.exists());
        assert!(store(&path, b"one", &hash).is_ok());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        sweep(folder.path(), &[]);
        assert!(path.exists(), "fetched just now");
    }
}
