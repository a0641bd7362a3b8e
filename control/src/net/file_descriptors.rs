//! The limit on open file descriptors (`RLIMIT_NOFILE`), and the share of each listener. A listener that reaches its
//! share refuses connections, and the others are not affected.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::limits::{MAX_API_CONNECTIONS, MAX_MODULE_CONNECTIONS, MAX_STREAMS, MIN_FILE_DESCRIPTORS};

/// The maximum number of connections of each listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionShares {
    /// The API: a quarter of the file descriptors, at most [`MAX_API_CONNECTIONS`].
    pub(crate) api: usize,
    /// The plaintext listener of modules: an eighth, at most [`MAX_MODULE_CONNECTIONS`].
    pub(crate) modules: usize,
    /// The plaintext xDS listener: a quarter, at most [`MAX_STREAMS`].
    pub(crate) xds: usize,
    /// The xDS listener with mutual TLS: a quarter, at most [`MAX_STREAMS`]. An eighth is left for files, the store and
    /// compiling processes.
    pub(crate) xds_mtls: usize,
}

impl ConnectionShares {
    /// Raises the soft limit of this process to the hard limit, and returns the shares of it.
    pub(crate) fn raise_limit() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let mut current = limit.current;
        if limit.current != limit.maximum {
            match setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
                Ok(()) => current = limit.maximum,
                Err(error) => warn!(%error, "cannot raise the limit of open files (RLIMIT_NOFILE)"),
            }
        }
        let descriptors = current.and_then(|current| usize::try_from(current).ok()).unwrap_or(usize::MAX);
        if descriptors < MIN_FILE_DESCRIPTORS {
            warn!(descriptors, "few files may be open; raise the hard limit (ulimit -Hn, LimitNOFILE=)");
        }
        Self::of(descriptors)
    }

    fn of(descriptors: usize) -> Self {
        let share = |divisor: usize, most: usize| (descriptors / divisor).clamp(1, most);
        Self {
            api: share(4, MAX_API_CONNECTIONS),
            modules: share(8, MAX_MODULE_CONNECTIONS),
            xds: share(4, MAX_STREAMS),
            xds_mtls: share(4, MAX_STREAMS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_leave_descriptors_for_other_files() {
        for descriptors in [128, 256, 1_024, 4_096, 65_536, 1_048_576] {
            let ConnectionShares { api, modules, xds, xds_mtls } = ConnectionShares::of(descriptors);
            assert!(api + modules + xds + xds_mtls <= descriptors * 7 / 8, "{descriptors}");
            assert!(api <= descriptors / 4 && xds == xds_mtls && xds >= api, "{descriptors}");
        }
        let unlimited = ConnectionShares::of(usize::MAX);
        assert_eq!((unlimited.api, unlimited.xds), (MAX_API_CONNECTIONS, MAX_STREAMS));
    }
}
