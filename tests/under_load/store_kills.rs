//! Acceptance test of the store. The control plane is killed at random moments while changes are applied. Every
//! acknowledged change must be stored, no change may be applied in part, and the proxy must serve without interruption.
//! Tokens are created and revoked in between.
//!
//! The suite makes 300 changes; `WEIR_APPLIES=1000` makes 1,000.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{ControlPlane, Origin, Resources, spawn_background, wait_until};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{lock_machine, number_from_env};

/// Acknowledged applies by default.
const APPLIES: usize = 300;

/// Names of the objects that each change updates together.
const OBJECTS: [&str; 3] = ["a", "b", "c"];

#[tokio::test]
async fn acknowledged_apply_survives_kills_and_is_atomic() {
    let _machine = lock_machine().await;
    let applies = number_from_env("WEIR_APPLIES", APPLIES);
    let origin = Origin::text("here").await;
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_until("a response", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    let traffic = Traffic::start(proxy.address().await);

    let token = control.admin_token();
    let (mut attempted, mut acknowledged, mut count, mut kills, mut unacknowledged) = (0, 0, 0, 0, 0);
    let mut tokens = TokenChanges::default();
    while count < applies {
        let api = control.api();
        let writes = async {
            while apply(api, &token, attempted + 1).await {
                attempted += 1;
                acknowledged = attempted;
                count += 1 + usize::from(tokens.change(api, &token).await);
            }
            attempted += 1;
        };
        let kill = async {
            tokio::time::sleep(Duration::from_micros(random_below(60_000))).await;
            control.kill().await;
        };
        tokio::join!(writes, kill);
        kills += 1;
        control.restart().await;
        let found = versions(&control).await.unwrap();
        assert!(found.iter().all(|version| *version == found[0]), "a change is applied in part: {found:?}");
        assert!((acknowledged..=attempted).contains(&found[0]), "{acknowledged} was acknowledged, there is {found:?}");
        unacknowledged += usize::from(found[0] > acknowledged);
        tokens.check(&control).await;
    }
    let (responses, wrong) = traffic.stop();
    println!(
        "{count} changes acknowledged, {kills} kills: all complete; {unacknowledged} were stored and not acknowledged"
    );
    println!("{responses} requests through the proxy meanwhile, {wrong} wrong");
    assert!(responses > 0 && wrong == 0);
}

/// The acknowledged changes of tokens.
#[derive(Default)]
pub(crate) struct TokenChanges {
    /// The secrets of tokens whose creation was acknowledged.
    valid: Vec<(String, String)>,
    /// The secrets of tokens whose revocation was acknowledged.
    revoked: Vec<String>,
}

impl TokenChanges {
    /// Creates a token, or revokes one if there are many. Returns false if the change was not acknowledged.
    pub(crate) async fn change(&mut self, api: SocketAddr, admin: &str) -> bool {
        if self.valid.len() > 3 {
            let (id, secret) = self.valid.remove(0);
            // Without an acknowledgement the token may be revoked or not.
            let is_revoked = send(api, admin, "DELETE", &format!("tokens/{id}"), "").await.is_some();
            if is_revoked {
                self.revoked.push(secret);
            }
            return is_revoked;
        }
        let Some(body) = send(api, admin, "POST", "tokens", r#"{"name": "t", "role": "viewer"}"#).await else {
            return false;
        };
        let created: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        let field = |name: &str| created[name].as_str().unwrap_or_default().to_owned();
        self.valid.push((field("id"), field("secret")));
        true
    }

    /// Waits until every acknowledged change is in force at a replica.
    pub(crate) async fn wait_for(&self, control: &ControlPlane) {
        let status = async |secret: &str| control.request_as(Some(secret), "GET", "status", "").await.status;
        wait_until("the tokens of another replica", async || {
            for (_, secret) in &self.valid {
                if status(secret).await != 200 {
                    return None;
                }
            }
            match self.revoked.last() {
                Some(secret) if status(secret).await != 401 => None,
                _ => Some(()),
            }
        })
        .await;
    }

    /// Checks that every acknowledged change is in force.
    pub(crate) async fn check(&self, control: &ControlPlane) {
        let status = async |secret: &str| control.request_as(Some(secret), "GET", "status", "").await.status;
        for (id, secret) in &self.valid {
            assert_eq!(status(secret).await, 200, "the token {id} was created");
        }
        for secret in self.revoked.iter().rev().take(5) {
            assert_eq!(status(secret).await, 401, "a revoked token is valid");
        }
    }
}

/// Returns the version of each of [`OBJECTS`], 0 if it does not exist. `None` if the control plane does not list them.
pub(crate) async fn versions(control: &ControlPlane) -> Option<Vec<u64>> {
    let found = control.get("resources?kind=ServiceEntry").await;
    let found = found.as_array()?;
    let version = |name: &str| {
        let object = found.iter().find(|object: &&Value| object["metadata"]["name"] == name)?;
        object["metadata"]["labels"]["version"].as_str()?.trim_start_matches('v').parse().ok()
    };
    Some(OBJECTS.iter().map(|name| version(name).unwrap_or(0)).collect())
}

/// Updates all [`OBJECTS`] in one apply. Returns false if the apply was not acknowledged.
pub(crate) async fn apply(api: SocketAddr, token: &str, version: u64) -> bool {
    let object = |name: &&str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}, labels: {{version: v{version}}}}}\n\
             spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}], endpoints: [{{address: \"127.0.0.1:1\"}}]}}\n"
        )
    };
    let body = OBJECTS.iter().map(object).collect::<Vec<_>>().join("---\n");
    send(api, token, "POST", "apply", &body).await.is_some()
}

/// Sends a change to the API. Returns the body of the acknowledgement; `None` if there was none, and the change may have
/// been made or not.
async fn send(api: SocketAddr, token: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let length = body.len();
    let request = format!(
        "{method} /api/v1/{path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let exchange = async {
        let mut stream = TcpStream::connect(api).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut response = String::new();
        stream.read_to_string(&mut response).await?;
        Ok::<_, std::io::Error>(response)
    };
    match exchange.await {
        Ok(response) if response.starts_with("HTTP/1.1 200") => {
            response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
        }
        Ok(response) => {
            let is_store_unavailable = response.starts_with("HTTP/1.1 503");
            assert!(
                response.is_empty() || is_store_unavailable,
                "a complete response that is no acknowledgement: {response}"
            );
            None
        }
        Err(_) => None,
    }
}

/// Sequential requests through the proxy while the test runs.
pub(crate) struct Traffic {
    stopped: Arc<AtomicBool>,
    responses: Arc<AtomicU64>,
    wrong: Arc<AtomicU64>,
}

impl Traffic {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let traffic = Self { stopped: Arc::default(), responses: Arc::default(), wrong: Arc::default() };
        let (stopped, responses, wrong) =
            (Arc::clone(&traffic.stopped), Arc::clone(&traffic.responses), Arc::clone(&traffic.wrong));
        spawn_background(async move {
            let mut client = harness::Client::http1(address).await;
            while !stopped.load(Ordering::Relaxed) {
                let is_expected = client.get("/").await.text() == "here";
                responses.fetch_add(1, Ordering::Relaxed);
                wrong.fetch_add(u64::from(!is_expected), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await; // Leaves the CPU to the control plane.
            }
        });
        traffic
    }

    /// Stops the traffic. Returns the number of responses, and of those that were wrong.
    pub(crate) fn stop(&self) -> (u64, u64) {
        self.stopped.store(true, Ordering::Relaxed);
        (self.responses.load(Ordering::Relaxed), self.wrong.load(Ordering::Relaxed))
    }
}

/// Returns a random number below `limit`.
pub(crate) fn random_below(limit: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % limit
}
