//! A real OCI registry (docker-registry) with one user. `cargo xtask test` installs it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use http::{Method, Request};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::addresses::own_address;
use crate::body::full;
use crate::client::{Client, ClientResponse};
use crate::wait::wait_until;

/// One running registry. Dropping it kills the process.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Registry {
    /// The name and password of the only user.
    pub const CREDENTIALS: &str = "me:secret";
    /// The header `authorization` of the user.
    const BASIC: &str = "Basic bWU6c2VjcmV0";
    /// The user's line in an htpasswd file (bcrypt).
    const HTPASSWD: &str = "me:$2b$04$9bnql8IV25gnKWpTCShfu.gQkz2f8QeJoLubcfWAQQ4dJ4BCcOOV6";

    /// Starts an empty registry, and waits until it serves.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("registry-test-").tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        let address = own_address();
        fs::write(path("users"), format!("{}\n", Self::HTPASSWD)).expect("a temporary folder can be written");
        let config = json!({
            "version": 0.1,
            "storage": {"filesystem": {"rootdirectory": path("data")}},
            "auth": {"htpasswd": {"realm": "test", "path": path("users")}},
            "http": {"addr": address.to_string()},
        });
        fs::write(path("config.yml"), config.to_string()).expect("a temporary folder can be written");
        let log = File::create(path("registry.log")).expect("a temporary folder can be written");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path("config.yml")).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.stderr(log).spawn().expect("docker-registry starts: `cargo xtask test` installs it");
        let mut registry = Self { child, address, folder };
        wait_until("a registry that serves", async || {
            let ended = registry.child.try_wait().expect("a child has a status");
            let log = || fs::read_to_string(registry.folder.path().join("registry.log")).unwrap_or_default();
            assert!(ended.is_none(), "the registry has ended with {ended:?}:\n{}", log());
            tokio::net::TcpStream::connect(registry.address).await.ok()?;
            let response = registry.request(Method::GET, "/v2/", "", Vec::new());
            timeout(Duration::from_secs(1), response).await.ok().filter(|response| response.status == 200).map(drop)
        })
        .await;
        registry
    }

    /// Returns its address, the first part of references.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stores an artifact of one layer under a tag, and returns the manifest's digest.
    pub async fn put(&self, repository: &str, tag: &str, media_type: &str, bytes: Vec<u8>) -> String {
        let config = self.put_blob(repository, b"{}".to_vec()).await;
        let size = bytes.len();
        let layer = self.put_blob(repository, bytes).await;
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": config, "size": 2},
            "layers": [{"mediaType": media_type, "digest": layer, "size": size}],
        })
        .to_string();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let put = self.request(Method::PUT, &path, kind, manifest.clone().into_bytes()).await;
        assert_eq!(put.status, 201, "{}", put.text());
        digest(manifest.as_bytes())
    }

    /// Returns the file in which the registry stores a blob.
    pub fn blob(&self, bytes: &[u8]) -> PathBuf {
        let digest = digest(bytes);
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    async fn put_blob(&self, repository: &str, bytes: Vec<u8>) -> String {
        let digest = digest(&bytes);
        let upload = self.request(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), "", Vec::new()).await;
        let location = upload.header("location").expect("an upload has a location");
        let path = location.split_once("://").map_or(location, |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
        let put =
            self.request(Method::PUT, &format!("{path}&digest={digest}"), "application/octet-stream", bytes).await;
        assert_eq!(put.status, 201, "{}", put.text());
        digest
    }

    async fn request(&self, method: Method, path: &str, kind: &str, body: Vec<u8>) -> ClientResponse {
        let request = Request::builder().method(method).uri(path).header("authorization", Self::BASIC);
        let request = request.header("host", self.address.to_string()).header("content-type", kind);
        Client::http1(self.address).await.send(request.body(full(body)).expect("a valid request")).await
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.start_kill().ok();
    }
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    format!("sha256:{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}
