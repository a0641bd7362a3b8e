//! Acceptance of the store: the control plane is killed at random while changes are applied. Every change that was
//! acknowledged is there afterwards, none is half there, and the proxy has answered all the time.
//!
//! `WEIR_APPLIES=1000` applies as many; the suite applies fewer.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{ControlPlane, Origin, Resources, beside, until};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{machine, setting};

/// Acknowledged applies when nobody asks for more.
const APPLIES: usize = 300;

/// Objects that one change changes together.
const TOGETHER: [&str; 3] = ["a", "b", "c"];

#[tokio::test]
async fn what_was_acknowledged_survives_and_nothing_is_half_there() {
    let _machine = machine().await;
    let applies = setting("WEIR_APPLIES", APPLIES);
    let origin = Origin::says("here").await;
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let proxy = control.proxy("p1", &[]).await;
    until("an answer", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    let asked = Traffic::start(proxy.address().await);

    let token = control.admin_token();
    let (mut attempted, mut acknowledged, mut count, mut kills, mut between) = (0, 0, 0, 0, 0);
    while count < applies {
        let api = control.api();
        let writes = async {
            while apply(api, &token, attempted + 1).await {
                attempted += 1;
                acknowledged = attempted;
                count += 1;
            }
            attempted += 1;
        };
        let killed = async {
            tokio::time::sleep(Duration::from_micros(rand_below(60_000))).await;
            control.kill().await;
        };
        tokio::join!(writes, killed);
        kills += 1;
        control.restart().await;
        let found = versions(&control).await.unwrap();
        assert!(found.iter().all(|version| *version == found[0]), "half a change is there: {found:?}");
        assert!((acknowledged..=attempted).contains(&found[0]), "{acknowledged} was acknowledged, there is {found:?}");
        between += usize::from(found[0] > acknowledged);
    }
    let (answers, wrong) = asked.end();
    println!(
        "{count} changes acknowledged, {kills} kills: all there, none half; {between} were kept and not acknowledged"
    );
    println!("{answers} requests through the proxy meanwhile, {wrong} wrong");
    assert!(answers > 0 && wrong == 0);
}

/// The version of each of the objects that change together; nothing when the control plane does not say.
pub(crate) async fn versions(control: &ControlPlane) -> Option<Vec<u64>> {
    let found = control.get("resources?kind=Service").await;
    let found = found.as_array()?;
    let version = |name: &str| {
        let object = found.iter().find(|object: &&Value| object["metadata"]["name"] == name)?;
        object["metadata"]["labels"]["version"].as_str()?.trim_start_matches('v').parse().ok()
    };
    Some(TOGETHER.iter().map(|name| version(name).unwrap_or(0)).collect())
}

/// Changes all of the objects together; false when it was not acknowledged.
pub(crate) async fn apply(api: SocketAddr, token: &str, version: u64) -> bool {
    let object = |name: &&str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: {name}, labels: {{version: v{version}}}}}\n\
             spec: {{ports: [{{name: http, port: 80, protocol: HTTP}}], endpoints: [{{address: \"127.0.0.1:1\"}}]}}\n"
        )
    };
    let body = TOGETHER.iter().map(object).collect::<Vec<_>>().join("---\n");
    let length = body.len();
    let request = format!(
        "POST /api/v1/apply HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let asked = async {
        let mut stream = TcpStream::connect(api).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match asked.await {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => true,
        Ok(answer) => {
            let is_away = answer.starts_with("HTTP/1.1 503"); // The store.
            assert!(answer.is_empty() || is_away, "a whole answer that is no acknowledgement: {answer}");
            false
        }
        Err(_) => false,
    }
}

/// Requests through the proxy, one after another, for as long as the test runs.
pub(crate) struct Traffic {
    ends: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    wrong: Arc<AtomicU64>,
}

impl Traffic {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let this = Self { ends: Arc::default(), answers: Arc::default(), wrong: Arc::default() };
        let (ends, answers, wrong) = (Arc::clone(&this.ends), Arc::clone(&this.answers), Arc::clone(&this.wrong));
        beside(async move {
            let mut client = harness::Client::http1(address).await;
            while !ends.load(Ordering::Relaxed) {
                let is_right = client.get("/").await.text() == "here";
                answers.fetch_add(1, Ordering::Relaxed);
                wrong.fetch_add(u64::from(!is_right), Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await; // The machine is for the control plane.
            }
        });
        this
    }

    pub(crate) fn end(&self) -> (u64, u64) {
        self.ends.store(true, Ordering::Relaxed);
        (self.answers.load(Ordering::Relaxed), self.wrong.load(Ordering::Relaxed))
    }
}

/// A number below another one that nobody can foresee.
pub(crate) fn rand_below(most: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % most
}
