//! The workload identity of this proxy: obtained from the control plane, renewed at half of its lifetime, and stored
//! for the next start.
//!
//! ```text
//! stored? ─► serve with it ─► half of its lifetime is over ─► new key, certificate signed ─► swapped ─► stored
//! not stored, or expired: join token ──────────────────────────┘
//! ```

mod sds_server;
mod renew;
mod current;

pub(crate) use current::Identity;
pub(crate) use renew::{IdentityOptions, renew_forever, restore};
pub(crate) use sds_server::serve_secrets;
