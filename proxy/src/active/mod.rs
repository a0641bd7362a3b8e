//! Active configurations: snapshots with compiled routes, live clusters and started plugins. `config` builds them,
//! every request reads one. A published one is immutable (invariants I4 and I5).
//!
//! ```text
//! Snapshot ─► build (synchronous: routes, clusters) ─► warm (modules, plugins, DNS) ─► ActiveConfig
//! ```
//!
//! Parts that are equal in the previous configuration are shared with it, so that their state survives the change.

mod warm;
mod module_loader;
mod fetch;
mod certificates;
mod upstream_tls;
mod build;
mod active_config;

pub(crate) use active_config::ActiveConfig;
pub(crate) use build::prepare;
pub(crate) use fetch::AuthenticatedControlPlane;
pub(crate) use module_loader::{ModuleLoader, ModuleLoaderOptions};
pub(crate) use warm::{OpenFailure, Warmer, WarmerOptions};
