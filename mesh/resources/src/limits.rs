//! Limits and defaults of this crate: value, unit and reason. The limits of a snapshot are in [`weir_model::limits`].

/// Largest file, in bytes: 20,000 routes of 800 bytes each.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// All files together, in bytes: parsed in a few seconds on one core.
pub const MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;

/// Documents in one file: four times the 5,000 routes of the performance budgets.
pub const MAX_DOCUMENTS: usize = 20_000;

/// Values (texts, numbers, lists, maps) in one document, aliases expanded: a plugin configuration of 1 MiB fits.
pub const MAX_VALUES: usize = 100_000;

/// Values in one list of objects: [`MAX_DOCUMENTS`] of 100 values each, which `weir get -o yaml` prints.
pub const MAX_LIST_VALUES: usize = 2_000_000;

/// Nested lists and maps: the deepest field of any kind is at level 12.
pub const MAX_DEPTH: usize = 64;

/// Bytes read from a bundle's schema, a recursive part each time it is met: twice the size of the largest manifest.
pub const MAX_SCHEMA_BYTES: usize = 512 * 1024;

/// Longest object name, in bytes (RFC 1123 subdomain, as in Kubernetes).
pub const MAX_OBJECT_NAME_BYTES: usize = 253;

/// Texts of one Secret, in bytes (limit of Kubernetes).
pub const MAX_SECRET_BYTES: usize = 1024 * 1024;

/// Longest label of a DNS name, and longest namespace, listener and port name, in bytes (RFC 1123).
pub const MAX_LABEL_BYTES: usize = 63;

/// Longest host name, in bytes (RFC 1123).
pub const MAX_HOSTNAME_BYTES: usize = 253;

/// Listeners of one Gateway (limit of the Gateway API).
pub const MAX_LISTENERS: usize = 64;

/// Addresses of one Gateway (limit of the Gateway API).
pub const MAX_ADDRESSES: usize = 16;

/// Entries of each list of a CORS filter (limit of the Gateway API).
pub(crate) const MAX_CORS_ENTRIES: usize = 64;

/// Bytes of a gRPC service or method in a match (limit of the Gateway API).
pub(crate) const MAX_GRPC_NAME_BYTES: usize = 1024;

/// Host names of one HTTPRoute (limit of the Gateway API).
pub const MAX_HOSTNAMES: usize = 16;

/// Parents of one HTTPRoute (limit of the Gateway API).
pub const MAX_PARENTS: usize = 32;

/// Rules of one HTTPRoute (limit of the Gateway API).
pub const MAX_RULES: usize = 16;

/// Matches of one rule (limit of the Gateway API: 64 per rule, 128 per route).
pub const MAX_RULE_MATCHES: usize = 64;

/// Longest name of a header or query parameter, in bytes (limit of the Gateway API).
pub const MAX_MATCH_NAME_BYTES: usize = 256;

/// Longest value of a header or query parameter in a match or modifier, in bytes (limit of the Gateway API).
pub const MAX_MATCH_VALUE_BYTES: usize = 4_096;

/// Headers of one list (set, add, remove) in one header modifier (limit of the Gateway API).
pub const MAX_HEADER_EDITS: usize = 16;

/// Ports of one ServiceEntry: far above real use.
pub const MAX_PORTS: usize = 64;

/// Targets of one Filter or BackendTrafficPolicy (limit of the Gateway API for policy targets).
pub const MAX_TARGET_REFS: usize = 16;

/// CA references of one BackendTLSPolicy (limit of the Gateway API).
pub const MAX_CA_REFS: usize = 8;

/// Subject alternative names of one BackendTLSPolicy (limit of the Gateway API).
pub const MAX_SUBJECT_ALT_NAMES: usize = 5;

/// Longest URI of a subject alternative name, in bytes (limit of the Gateway API).
pub const MAX_URI_BYTES: usize = 253;

/// Rules of one AuthorizationPolicy: each is evaluated for each request.
pub const MAX_POLICY_RULES: usize = 256;

/// Largest edit distance of a suggestion: `reviewz` to `reviews`, but not `api` to `web`.
pub const MAX_SUGGESTION_EDITS: usize = 3;

/// Values or fields listed in one hint; a longer list would be hard to read.
pub const MAX_HINT_CHOICES: usize = 16;

/// Longest user text quoted in a diagnostic, in characters.
pub const MAX_QUOTED_CHARACTERS: usize = 80;

/// Warnings of one compilation; each costs the parsing of a document for its position.
pub const MAX_WARNINGS: usize = 100;

/// Routes that one warning names; more would be hard to read.
pub const MAX_NAMED_ROUTES: usize = 3;

/// Targets of one `routing` Filter that are compared with its routes; a Filter of 64 rules has room for four each.
pub const MAX_CHECKED_TARGETS: usize = 256;
