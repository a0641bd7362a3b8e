//! The default folder for state that survives a restart. The control plane stores its data there; the CLI reads the
//! first token from there.

use std::env;
use std::path::PathBuf;

/// Returns `$XDG_STATE_HOME/weir`, else `$HOME/.local/state/weir`, else `/var/lib/weir`.
///
/// The order is that of the XDG Base Directory Specification; relative values are ignored, as it demands. A daemon
/// without a home directory gets `/var/lib`.
pub fn state_dir() -> PathBuf {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_STATE_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    base.unwrap_or_else(|| PathBuf::from("/var/lib")).join("weir")
}
