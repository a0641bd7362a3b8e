//! The control API, asked. A failure is told with every refusal and its place, as `weir-proxy validate` tells it.

use std::path::PathBuf;
use std::{env, fs};

use anyhow::{Context, anyhow, bail, ensure};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response, Uri};
use weir_identity::is_this_machine;

use crate::args::Server;
use crate::files::{self, FilePlace};
use crate::tls;

/// Largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 256 * 1024 * 1024;

/// The control API, with a token.
pub(crate) struct Client {
    agent: Agent,
    url: String,
    token: String,
}

impl Client {
    /// For the server that the command line and the environment name.
    pub(crate) fn new(server: &Server) -> anyhow::Result<Self> {
        let named = server.api.clone().or_else(|| env::var("WEIR_API").ok());
        let url = named.unwrap_or_else(|| "http://127.0.0.1:15080".to_owned());
        check_plain(&url)?;
        let token = token(server)?;
        let ca = server.api_ca.clone().or_else(|| env::var_os("WEIR_API_CA").map(PathBuf::from));
        let agent = tls::agent(ca.as_deref())?;
        Ok(Self { agent, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// Reads something.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask("GET", path, String::new())
    }

    /// Asks for a request to be done.
    pub(crate) fn ask(&self, method: &str, path: &str, body: String) -> anyhow::Result<Value> {
        self.ask_with(method, path, body, &[])
    }

    /// Sends bytes.
    pub(crate) fn send(&self, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Value> {
        self.run(method, path, body, &[])
    }

    /// As [`Client::ask`], with a body that was put together from files: refusals say the places in these.
    pub(crate) fn ask_with(
        &self,
        method: &str,
        path: &str,
        body: String,
        places: &[FilePlace],
    ) -> anyhow::Result<Value> {
        self.run(method, path, body.into_bytes(), places)
    }

    fn run(&self, method: &str, path: &str, body: Vec<u8>, places: &[FilePlace]) -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/{path}", self.url);
        let request = Request::builder().method(method).uri(&url);
        let request = request.header("authorization", format!("Bearer {}", self.token)).body(body)?;
        let asked = self.agent.run(request);
        let response = asked.with_context(|| format!("{url} cannot be reached; is weir-control running?"))?;
        let status = response.status();
        let answer = read(response)?;
        if status.is_success() { Ok(answer) } else { Err(failure(status.as_u16(), answer, places)) }
    }
}

/// A token goes in plain text to nobody but this machine.
fn check_plain(url: &str) -> anyhow::Result<()> {
    let uri: Uri = url.parse().with_context(|| format!("`{url}` is no URL"))?;
    let authority = uri.authority().with_context(|| format!("`{url}` names no host"))?;
    ensure!(!authority.as_str().contains('@'), "`{url}` has a user in it; tokens say who asks");
    let is_plain = uri.scheme_str() != Some("https");
    ensure!(
        !is_plain || is_this_machine(authority.host()),
        "{url} is not this machine, and the token would go there in plain text; write https://"
    );
    Ok(())
}

fn read(mut response: Response<ureq::Body>) -> anyhow::Result<Value> {
    let bytes = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
    let text = String::from_utf8_lossy(&bytes);
    serde_json::from_str(&text).with_context(|| format!("this is no answer of a weir-control: {text}"))
}

fn failure(status: u16, mut answer: Value, places: &[FilePlace]) -> anyhow::Error {
    let mut text = answer["error"].as_str().unwrap_or("there is no reason given").to_owned();
    for refusal in answer["refusals"].as_array_mut().into_iter().flatten() {
        files::place(refusal, places);
        text.push('\n');
        text.push_str(&in_words(refusal));
    }
    if status == 401 {
        text.push_str(
            "\n  hint: set WEIR_TOKEN, or --token-file FILE; the first one lies in the store's folder, admin.token",
        );
    }
    anyhow!(text)
}

/// As compilers say it: `file:line:column: object: field: reason`, and the hint below.
fn in_words(refusal: &Value) -> String {
    let part = |name: &str| refusal[name].as_str().unwrap_or_default();
    let line = refusal["line"].as_u64().unwrap_or_default();
    let column = refusal["column"].as_u64().unwrap_or_default();
    let place = if line > 0 { format!("{}:{line}:{column}", part("file")) } else { part("file").to_owned() };
    let parts = [place.as_str(), part("object"), part("field"), part("reason")];
    let said: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    match part("hint") {
        "" => said.join(": "),
        hint => format!("{}\n  hint: {hint}", said.join(": ")),
    }
}

fn token(server: &Server) -> anyhow::Result<String> {
    let file = match (&server.token_file, env::var("WEIR_TOKEN"), env::var_os("WEIR_TOKEN_FILE")) {
        (Some(file), _, _) => file.clone(),
        (None, Ok(token), _) => return Ok(token.trim().to_owned()),
        (None, Err(_), Some(file)) => PathBuf::from(file),
        (None, Err(_), None) => state_folder().join("admin.token"),
    };
    match fs::read_to_string(&file) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) => bail!("no token: {} cannot be read: {error}; set WEIR_TOKEN, or --token-file", file.display()),
    }
}

/// Where a weir-control of this user keeps its first token.
fn state_folder() -> PathBuf {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let user = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    user.unwrap_or_else(|| PathBuf::from("/var/lib")).join("weir")
}
