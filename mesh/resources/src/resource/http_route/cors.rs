//! The filter `CORS` of a rule: the cross-origin requests that it allows (GEP-1767).

use std::sync::Arc;

use gateway_api::httproutes::HttpRouteRulesFiltersCors;
use weir_model::matcher::Regex;
use weir_model::{CorsPolicy, StringMatch};

use crate::limits::MAX_CORS_ENTRIES;
use crate::resource::field::is_bounded;
use crate::suggest::quoted;
use crate::syntax::{SyntaxError, http, name};
use crate::yaml::{FieldErrors, FieldPathRef};

/// The seconds for which a client caches the answer of a preflight request (Gateway API).
const DEFAULT_MAX_AGE: i32 = 5;

/// Validates the settings of a CORS filter.
pub(super) fn check(
    raw: HttpRouteRulesFiltersCors,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<CorsPolicy> {
    let HttpRouteRulesFiltersCors {
        allow_credentials,
        allow_headers,
        allow_methods,
        allow_origins,
        expose_headers,
        max_age,
    } = raw;
    let origins = check_origins(&allow_origins.unwrap_or_default(), &path.field("allowOrigins"), errors);
    let header = |text: &str| http::header_name(text).map(drop);
    let methods = check_list(&allow_methods.unwrap_or_default(), method, &path.field("allowMethods"), errors);
    let headers = check_list(&allow_headers.unwrap_or_default(), header, &path.field("allowHeaders"), errors);
    let exposed = check_list(&expose_headers.unwrap_or_default(), header, &path.field("exposeHeaders"), errors);
    let max_age = max_age.unwrap_or(DEFAULT_MAX_AGE);
    if max_age < 1 {
        errors.add(&path.field("maxAge"), format!("{max_age} seconds"), "use 1 or more, or leave it out for 5");
    }
    Some(CorsPolicy {
        allow_origins: origins?,
        allow_credentials: allow_credentials.unwrap_or_default(),
        allow_methods: methods?,
        allow_headers: headers?,
        expose_headers: exposed?,
        max_age: max_age.to_string().into(),
        forwards_other_preflights: false,
    })
}

fn check_origins(raw: &[String], path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Vec<StringMatch>> {
    if raw.is_empty() {
        errors.add(path, "missing", "add `allowOrigins`, as in `allowOrigins: [\"https://shop.example\"]`");
    }
    if raw.is_empty() || !is_bounded(raw, MAX_CORS_ENTRIES, path, errors) {
        return None;
    }
    let mut checked = Vec::with_capacity(raw.len());
    for (index, text) in raw.iter().enumerate() {
        match origin(text) {
            Ok(origin) => checked.push(origin),
            Err(error) => errors.add_syntax_error(&path.entry(index), error),
        }
    }
    Some(checked)
}

/// Parses an origin: `*`, or `http` or `https`, a host that may begin with a wildcard, and a port. Browsers omit the
/// default port of a scheme, so it is omitted here, too.
fn origin(text: &str) -> Result<StringMatch, SyntaxError> {
    let invalid = || {
        let hint = "write `*`, or scheme and host, as in `https://shop.example` or `https://*.shop.example:8443`";
        SyntaxError::new(format!("{} is not an origin", quoted(text)), hint)
    };
    let regex = |pattern: String| Regex::new(&pattern).map(StringMatch::Regex).map_err(|_| invalid());
    if text == "*" {
        return regex(".*".to_owned());
    }
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or_else(invalid)?;
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Err(invalid()),
    };
    let (host, port) = rest.find(':').map_or((rest, ""), |colon| rest.split_at(colon));
    let is_port = |digits: &str| digits.parse::<u16>().is_ok_and(|port| port > 0) && !digits.starts_with('+');
    if !port.is_empty() && !is_port(&port[1..]) {
        return Err(invalid());
    }
    let port = if port == default_port { "" } else { port };
    match host.strip_prefix('*') {
        Some("") => regex(format!("{scheme}://[^:/]+{port}")),
        Some(suffix) => {
            let domain =
                suffix.strip_prefix('.').filter(|domain| name::hostname(domain).is_ok()).ok_or_else(invalid)?;
            regex(format!("{scheme}://[^:/]+\\.{}{port}", domain.replace('.', "\\.")))
        }
        None if name::hostname(host).is_ok() => Ok(StringMatch::Exact(format!("{scheme}://{host}{port}").into())),
        None => Err(invalid()),
    }
}

fn method(text: &str) -> Result<(), SyntaxError> {
    if http::header_name(text).is_err() {
        let reason = format!("{} is not a method", quoted(text));
        return Err(SyntaxError::new(reason, "write it in upper case, as in `GET`, or `*` alone"));
    }
    Ok(())
}

/// Validates a list of names, or the wildcard alone, and returns it as the value of a header.
fn check_list(
    raw: &[String],
    check: impl Fn(&str) -> Result<(), SyntaxError>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Arc<str>> {
    if !is_bounded(raw, MAX_CORS_ENTRIES, path, errors) {
        return None;
    }
    for (index, text) in raw.iter().enumerate() {
        let at = path.entry(index);
        if text == "*" {
            if raw.len() > 1 {
                errors.add(&at, "`*` among other entries", "write `*` alone, or remove it");
            }
        } else if let Err(error) = check(text) {
            errors.add_syntax_error(&at, error);
        }
    }
    Some(raw.join(",").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_matches_as_browsers_send_it() {
        for (origin_text, request, expected) in [
            ("*", "null", true),
            ("https://shop.example", "https://shop.example", true),
            ("https://shop.example:443", "https://shop.example", true),
            ("HTTPS://Shop.example", "https://shop.example", true),
            ("https://shop.example", "http://shop.example", false),
            ("https://shop.example", "https://shop.example:8443", false),
            ("https://shop.example:8443", "https://shop.example:8443", true),
            ("https://*.shop.example", "https://a.shop.example", true),
            ("https://*.shop.example", "https://a.b.shop.example", true),
            ("https://*.shop.example", "https://shop.example", false),
            ("https://*.shop.example", "https://ashop.example", false),
            ("https://*.shop.example", "https://evil.example/.shop.example", false),
            ("https://*.shop.example", "https://a.shopXexample", false),
            ("http://*", "http://any.example", true),
            ("http://*", "http://any.example:8080", false),
        ] {
            assert_eq!(origin(origin_text).unwrap().matches(request.as_bytes()), expected, "{origin_text} {request}");
        }
    }

    #[test]
    fn invalid_origin_is_rejected() {
        for text in [
            "",
            "shop.example",
            "ftp://a",
            "https://",
            "https://a:0",
            "https://a:+1",
            "https://a:",
            "https://a/b",
            "https://a.*",
            "https://*a.example",
            "https://a*b",
            "**",
            "https://*.*",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }
}
