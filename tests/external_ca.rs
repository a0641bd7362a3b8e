//! An external CA: the control plane signs with an intermediate certificate and key from files, and workloads verify
//! each other up to the external root.

use std::path::Path;

use harness::{ControlOptions, ControlPlane, MeshPair, Origin};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Creates a root, an intermediate CA and a signing CA. Writes their files, and returns the control plane's arguments.
fn write_ca(folder: &Path) -> [String; 6] {
    let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
    let root = params("the root").self_signed(&keys[0]).unwrap();
    let intermediate = params("between").signed_by(&keys[1], &Issuer::new(params("the root"), &keys[0])).unwrap();
    let signer = params("signer").signed_by(&keys[2], &Issuer::new(params("between"), &keys[1])).unwrap();
    let files = [("cert", signer.pem() + &intermediate.pem()), ("key", keys[2].serialize_pem()), ("root", root.pem())];
    let path = |name: &str| folder.join(format!("ca-{name}.pem")).to_string_lossy().into_owned();
    files.iter().for_each(|(name, text)| std::fs::write(path(name), text).unwrap());
    ["--ca-cert".to_owned(), path("cert"), "--ca-key".to_owned(), path("key"), "--ca-root".to_owned(), path("root")]
}

#[tokio::test]
async fn workloads_trust_external_root() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = write_ca(folder.path()).to_vec();
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let origin = Origin::text("here").await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    assert_eq!(mesh.edge.get("/who").await.text(), "here");
    let line = mesh.inner.access_log_for("/who").await;
    assert_eq!(line["peer_identity"], "spiffe://weir.local/ns/default/sa/edge");
    let ca = control.get("authority").await;
    assert_eq!((ca["roots"].as_array().unwrap().len(), &ca["roots"][0]["signs"]), (1, &json!(true)));
    let rejected = control.request("POST", "authority/rotation", "").await;
    assert!(
        rejected.status == 409 && rejected.text().contains("replace the files of --ca-cert"),
        "{}",
        rejected.text()
    );
    assert!(!control.store().join("authority.json").exists(), "no root is created");
}

#[tokio::test]
async fn mismatched_ca_files_fail_start() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = write_ca(folder.path());
    let mut control =
        ControlPlane::start_with(ControlOptions { arguments: good.to_vec(), ..ControlOptions::default() }).await;
    write_ca(other.path());
    // A key, and then a root, of another CA.
    for name in ["key", "root"] {
        control.kill().await;
        let path = folder.path().join(format!("ca-{name}.pem"));
        let before = std::fs::read(&path).unwrap();
        std::fs::copy(other.path().join(format!("ca-{name}.pem")), &path).unwrap();
        control.try_restart();
        assert!(!control.wait_for_exit().await.success());
        let log = control.log();
        assert!(log.contains("what it signs is not believed by"), "{name}: {log}");
        assert!(!log.contains("PRIVATE"), "{log}");
        std::fs::write(&path, before).unwrap();
        control.restart().await;
    }
}
