//! Workload identities: who a workload is (its certificate and key), whom it believes (the roots of its trust domain), and
//! how it gets both from the control plane. Used by the proxy and by the control plane; no policy, no files.
//!
//! ```text
//! proxy: CertificateRequest ──── /weir.v1.Certificates/Sign ────► control plane: may it be that? ─► signs
//!          key stays here  ◄──── chain, roots ───────────────────
//! ```

// How an identity is asked for.
pub mod enrol;

// The call that it is asked for with.
pub mod wire;

// One's own identity, and TLS with it.
pub mod own;

// Certificates for the world.
pub mod https;

// Who is at the other end.
pub mod peer;

// The roots of a trust domain.
pub mod roots;

// Whom one may speak to without any of this.
pub mod plain;

pub use enrol::{CertificateRequest, JoinToken};
pub use https::{BadCertificate, ServerCertificate, https_config};
pub use own::WorkloadIdentity;
pub use peer::{PeerError, end_of, peer_of, reason_of};
pub use plain::is_this_machine;
pub use roots::{Roots, provider};
pub use rustls::{ClientConfig, ServerConfig, pki_types};
