//! Acceptance test of the shared store. One of three control planes is killed repeatedly while changes are applied
//! through the others; now and then a member of the etcd cluster is killed, paused or cut off from the network, in turn. No acknowledged change may be lost, no
//! change may be applied in part, and the proxy, which has all three as xDS servers by mutual TLS, must serve without
//! interruption.
//!
//! The suite applies 200 changes; `WEIR_APPLIES=1000` applies 1,000.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{ControlOptions, ControlPlane, Etcd, Origin, Proxy, ProxyOptions, Resources, wait_until};
use tokio::sync::watch;

use crate::store_kills::{TokenChanges, Traffic, apply, random_below, versions};
use crate::{lock_machine, number_from_env};

/// Acknowledged applies by default.
const APPLIES: usize = 200;

/// Rounds between two faults of a member of the etcd cluster.
const ROUNDS_FOR_EACH_MEMBER: usize = 4;

/// A fault of one member of the etcd cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberFault {
    /// The process is killed and started again.
    Killed,
    /// The process is stopped and continued: it accepts connections, and does not respond.
    Paused,
    /// The network of the member loses all packets.
    Partitioned,
}

/// A fault, and the member that has it.
#[derive(Debug, Clone, Copy)]
struct FaultOfMember {
    fault: MemberFault,
    member: usize,
}

/// The faults, one at a time in turn.
const MEMBER_FAULTS: [MemberFault; 3] = [MemberFault::Killed, MemberFault::Paused, MemberFault::Partitioned];

#[tokio::test]
async fn replica_kills_lose_no_acknowledged_apply() {
    let _machine = lock_machine().await;
    let applies = number_from_env("WEIR_APPLIES", APPLIES);
    let origin = Origin::text("here").await;
    let mut etcd = Etcd::start(3).await;
    let mut replicas = start(&etcd).await;
    let token = replicas[0].admin_token();
    replicas[0].apply(&Resources::forward_to(origin.address())).await;
    let proxy = follow_all(&replicas).await;
    wait_until("a response", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    let traffic = Traffic::start(proxy.address().await);

    let (mut applied, mut rounds) = (AppliedChanges::default(), 0);
    let mut tokens = TokenChanges::default();
    while applied.count < applies {
        let apis: Vec<_> = replicas.iter().map(ControlPlane::api).collect();
        let turn = rounds / ROUNDS_FOR_EACH_MEMBER;
        let fault = (rounds % ROUNDS_FOR_EACH_MEMBER == 0)
            .then_some(FaultOfMember { fault: MEMBER_FAULTS[turn % 3], member: turn / 3 % 3 });
        let (stop, stopped) = watch::channel(false);
        let kills = async {
            kill_and_restart(&mut replicas[rounds % 3], &mut etcd, fault).await;
            stop.send_replace(true);
        };
        tokio::join!(apply_until_stopped(&mut applied, &apis, &token, stopped), kills);
        rounds += 1;
        for replica in &replicas {
            wait_for_all_changes(replica, &applied).await;
        }
        // A token that one control plane creates is valid at all.
        applied.count += usize::from(tokens.change(replicas[rounds % 3].api(), &token).await);
        for replica in &replicas {
            tokens.wait_for(replica).await;
        }
    }
    let revisions = async |replica: &ControlPlane| replica.get("revisions").await;
    for replica in &replicas[1..] {
        assert_eq!(revisions(replica).await, revisions(&replicas[0]).await, "the replicas differ");
    }
    let count = applied.count;
    let (responses, wrong) = traffic.stop();
    println!("{count} changes acknowledged, {rounds} control planes killed: all complete");
    println!("{responses} requests through the proxy meanwhile, {wrong} wrong");
    assert!(responses > 0 && wrong == 0);
    assert_proxy_converges(&replicas, &proxy).await;
}

/// Progress of the applies.
#[derive(Default)]
struct AppliedChanges {
    /// The last version that was sent.
    attempted: u64,
    /// The last version that was acknowledged.
    acknowledged: u64,
    /// Number of acknowledged applies.
    count: usize,
}

/// Applies one version after another, each through the next control plane, until `stopped` is true.
async fn apply_until_stopped(
    applied: &mut AppliedChanges,
    apis: &[SocketAddr],
    token: &str,
    stopped: watch::Receiver<bool>,
) {
    for api in apis.iter().cycle() {
        if *stopped.borrow() {
            return;
        }
        applied.attempted += 1;
        if apply(*api, token, applied.attempted).await {
            applied.acknowledged = applied.attempted;
            applied.count += 1;
        }
    }
}

/// Kills a control plane, and lets a member of the etcd cluster fail if one is chosen. Ends both faults after a random
/// delay.
async fn kill_and_restart(replica: &mut ControlPlane, etcd: &mut Etcd, failing: Option<FaultOfMember>) {
    tokio::time::sleep(Duration::from_micros(random_below(60_000))).await;
    replica.kill().await;
    match failing {
        Some(FaultOfMember { fault: MemberFault::Killed, member }) => etcd.kill(member).await,
        Some(FaultOfMember { fault: MemberFault::Paused, member }) => etcd.pause(member).await,
        Some(FaultOfMember { fault: MemberFault::Partitioned, member }) => etcd.partition(member),
        None => {}
    }
    tokio::time::sleep(Duration::from_micros(random_below(300_000))).await;
    match failing {
        Some(FaultOfMember { fault: MemberFault::Killed, member }) => etcd.restart(member).await,
        Some(FaultOfMember { fault: MemberFault::Paused, member }) => etcd.resume(member).await,
        Some(FaultOfMember { fault: MemberFault::Partitioned, member }) => etcd.reconnect(member),
        None => {}
    }
    replica.restart().await;
}

/// Blocks until a control plane has every acknowledged change.
async fn wait_for_all_changes(replica: &ControlPlane, applied: &AppliedChanges) {
    let AppliedChanges { attempted, acknowledged, .. } = applied;
    wait_until(&format!("the acknowledged version {acknowledged}, or a later one"), async || {
        let found = versions(replica).await?;
        assert!(found.iter().all(|version| *version == found[0]), "a change is applied in part: {found:?}");
        assert!(found[0] <= *attempted, "{found:?} was never applied");
        (found[0] >= *acknowledged).then_some(())
    })
    .await;
}

/// Blocks until the proxy serves a change that was applied through one of the control planes.
async fn assert_proxy_converges(replicas: &[ControlPlane], proxy: &Proxy) {
    let successor = Origin::text("there").await;
    replicas[2].apply(&Resources::forward_to(successor.address())).await;
    wait_until("the change", async || (proxy.get("/").await.text() == "there").then_some(())).await;
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
    let urls: Vec<_> = replicas.iter().map(|replica| format!("https://{}", replica.xds_mtls())).collect();
    let arguments = ["--node", "edge", "--xds", &urls.join(","), "--gateway", "default/edge", "--join-token-path"];
    let mut arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    arguments.push(path.to_string_lossy().into_owned());
    arguments.extend(["--bind".to_owned(), "default/edge/http=127.0.0.1:0".to_owned()]);
    let cache = Some(folder.join("cache"));
    Proxy::follow(0, &ProxyOptions { arguments, cache, ..ProxyOptions::default() }).await
}
