//! Compilation of BackendTLSPolicies: the policy of each port, its CAs, and the client certificate of the Gateway.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic, in its own functions too")]

use std::sync::Arc;

use weir_model::{ClusterName, SecretName, ServerTls, ServerTrust, Snapshot, SubjectAltName, TlsVersion};
use weir_resources::{Compiler, SourceFile};

const SERVICE: &str = "
apiVersion: weir.dev/v1alpha1
kind: ServiceEntry
metadata: {name: shop}
spec: {ports: [{name: https, port: 443}, {name: admin, port: 8443}], endpoints: [{address: '127.0.0.1:9001', version: v1}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: one}
data: {ca.crt: '-----BEGIN CERTIFICATE----- one'}
---
apiVersion: v1
kind: Secret
metadata: {name: two}
type: kubernetes.io/tls
stringData: {tls.crt: '-----BEGIN CERTIFICATE-----', tls.key: 'PRIVATE KEY-----', ca.crt: '-----BEGIN CERTIFICATE----- two'}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: weir
  tls: {backend: {clientCertificateRef: {name: two}}}
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec: {parentRefs: [{name: web}], rules: [{backendRefs: [{name: shop, port: 443}]}]}
";

/// Returns a BackendTLSPolicy that was created on this day; `port` is a section name, or empty.
fn policy(name: &str, day: u8, port: &str) -> String {
    let section = if port.is_empty() { String::new() } else { format!(", sectionName: '{port}'") };
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: {name}, \
         creationTimestamp: '2026-01-0{day}T00:00:00Z'}}\nspec:\n  targetRefs: [{{group: '', kind: Service, name: \
         shop{section}}}]\n  validation: {{hostname: {name}.example, caCertificateRefs: [{{group: '', kind: \
         ConfigMap, name: one}}, {{group: '', kind: Secret, name: two}}]}}\n  options: {{weir.dev/tls-min-version: \
         '1.3'}}\n"
    )
}

fn compiled(policies: &[String]) -> Arc<Snapshot> {
    let text = format!("{SERVICE}{}", policies.concat());
    let file = SourceFile { path: "mesh.yaml".into(), text: text.into() };
    match Compiler::new().compile(&[file]) {
        Ok(compiled) => compiled.snapshot,
        Err(diagnostics) => panic!("{diagnostics:#?}"),
    }
}

fn tls<'a>(snapshot: &'a Snapshot, cluster: &str) -> Option<&'a ServerTls> {
    snapshot.clusters[&ClusterName::new(cluster).unwrap()].tls.as_ref().and_then(|tls| tls.server())
}

#[test]
fn policy_compiles_to_tls_of_all_ports_and_versions() {
    let snapshot = compiled(&[policy("a", 1, "")]);
    let authorities = SecretName::new("default/backend-tls-policy/a").unwrap();
    let of_route = tls(&snapshot, "default/shop:443").unwrap();
    assert_eq!(of_route.sni.as_deref(), Some("a.example"));
    assert_eq!(of_route.names, [SubjectAltName::Dns("a.example".into())]);
    assert_eq!(of_route.trust, ServerTrust::Secret(authorities.clone()));
    assert_eq!((of_route.min_version, of_route.max_version), (TlsVersion::V1_3, TlsVersion::V1_3));
    assert_eq!(of_route.client_certificate.as_ref().unwrap().as_str(), "default/two");
    assert_eq!(tls(&snapshot, "default/shop:443@v1"), Some(of_route));
    let unrouted = tls(&snapshot, "default/shop:8443").unwrap();
    assert_eq!(unrouted.client_certificate, None, "no route of the Gateway leads there");
    let bundle = snapshot.secrets[&authorities].authorities().unwrap();
    assert_eq!(bundle, "-----BEGIN CERTIFICATE----- one\n-----BEGIN CERTIFICATE----- two\n");
    assert!(snapshot.secrets[&SecretName::new("default/two").unwrap()].certificate().is_some());
    let plain = compiled(&[]);
    assert_eq!((tls(&plain, "default/shop:443"), plain.secrets.len()), (None, 0));
}

#[test]
fn policy_of_a_port_then_the_older_one_then_the_first_by_name_applies() {
    for (policies, https, admin) in [
        (vec![policy("a", 2, ""), policy("b", 1, "")], "b", "b"),
        (vec![policy("b", 1, ""), policy("a", 1, "")], "a", "a"),
        (vec![policy("a", 1, ""), policy("b", 2, "admin")], "a", "b"),
        (vec![policy("a", 1, ""), policy("b", 2, "443")], "b", "a"),
    ] {
        let snapshot = compiled(&policies);
        let name = |port: &str| tls(&snapshot, &format!("default/shop:{port}")).unwrap().sni.clone().unwrap();
        assert_eq!((&*name("443"), &*name("8443")), (&*format!("{https}.example"), &*format!("{admin}.example")));
    }
}
