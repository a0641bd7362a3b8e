//! Decodes the CORS policy of a route.

use prost::Message;
use weir_model::CorsPolicy;
use weir_model::limits::MAX_MATCHES;

use super::field_cursor::{FieldCursor, unsupported};
use super::value::text_match;
use crate::proto::{cors as pb, protobuf};

/// Decodes the settings of the CORS filter in a route.
pub(super) fn policy(config: &protobuf::Any, cursor: &FieldCursor<'_>) -> Option<CorsPolicy> {
    let pb::CorsPolicy {
        allow_origin_string_match,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        filter_enabled,
        shadow_enabled,
        allow_private_network_access,
        forward_not_matching_preflights,
    } = cursor.checked(pb::CorsPolicy::decode(&*config.value))?;
    unsupported!(cursor; filter_enabled, shadow_enabled, allow_private_network_access);
    let at = cursor.field("allow_origin_string_match");
    if allow_origin_string_match.len() > MAX_ORIGINS {
        at.reject("are too many", &format!("at most {MAX_ORIGINS}"));
    }
    let origins = allow_origin_string_match.into_iter().enumerate();
    let allow_origins = origins.filter_map(|(index, origin)| text_match(origin, &at.entry(index))).collect();
    let value = |text: String, field: &str| {
        if text.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            cursor.field(field).reject("is not the value of a header", "write names, separated by commas");
        }
        text.into()
    };
    Some(CorsPolicy {
        allow_origins,
        allow_credentials: allow_credentials.is_some_and(|allow| allow.value),
        allow_methods: value(allow_methods, "allow_methods"),
        allow_headers: value(allow_headers, "allow_headers"),
        expose_headers: value(expose_headers, "expose_headers"),
        max_age: value(max_age, "max_age"),
        forwards_other_preflights: forward_not_matching_preflights.is_none_or(|forward| forward.value),
    })
}

/// Origins of a policy.
const MAX_ORIGINS: usize = 4 * MAX_MATCHES;
