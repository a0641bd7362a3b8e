//! Every bound and default of this crate, in one place: the number, its unit, and why it is that number. Bounds on what
//! a proxy can be told are in [`weir_model::limits`].

/// Largest file, in bytes: 20,000 routes of 800 bytes each.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// All files together, in bytes: what can be parsed in a few seconds on one core.
pub const MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;

/// Documents in one file: four times the 5,000 routes that the budgets are measured with.
pub const MAX_DOCUMENTS: usize = 20_000;

/// Values (texts, numbers, lists, maps) in one document, aliases expanded: a plugin's configuration of 1 MiB fits.
pub const MAX_VALUES: usize = 100_000;

/// Lists and maps inside each other: the deepest field of any kind is at 12.
pub const MAX_DEPTH: usize = 64;

/// Bytes that are read of a bundle's schema, what refers to itself as often as it is met: twice as large as a manifest.
pub const MAX_SCHEMA_BYTES: usize = 512 * 1024;

/// Longest object name, in bytes (RFC 1123 subdomain, as in Kubernetes).
pub const MAX_OBJECT_NAME_BYTES: usize = 253;

/// Longest label of a DNS name, and longest namespace, listener and port name, in bytes (RFC 1123).
pub const MAX_LABEL_BYTES: usize = 63;

/// Longest host name, in bytes (RFC 1123).
pub const MAX_HOSTNAME_BYTES: usize = 253;

/// Listeners of one Gateway (the Gateway API's bound).
pub const MAX_LISTENERS: usize = 64;

/// Addresses of one Gateway (the Gateway API's bound).
pub const MAX_ADDRESSES: usize = 16;

/// Host names of one HTTPRoute (the Gateway API's bound).
pub const MAX_HOSTNAMES: usize = 16;

/// Parents of one HTTPRoute (the Gateway API's bound).
pub const MAX_PARENTS: usize = 32;

/// Rules of one HTTPRoute (the Gateway API's bound).
pub const MAX_RULES: usize = 16;

/// Matches of one rule (the Gateway API's bound is 64 a rule, 128 a route).
pub const MAX_RULE_MATCHES: usize = 64;

/// Longest name of a header or query parameter, in bytes (the Gateway API's bound).
pub const MAX_MATCH_NAME_BYTES: usize = 256;

/// Longest value of a header or query parameter in a match or an edit, in bytes (the Gateway API's bound).
pub const MAX_MATCH_VALUE_BYTES: usize = 4_096;

/// Header edits of one kind (set, add, remove) in one filter (the Gateway API's bound).
pub const MAX_HEADER_EDITS: usize = 16;

/// Ports of one Service; no real one comes near.
pub const MAX_PORTS: usize = 64;

/// Targets of one Filter or BackendPolicy (the Gateway API's bound on policy targets).
pub const MAX_TARGET_REFS: usize = 16;

/// Rules of one AccessPolicy: each is looked at for each request.
pub const MAX_POLICY_RULES: usize = 256;

/// Most differences of a text to one that is proposed instead of it: `reviewz` for `reviews`, but not `api` for `web`.
pub const MAX_SUGGESTION_EDITS: usize = 3;

/// Allowed values or fields listed in one hint; more would bury the point.
pub const MAX_HINT_CHOICES: usize = 16;

/// Longest piece of somebody's text repeated in a refusal, in characters.
pub const MAX_QUOTED_CHARACTERS: usize = 80;
