//! Workload identities: the certificate and key of a workload, the trust bundle that it verifies peers with, and the
//! call to the control plane that signs the certificate. Used by both planes; contains no policy and reads no files.
//!
//! ```text
//! proxy: CertificateRequest ──── /weir.v1.Certificates/Sign ────► control plane: authorizes, signs
//!          the key stays   ◄──── chain, roots ───────────────────
//! ```

// Requests a certificate.
pub mod enroll;

// The gRPC service that signs certificates.
pub mod ca_proto;

// A workload's own identity, and mTLS with it.
pub mod workload_identity;

// TLS with servers that a CA has signed.
pub mod server_trust;

// Certificates of public listeners.
pub mod server_cert;

// Verifies a peer's certificate.
pub mod verify;

// The root certificates of a trust domain, and the crypto provider.
pub mod trust_bundle;

pub use enroll::{CertificateRequest, JoinToken};
pub use rustls::client::Resumption;
pub use rustls::{ClientConfig, ServerConfig, pki_types};
pub use server_cert::{CertificateError, ServerCertificate, server_tls_config};
pub use server_trust::{Authorities, client_tls_config, server_handshake_error};
pub use trust_bundle::{TrustBundle, crypto_provider};
pub use verify::{ClientAuth, PeerError, handshake_error, not_after, spiffe_id};
pub use workload_identity::WorkloadIdentity;
