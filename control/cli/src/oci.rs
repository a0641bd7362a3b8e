//! Modules from an OCI registry (OCI Distribution Specification 1.1): `oci://REGISTRY/REPOSITORY:TAG`, or `@sha256:…` in
//! place of the tag. What is taken is the one layer that is a Wasm module; what comes is what its digest says, or nothing.

use std::env;

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{Request, Response, StatusCode, Uri};
use weir_identity::is_this_machine;

use crate::tls;

/// What is written before a reference.
pub(crate) const SCHEME: &str = "oci://";

/// Who asks a registry that wants to know: `REGISTRY=USER:PASSWORD`. No other registry gets it.
const CREDENTIALS: &str = "WEIR_REGISTRY_CREDENTIALS";

/// Bytes of a manifest: they are a few KiB.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of a module: as many as the control plane takes.
const MAX_MODULE_BYTES: u64 = 64 * 1024 * 1024;

/// What a layer is called that is a Wasm module: by the Wasm OCI artefact layout, by its predecessors, by `oras` and friends.
const MODULE_TYPES: [&str; 4] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];

const MANIFEST_TYPES: &str =
    "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// Where a module is.
#[derive(Debug, PartialEq, Eq)]
struct Reference {
    registry: String,
    repository: String,
    /// A tag, or a digest.
    version: String,
}

/// A repository of a registry, asked with what it has let us in with.
struct Repository<'a> {
    agent: Agent,
    reference: &'a Reference,
    authorization: Option<String>,
}

/// Gets a module.
pub(crate) fn pull(url: &str) -> anyhow::Result<Vec<u8>> {
    let reference = Reference::parse(url).with_context(|| format!("`{url}` is no reference"))?;
    Repository::new(&reference)?.module().with_context(|| format!("{url} cannot be pulled"))
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

    /// As everybody does it: plain text is for a registry on this machine alone.
    fn url(&self, rest: &str) -> String {
        let host = self.registry.rsplit_once(':').map_or(self.registry.as_str(), |(host, _)| host);
        let scheme = if is_this_machine(host) { "http" } else { "https" };
        format!("{scheme}://{}/v2/{}/{rest}", self.registry, self.repository)
    }
}

impl<'a> Repository<'a> {
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
        let layers = manifest["layers"].as_array().context("it is no single artefact; name one of its manifests")?;
        let is_module = |layer: &&Value| layer["mediaType"].as_str().is_some_and(|it| MODULE_TYPES.contains(&it));
        let modules: Vec<&Value> = layers.iter().filter(is_module).collect();
        let [module] = modules.as_slice() else {
            let types: Vec<&str> = layers.iter().filter_map(|layer| layer["mediaType"].as_str()).collect();
            bail!(
                "it has {} layers that are Wasm modules, not one (they are: {})\n  hint: push the module as it is, as in \
                 `oras push REFERENCE filter.wasm:application/wasm`; container images are not taken apart",
                modules.len(),
                types.join(", ")
            );
        };
        let digest = module["digest"].as_str().context("its layer has no digest")?;
        let bytes = self.get(&format!("blobs/{digest}"), MAX_MODULE_BYTES)?;
        check_digest(&bytes, digest)?;
        Ok(bytes)
    }

    /// Reads something; once more with credentials when the registry asks for them.
    fn get(&mut self, rest: &str, limit: u64) -> anyhow::Result<Vec<u8>> {
        let mut response = self.ask(&self.reference.url(rest))?;
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = response.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
            let challenge = challenge.context("the registry lets nobody in, and does not say how to get in")?;
            self.authorization = Some(self.answer(challenge)?);
            response = self.ask(&self.reference.url(rest))?;
        }
        let status = response.status();
        let body = response.body_mut().with_config().limit(limit).read_to_vec();
        let bytes = body.with_context(|| format!("{rest} cannot be read, or has more than {limit} bytes"))?;
        if status.is_success() {
            return Ok(bytes);
        }
        let said: String = String::from_utf8_lossy(&bytes).chars().filter(|it| !it.is_control()).take(300).collect();
        Err(anyhow!("the registry answers {status} for {rest}: {said}"))
    }

    fn ask(&self, url: &str) -> anyhow::Result<Response<ureq::Body>> {
        let mut request = Request::builder().uri(url).header("accept", format!("{MANIFEST_TYPES}, */*"));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.agent.run(request.body(())?).with_context(|| format!("{url} cannot be reached"))
    }

    /// What the registry wants to see (RFC 6750, RFC 7617, and the registries' token protocol).
    fn answer(&self, challenge: &str) -> anyhow::Result<String> {
        let own = env::var(CREDENTIALS).ok();
        let own = own.as_deref().and_then(|text| text.trim().split_once('=')?.into());
        let own = own.filter(|(registry, _)| *registry == self.reference.registry);
        let own = own.map(|(_, credentials): (&str, &str)| format!("Basic {}", base64(credentials.as_bytes())));
        let Some(parameters) = challenge.strip_prefix("Bearer ") else {
            return own.with_context(|| {
                format!("the registry wants to know who asks: set {CREDENTIALS}=REGISTRY=USER:PASSWORD")
            });
        };
        let parameter = |name: &str| {
            let found = parameters.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            found.map(|value| value.trim_matches('"').to_owned())
        };
        let realm = parameter("realm").context("the registry does not say who gives tokens for it")?;
        let place: Uri = realm.parse().with_context(|| format!("`{realm}` is no URL"))?;
        let is_safe = own.is_none() || place.scheme_str() == Some("https") || place.host().is_some_and(is_this_machine);
        ensure!(is_safe, "the registry wants credentials sent in plain text, to {realm}");
        let scope = parameter("scope").unwrap_or_else(|| format!("repository:{}:pull", self.reference.repository));
        let service = parameter("service").map(|service| format!("&service={service}")).unwrap_or_default();
        let mut request = Request::builder().uri(format!("{realm}?scope={scope}{service}"));
        if let Some(own) = own {
            request = request.header("authorization", own);
        }
        let mut response = self.agent.run(request.body(())?).with_context(|| format!("{realm} cannot be reached"))?;
        let status = response.status();
        ensure!(status.is_success(), "{realm} gives no token: {status}; set {CREDENTIALS}=REGISTRY=USER:PASSWORD");
        let bytes = response.body_mut().with_config().limit(MAX_MANIFEST_BYTES).read_to_vec()?;
        let answer: Value = serde_json::from_slice(&bytes).with_context(|| format!("{realm} gives no token"))?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        Ok(format!("Bearer {}", token.with_context(|| format!("{realm} gives no token"))?))
    }
}

fn check_digest(bytes: &[u8], digest: &str) -> anyhow::Result<()> {
    let expected = digest.strip_prefix("sha256:").with_context(|| format!("`{digest}` is not a SHA-256"))?;
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
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
    fn references_are_understood_and_plain_text_stays_on_this_machine() {
        let parsed = |text: &str| Reference::parse(text).unwrap();
        let of = |registry: &str, repository: &str, version: &str| Reference {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            version: version.to_owned(),
        };
        assert_eq!(parsed("oci://ghcr.io/a/b:1.0"), of("ghcr.io", "a/b", "1.0"));
        assert_eq!(parsed("oci://h:5000/b@sha256:ab"), of("h:5000", "b", "sha256:ab"));
        assert_eq!(parsed("oci://h/b:v1@sha256:ab"), of("h", "b", "sha256:ab"));
        assert_eq!(parsed("oci://ghcr.io/b:1").url("x"), "https://ghcr.io/v2/b/x");
        assert_eq!(parsed("oci://[::1]:5000/b:1").url("x"), "http://[::1]:5000/v2/b/x");
        assert!(parsed("oci://127.0.0.1.evil.example/b:1").url("x").starts_with("https://"));
        for wrong in ["oci://ghcr.io", "oci://ghcr.io/b", "oci:///b:1", "oci://h/../x y:1", "oci://h/b:", "oci://h/b@"]
        {
            assert!(Reference::parse(wrong).is_err(), "{wrong}");
        }
    }
}
