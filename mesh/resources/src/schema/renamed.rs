//! Former names of kinds, fields and values. The schema rejects them, and the hint has the current name.
//! `upgrade_object` converts stored objects with this table.

use crate::spec::Kind;

/// A kind whose name has changed.
#[derive(Debug)]
pub(crate) struct RenamedKind {
    /// The former value of `kind`.
    pub(crate) old: &'static str,
    /// The kind.
    pub(crate) kind: Kind,
}

/// The kinds of the group `weir.dev` with former names. The name `Service` is also that of a core kind.
pub(crate) const RENAMED_KINDS: [RenamedKind; 3] = [
    RenamedKind { old: "Service", kind: Kind::ServiceEntry },
    RenamedKind { old: "BackendPolicy", kind: Kind::BackendTrafficPolicy },
    RenamedKind { old: "AccessPolicy", kind: Kind::AuthorizationPolicy },
];

/// A field or an enum value whose name has changed.
#[derive(Debug)]
pub(crate) struct Renamed {
    /// The former path: `spec.failure`, or `spec.mode=Shadow` for a value.
    pub(crate) path: &'static str,
    /// The current name of the field or value.
    pub(crate) new: &'static str,
}

const fn entry(path: &'static str, new: &'static str) -> Renamed {
    Renamed { path, new }
}

const AUTHORIZATION_POLICY: [Renamed; 3] = [
    entry("spec.rules[].workloads", "principals"),
    entry("spec.rules[].networks", "ipBlocks"),
    entry("spec.mode=Shadow", "DryRun"),
];

const FILTER: [Renamed; 8] = [
    entry("spec.failure", "failurePolicy"),
    entry("spec.failurePolicy=Open", "FailOpen"),
    entry("spec.failurePolicy=Closed", "FailClosed"),
    entry("spec.configText", "configString"),
    entry("spec.limits.callTime", "callTimeout"),
    entry("spec.limits.startTime", "startTimeout"),
    entry("spec.limits.sharedData", "sharedDataBytes"),
    entry("spec.limits.logPerSecond", "logBytesPerSecond"),
];

/// Returns the renamed fields and values of a kind. A value follows the field that it is in.
pub(crate) const fn of(kind: Kind) -> &'static [Renamed] {
    match kind {
        Kind::AuthorizationPolicy => &AUTHORIZATION_POLICY,
        Kind::Filter => &FILTER,
        Kind::Gateway
        | Kind::HttpRoute
        | Kind::GrpcRoute
        | Kind::TcpRoute
        | Kind::GatewayClass
        | Kind::ReferenceGrant
        | Kind::ServiceEntry
        | Kind::BackendTrafficPolicy
        | Kind::BackendTlsPolicy
        | Kind::ClientTrafficPolicy
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::Mesh => &[],
    }
}

/// Returns the hint for a former name.
pub(crate) fn renamed_hint(old: &str, new: &str) -> String {
    format!("`{old}` was renamed `{new}`")
}
