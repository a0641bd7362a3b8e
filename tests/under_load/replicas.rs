//! Acceptance of a shared store: of three control planes one is killed again and again while changes are applied through the
//! others, and now and then a member of the etcd. Nothing that was acknowledged is lost, none is half there, and the proxy,
//! which follows all three by mutual TLS, answers all the time.
//!
//! `WEIR_APPLIES=1000` applies as many; the suite applies fewer.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{ControlOptions, ControlPlane, Etcd, Origin, Proxy, ProxyOptions, Resources, until};
use tokio::sync::watch;

use crate::acknowledged::{Traffic, apply, rand_below, versions};
use crate::{machine, setting};

/// Acknowledged applies when nobody asks for more.
const APPLIES: usize = 200;

/// A member of the etcd is killed in each of so many rounds.
const ROUNDS_FOR_EACH_MEMBER: usize = 4;

#[tokio::test]
async fn one_of_three_control_planes_is_killed_again_and_again() {
    let _machine = machine().await;
    let applies = setting("WEIR_APPLIES", APPLIES);
    let origin = Origin::says("here").await;
    let mut etcd = Etcd::start(3).await;
    let mut replicas = start(&etcd).await;
    let token = replicas[0].admin_token();
    replicas[0].apply(&Resources::forward_to(origin.address())).await;
    let proxy = follow_all(&replicas).await;
    until("an answer", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    let asked = Traffic::start(proxy.address().await);

    let (mut written, mut rounds) = (Written::default(), 0);
    while written.count < applies {
        let apis: Vec<_> = replicas.iter().map(ControlPlane::api).collect();
        let member = (rounds % ROUNDS_FOR_EACH_MEMBER == 0).then_some(rounds / ROUNDS_FOR_EACH_MEMBER % 3);
        let (ends, ended) = watch::channel(false);
        let kills = async {
            kill_and_restart(&mut replicas[rounds % 3], &mut etcd, member).await;
            ends.send_replace(true);
        };
        tokio::join!(write(&mut written, (&apis, &token), ended), kills);
        rounds += 1;
        for replica in &replicas {
            has_all(replica, &written).await;
        }
    }
    let count = written.count;
    let (answers, wrong) = asked.end();
    println!("{count} changes acknowledged, {rounds} control planes killed: all there, none half");
    println!("{answers} requests through the proxy meanwhile, {wrong} wrong");
    assert!(answers > 0 && wrong == 0);
    converges(&replicas, &proxy).await;
}

/// What was applied.
#[derive(Default)]
struct Written {
    /// The last version that was sent.
    attempted: u64,
    /// The last version that was acknowledged.
    acknowledged: u64,
    /// How many were.
    count: usize,
}

/// Applies one version after another, each through the next control plane.
async fn write(written: &mut Written, (apis, token): (&[SocketAddr], &str), ended: watch::Receiver<bool>) {
    for api in apis.iter().cycle() {
        if *ended.borrow() {
            return;
        }
        written.attempted += 1;
        if apply(*api, token, written.attempted).await {
            written.acknowledged = written.attempted;
            written.count += 1;
        }
    }
}

/// Kills a control plane, and a member of the etcd, and starts both again some time later.
async fn kill_and_restart(replica: &mut ControlPlane, etcd: &mut Etcd, member: Option<usize>) {
    tokio::time::sleep(Duration::from_micros(rand_below(60_000))).await;
    replica.kill().await;
    if let Some(member) = member {
        etcd.kill(member).await;
    }
    tokio::time::sleep(Duration::from_micros(rand_below(300_000))).await;
    if let Some(member) = member {
        etcd.restart(member).await;
    }
    replica.restart().await;
}

async fn has_all(replica: &ControlPlane, written: &Written) {
    let Written { attempted, acknowledged, .. } = written;
    until(&format!("{acknowledged}, which was acknowledged, or a later one"), async || {
        let found = versions(replica).await?;
        assert!(found.iter().all(|version| *version == found[0]), "half a change is there: {found:?}");
        assert!(found[0] <= *attempted, "{found:?} was never written");
        (found[0] >= *acknowledged).then_some(())
    })
    .await;
}

/// After all of that the proxy still takes what any of them is told.
async fn converges(replicas: &[ControlPlane], proxy: &Proxy) {
    let successor = Origin::says("there").await;
    replicas[2].apply(&Resources::forward_to(successor.address())).await;
    until("the change", async || (proxy.get("/").await.text() == "there").then_some(())).await;
}

async fn start(etcd: &Etcd) -> Vec<ControlPlane> {
    let options = ControlOptions { store: Some(etcd.url()), ..ControlOptions::default() };
    let first = ControlPlane::start_with(options.clone()).await;
    let options = ControlOptions { admin_token: Some(first.admin_token()), ..options };
    let mut all = vec![first];
    for _ in 1..3 {
        all.push(ControlPlane::start_with(options.clone()).await);
    }
    all
}

async fn follow_all(replicas: &[ControlPlane]) -> Proxy {
    let token = replicas[0].join_token("default/edge").await;
    let folder = tempfile::tempdir().expect("a temporary folder").keep();
    let path = folder.join("token");
    std::fs::write(&path, token).expect("a temporary folder can be written");
    let urls: Vec<_> = replicas.iter().map(|replica| format!("https://{}", replica.mutual())).collect();
    let arguments = ["--node", "edge", "--xds", &urls.join(","), "--gateway", "default/edge", "--join-token-path"];
    let mut arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    arguments.push(path.to_string_lossy().into_owned());
    arguments.extend(["--bind".to_owned(), "default/edge/http=127.0.0.1:0".to_owned()]);
    let cache = Some(folder.join("cache"));
    Proxy::follow(0, &ProxyOptions { arguments, cache, ..ProxyOptions::default() }).await
}
