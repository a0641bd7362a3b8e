//! An authority above the mesh: the control plane signs with what it was given in files, and workloads prove to each other
//! who they are up to the root above.

use std::path::Path;

use harness::{ControlOptions, ControlPlane, Mesh, Origin};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A root, one between, and one that signs; written as the files that the control plane takes.
fn write_authority(folder: &Path) -> [String; 6] {
    let keys = [(); 3].map(|()| KeyPair::generate().unwrap());
    let root = params("the root").self_signed(&keys[0]).unwrap();
    let between = params("between").signed_by(&keys[1], &Issuer::new(params("the root"), &keys[0])).unwrap();
    let signer = params("signer").signed_by(&keys[2], &Issuer::new(params("between"), &keys[1])).unwrap();
    let files = [("cert", signer.pem() + &between.pem()), ("key", keys[2].serialize_pem()), ("root", root.pem())];
    let path = |name: &str| folder.join(format!("ca-{name}.pem")).to_string_lossy().into_owned();
    files.iter().for_each(|(name, text)| std::fs::write(path(name), text).unwrap());
    ["--ca-cert".to_owned(), path("cert"), "--ca-key".to_owned(), path("key"), "--ca-root".to_owned(), path("root")]
}

#[tokio::test]
async fn workloads_believe_the_root_above() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = write_authority(folder.path()).to_vec();
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let origin = Origin::says("here").await;
    let mesh = Mesh::start(&control, origin.address()).await;
    assert_eq!(mesh.edge.get("/who").await.text(), "here");
    let line = mesh.inner.logged("/who").await;
    assert_eq!(line["peer_identity"], "spiffe://weir.local/ns/default/sa/edge");
    let authority = control.get("authority").await;
    assert_eq!((authority["roots"].as_array().unwrap().len(), &authority["roots"][0]["signs"]), (1, &json!(true)));
    let refused = control.ask("POST", "authority/rotation", "").await;
    assert!(refused.status == 409 && refused.text().contains("replace --ca-cert"), "{}", refused.text());
    assert!(!control.store().join("authority.json").exists(), "no root of our own");
}

#[tokio::test]
async fn what_would_not_be_believed_is_a_bad_start() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = write_authority(folder.path());
    let mut control =
        ControlPlane::start_with(ControlOptions { arguments: good.to_vec(), ..ControlOptions::default() }).await;
    write_authority(other.path());
    // The key, and then the root, of somebody else.
    for name in ["key", "root"] {
        control.kill().await;
        let path = folder.path().join(format!("ca-{name}.pem"));
        let before = std::fs::read(&path).unwrap();
        std::fs::copy(other.path().join(format!("ca-{name}.pem")), &path).unwrap();
        control.try_restart();
        assert!(!control.ended().await.success());
        let log = control.log();
        assert!(log.contains("what it signs is not believed by"), "{name}: {log}");
        assert!(!log.contains("PRIVATE"), "{log}");
        std::fs::write(&path, before).unwrap();
        control.restart().await;
    }
}
