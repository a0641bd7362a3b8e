//! Pulls modules from an OCI registry (OCI Distribution Specification 1.1): `oci://REGISTRY/REPOSITORY:TAG`, or
//! `@sha256:…` in place of the tag. The artifact must have exactly one layer that is a Wasm module, and the layer must
//! match its digest.

use std::env;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{Request, Response, StatusCode, Uri};
use weir_model::hex;
use weir_model::net::is_loopback_host;

use crate::tls;

/// The URL scheme of a reference.
pub(crate) const SCHEME: &str = "oci://";

/// The environment variable with credentials: `REGISTRY=USER:PASSWORD`. They are sent to that registry only.
const CREDENTIALS: &str = "WEIR_REGISTRY_CREDENTIALS";

/// The maximum size of a manifest, in bytes. Typical ones have a few KiB.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// The maximum size of a module, in bytes: that of the control plane.
const MAX_MODULE_BYTES: u64 = 64 * 1024 * 1024;

/// The media types of a Wasm module's layer: of the Wasm OCI artifact layout, of its predecessors, of `oras`.
const MODULE_TYPES: [&str; 4] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];

const MANIFEST_TYPES: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// A parsed reference to a module.
#[derive(Debug, PartialEq, Eq)]
struct Reference {
    registry: String,
    repository: String,
    /// A tag, or a digest.
    version: String,
}

/// A client of one repository, with the authorization that the registry has accepted.
struct RegistryClient<'a> {
    agent: Agent,
    reference: &'a Reference,
    authorization: Option<String>,
}

/// Pulls the module that a reference names.
pub(crate) fn pull(url: &str) -> anyhow::Result<Vec<u8>> {
    let reference = Reference::parse(url).with_context(|| format!("`{url}` is no reference"))?;
    RegistryClient::new(&reference)?.module().with_context(|| format!("{url} cannot be pulled"))
}

impl Reference {
    fn parse(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix(SCHEME).unwrap_or(url);
        let (registry, rest) = rest.split_once('/').context("write oci://REGISTRY/REPOSITORY:TAG")?;
        let (repository, version) = match rest.split_once('@') {
            Some((repository, digest)) => (repository.split(':').next().unwrap_or(repository), digest),
            None => rest.split_once(':').context("say which one: a tag, or @sha256:DIGEST")?,
        };
        let is_plain = |text: &str, others: &[u8]| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
        };
        ensure!(is_plain(registry, b"-.:[]"), "`{registry}` is not a registry");
        ensure!(is_plain(repository, b"-._/"), "`{repository}` is not a repository");
        ensure!(is_plain(version, b"-._:"), "`{version}` is neither a tag nor a digest");
        let [registry, repository, version] = [registry, repository, version].map(str::to_owned);
        Ok(Self { registry, repository, version })
    }

    /// Returns the URL of a path in the repository. Plaintext is used for a loopback registry only, as other clients
    /// do.
    fn url(&self, rest: &str) -> String {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        let scheme = if is_loopback_host(host) { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}/{rest}", self.registry, self.repository)
    }
}

impl<'a> RegistryClient<'a> {
    fn new(reference: &'a Reference) -> anyhow::Result<Self> {
        Ok(Self { agent: tls::agent(None)?, reference, authorization: None })
    }

    fn module(mut self) -> anyhow::Result<Vec<u8>> {
        let version = &self.reference.version;
        let bytes = self.get(&format!("manifests/{version}"), MAX_MANIFEST_BYTES)?;
        if version.contains(':') {
            check_digest(&bytes, version)?;
        }
        let manifest: Value = serde_json::from_slice(&bytes).context("its manifest is no JSON")?;
        let layers = manifest["layers"].as_array().context("it is no single artifact; name one of its manifests")?;
        let is_module =
            |layer: &&Value| layer["mediaType"].as_str().is_some_and(|media_type| MODULE_TYPES.contains(&media_type));
        let modules: Vec<&Value> = layers.iter().filter(is_module).collect();
        let [module] = modules.as_slice() else {
            let types: Vec<&str> = layers.iter().filter_map(|layer| layer["mediaType"].as_str()).collect();
            bail!(
                "it has {} layers that are Wasm modules, not one (they are: {})\n  hint: push the module as it is, as \
                 in `oras push REFERENCE filter.wasm:application/wasm`; container images are not taken apart",
                modules.len(),
                types.join(", ")
            );
        };
        let digest = module["digest"].as_str().context("its layer has no digest")?;
        let bytes = self.get(&format!("blobs/{digest}"), MAX_MODULE_BYTES)?;
        check_digest(&bytes, digest)?;
        Ok(bytes)
    }

    /// Sends a GET request, and repeats it with credentials if the registry requires them.
    fn get(&mut self, rest: &str, limit: u64) -> anyhow::Result<Vec<u8>> {
        let mut response = self.send(&self.reference.url(rest))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = response.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
            let challenge = challenge.context("the registry requires authentication, and names no method")?;
            self.authorization = Some(self.authenticate(challenge)?);
            response = self.send(&self.reference.url(rest))?;
        }
        let status = response.status();
        let body = response.body_mut().with_config().limit(limit).read_to_vec();
        let bytes = body.with_context(|| format!("{rest} cannot be read, or has more than {limit} bytes"))?;
        if status.is_success() {
            return Ok(bytes);
        }
        let text = String::from_utf8_lossy(&bytes);
        let text: String = text.chars().filter(|character| !character.is_control()).take(300).collect();
        Err(anyhow!("the registry answers {status} for {rest}: {text}"))
    }

    fn send(&self, url: &str) -> anyhow::Result<Response<ureq::Body>> {
        let mut request = Request::builder().uri(url).header("accept", format!("{MANIFEST_TYPES}, */*"));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.agent.run(request.body(())?).with_context(|| format!("{url} cannot be reached"))
    }

    /// Returns the `authorization` header for a challenge (RFC 6750, RFC 7617, and the registries' token protocol).
    fn authenticate(&self, challenge: &str) -> anyhow::Result<String> {
        let variable = env::var(CREDENTIALS).ok();
        let entry = variable.as_deref().and_then(|text| text.trim().split_once('='));
        let entry = entry.filter(|(registry, _)| *registry == self.reference.registry);
        let credentials = entry.map(|(_, login)| format!("Basic {}", base64(login.as_bytes())));
        let Some(parameters) = challenge.strip_prefix("Bearer ") else {
            return credentials.with_context(|| {
                format!("the registry requires authentication: set {CREDENTIALS}=REGISTRY=USER:PASSWORD")
            });
        };
        let parameter = |name: &str| {
            let found = parameters.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.trim_matches('"').to_owned())
        };
        let realm = parameter("realm").context("the registry names no token service (realm)")?;
        let token_service: Uri = realm.parse().with_context(|| format!("`{realm}` is no URL"))?;
        let is_encrypted = token_service.scheme_str() == Some("https");
        let is_safe = credentials.is_none() || is_encrypted || token_service.host().is_some_and(is_loopback_host);
        ensure!(is_safe, "the registry wants credentials sent in plain text, to {realm}");
        let scope = parameter("scope").unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        let service = parameter("service").map(|service| format!("&service={service}")).unwrap_or_default();
        let mut request = Request::builder().uri(format!("{realm}?scope={scope}{service}"));
        if let Some(credentials) = credentials {
            request = request.header("authorization", credentials);
        }
        let mut response = self.agent.run(request.body(())?).with_context(|| format!("{realm} cannot be reached"))?;
        let status = response.status();
        ensure!(status.is_success(), "{realm} returns no token: {status}; set {CREDENTIALS}=REGISTRY=USER:PASSWORD");
        let bytes = response.body_mut().with_config().limit(MAX_MANIFEST_BYTES).read_to_vec()?;
        let response: Value = serde_json::from_slice(&bytes).with_context(|| format!("{realm} returns no token"))?;
        let token = response["token"].as_str().or(response["access_token"].as_str());
        Ok(format!("Bearer {}", token.with_context(|| format!("{realm} returns no token"))?))
    }
}

fn check_digest(bytes: &[u8], digest: &str) -> anyhow::Result<()> {
    let expected = digest.strip_prefix("sha256:").with_context(|| format!("`{digest}` is not a SHA-256"))?;
    let found = hex::encode(&Sha256::digest(bytes));
    ensure!(found == expected, "the registry gives something else than sha256:{expected}: sha256:{found}");
    Ok(())
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_parsed_and_plaintext_is_for_loopback_only() {
        let parsed = |text: &str| Reference::parse(text).unwrap();
        let reference = |registry: &str, repository: &str, version: &str| Reference {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            version: version.to_owned(),
        };
        assert_eq!(parsed("oci://ghcr.io/a/b:1.0"), reference("ghcr.io", "a/b", "1.0"));
        assert_eq!(parsed("oci://h:5000/b@sha256:ab"), reference("h:5000", "b", "sha256:ab"));
        assert_eq!(parsed("oci://h/b:v1@sha256:ab"), reference("h", "b", "sha256:ab"));
        assert_eq!(parsed("oci://ghcr.io/b:1").url("x"), "https://ghcr.io/v2/b/x");
        assert_eq!(parsed("oci://[::1]:5000/b:1").url("x"), "http://[::1]:5000/v2/b/x");
        assert!(parsed("oci://127.0.0.1.evil.example/b:1").url("x").starts_with("https://"));
        for wrong in ["oci://ghcr.io", "oci://ghcr.io/b", "oci:///b:1", "oci://h/../x y:1", "oci://h/b:", "oci://h/b@"]
        {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
    }
}
