//! The client of the control API. An error contains every diagnostic with its position, as `weir-proxy validate` prints
//! it.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response, Uri};
use weir_model::net::is_loopback_host;
use weir_model::state_dir::state_dir;
use weir_model::{printable, write_private_with};

use crate::args::ConnectionArgs;
use crate::input::{self, FileSpan};
use crate::output::{str_field, text};
use crate::tls;

/// The maximum size of a response, in bytes.
const MAX_RESPONSE_BYTES: u64 = 256 * 1024 * 1024;

/// The characters of a foreign response that an error shows.
const MAX_SHOWN_CHARACTERS: usize = 300;

/// A client of the control API, with a token.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    token: String,
}

impl Client {
    /// Creates a client for the API that the command line or the environment names.
    pub(crate) fn new(connection: &ConnectionArgs) -> anyhow::Result<Self> {
        let url = connection.api.clone().or_else(|| env::var("WEIR_API").ok());
        let url = url.unwrap_or_else(|| "http://127.0.0.1:15080".to_owned());
        check_url(&url)?;
        let token = token(connection)?;
        let ca = connection.api_ca.clone().or_else(|| env::var_os("WEIR_API_CA").map(PathBuf::from));
        let agent = tls::agent(ca.as_deref())?;
        Ok(Self { agent, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// Sends a GET request.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.request("GET", path, String::new())
    }

    /// Sends a request and returns the response's JSON.
    pub(crate) fn request(&self, method: &str, path: &str, body: String) -> anyhow::Result<Value> {
        self.request_with_files(method, path, body, &[])
    }

    /// Sends a request with a binary body.
    pub(crate) fn send_bytes(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        self.run(method, path, body, &[])
    }

    /// Sends a request whose body is a concatenation of files. An error contains positions in these files.
    pub(crate) fn request_with_files(
        &self,
        method: &str,
        path: &str,
        body: String,
        spans: &[FileSpan],
    ) -> anyhow::Result<Value> {
        self.run(method, path, body.into_bytes(), spans)
    }

    /// Writes the body of a GET response to a file, which exists when the response is complete and is readable by this user
    /// only.
    pub(crate) fn download(&self, path: &str, file: &Path) -> anyhow::Result<()> {
        let mut response = self.send("GET", path, Vec::new())?;
        let status = response.status();
        if !status.is_success() {
            return Err(api_error(status.as_u16(), read(response)?, &[]));
        }
        let mut body = response.body_mut().with_config().limit(u64::MAX).reader();
        let copied: io::Result<u64> = write_private_with(file, |output| io::copy(&mut body, output));
        copied.map(drop).with_context(|| format!("{} is not written, or the response is incomplete", file.display()))
    }

    fn run(&self, method: &str, path: &str, body: Vec<u8>, spans: &[FileSpan]) -> anyhow::Result<Value> {
        let response = self.send(method, path, body)?;
        let status = response.status();
        let response = read(response)?;
        if status.is_success() { Ok(response) } else { Err(api_error(status.as_u16(), response, spans)) }
    }

    fn send(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Response<ureq::Body>> {
        let url = format!("{}/api/v1/{path}", self.url);
        let request = Request::builder().method(method).uri(&url);
        let request = request.header("authorization", format!("Bearer {}", self.token)).body(body)?;
        self.agent.run(request).with_context(|| format!("{url} cannot be reached; is weir-control running?"))
    }
}

/// Rejects a URL to which the token would be sent in plaintext, unless its host is this machine.
fn check_url(url: &str) -> anyhow::Result<()> {
    let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
    let authority = uri.authority().with_context(|| format!("`{url}` names no host"))?;
    ensure!(!authority.as_str().contains('@'), "`{url}` has a user in it; set a token instead");
    let is_plain = uri.scheme_str() != Some("https");
    ensure!(
        !is_plain || is_loopback_host(authority.host()),
        "{url} is not this machine, and the token would go there in plain text; write https://"
    );
    Ok(())
}

fn read(mut response: Response<ureq::Body>) -> anyhow::Result<Value> {
    let bytes = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec()?;
    let text = String::from_utf8_lossy(&bytes);
    serde_json::from_str(&text).with_context(|| {
        let start: String = text.chars().take(MAX_SHOWN_CHARACTERS).collect();
        format!("this is no response of a weir-control: {}", printable(&start))
    })
}

/// Returns the error of a response, with all its diagnostics.
fn api_error(status: u16, mut response: Value, spans: &[FileSpan]) -> anyhow::Error {
    // `error` is the field of an older weir-control.
    let reason = text(&response["detail"]).or_else(|| text(&response["error"]));
    let mut message = reason.unwrap_or_else(|| "the response has no reason".to_owned());
    for diagnostic in response["refusals"].as_array_mut().into_iter().flatten() {
        input::relocate(diagnostic, spans);
        message.push('\n');
        message.push_str(&format_diagnostic(diagnostic));
    }
    if status == 401 {
        message.push_str(
            "\n  hint: set WEIR_TOKEN, or --token-file FILE; the first one lies in the store's folder, admin.token",
        );
    }
    anyhow!(message)
}

/// Formats a diagnostic as compilers do: `file:line:column: object: field: reason`, with the hint on the next line.
fn format_diagnostic(diagnostic: &Value) -> String {
    let part = |name: &str| str_field(diagnostic, name);
    let line = diagnostic["line"].as_u64().unwrap_or_default();
    let column = diagnostic["column"].as_u64().unwrap_or_default();
    let location = if line > 0 { format!("{}:{line}:{column}", part("file")) } else { part("file") };
    let parts = [location, part("object"), part("field"), part("reason")];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    match part("hint").as_str() {
        "" => parts.join(": "),
        hint => format!("{}\n  hint: {hint}", parts.join(": ")),
    }
}

fn token(connection: &ConnectionArgs) -> anyhow::Result<String> {
    let file = match (&connection.token_file, env::var("WEIR_TOKEN"), env::var_os("WEIR_TOKEN_FILE")) {
        (Some(file), _, _) => file.clone(),
        (None, Ok(token), _) => return Ok(token.trim().to_owned()),
        (None, Err(_), Some(file)) => PathBuf::from(file),
        (None, Err(_), None) => state_dir().join("admin.token"),
    };
    match fs::read_to_string(&file) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) => bail!("no token: {} cannot be read: {error}; set WEIR_TOKEN, or --token-file", file.display()),
    }
}
