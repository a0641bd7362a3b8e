//! Reads allow and deny rules from the configuration.

use weir_sdk::config::FieldReader;
use weir_sdk::matching::{self, PathMatch};
use weir_sdk::path;

use super::names::check_header_name;
use crate::identity_match::{ClaimMatch, ClaimValue, IdentityMatch};
use crate::peer::{IpBlock, PrincipalMatch};
use crate::rules::{HeaderMatch, Rule, ValueMatch};

/// The longest name of a rule, in bytes. The log line of each denial has the name.
const MAX_RULE_NAME: usize = 63;

/// The action of a rule.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Allow,
    Deny,
}

pub(super) fn read_rule(fields: &mut FieldReader, earlier_names: &[String]) -> (Effect, Rule) {
    let name = fields.required_text("name");
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.is_empty() && (name.len() > MAX_RULE_NAME || !name.bytes().all(legal)) {
        fields.report("name", "may hold at most 63 of a-z, 0-9 and -");
    }
    if earlier_names.contains(&name) && !name.is_empty() {
        fields.report("name", "is the name of an earlier rule");
    }
    let effect = match fields.required_text("action").as_str() {
        "allow" => Effect::Allow,
        "deny" => Effect::Deny,
        "" => Effect::Deny, // Already reported.
        _ => {
            fields.report("action", "must be allow or deny");
            Effect::Deny
        }
    };
    let anonymous = fields.flag("anonymous");
    if anonymous && matches!(effect, Effect::Deny) {
        fields.report("anonymous", "is for allow rules; a deny rule applies to every consumer");
    }
    let methods = matching::methods(fields);
    let paths = fields.objects("paths").into_iter().filter_map(read_path).collect();
    let headers = fields.objects("headers").into_iter().filter_map(read_header).collect();
    let principals = fields.texts("principals");
    let principals: Vec<_> =
        principals.iter().filter_map(|text| report_error(fields, "principals", read_principal(text))).collect();
    let ip_blocks = fields.texts("ipBlocks");
    let ip_blocks: Vec<_> =
        ip_blocks.iter().filter_map(|text| report_error(fields, "ipBlocks", IpBlock::parse(text))).collect();
    let identity = read_identity(fields);
    if anonymous && !identity.is_empty() {
        fields
            .report("anonymous", "requires no credentials, so it cannot be combined with consumers, issuers or claims");
    }
    fields.close();
    (effect, Rule { name, anonymous, methods, paths, headers, principals, ip_blocks, identity })
}

fn read_principal(text: &str) -> Result<PrincipalMatch, &'static str> {
    PrincipalMatch::parse(text).ok_or("must be a workload like /ns/shop/sa/web, or a namespace like /ns/shop/*")
}

fn report_error<T>(fields: &FieldReader, name: &str, read: Result<T, &'static str>) -> Option<T> {
    read.map_err(|reason| fields.report(name, reason)).ok()
}

fn read_path(mut fields: FieldReader) -> Option<PathMatch> {
    let path = PathMatch::read(&mut fields);
    let is_plain = |text: &str| text.contains(['?', '#']) || path::has_one_reading(text.as_bytes());
    if !path.as_ref().is_none_or(|path| is_plain(path.as_str())) {
        fields.report_self(
            "must be in normal form: without %XX, //, /./, /../, ;, \\ and spaces at the ends of a segment",
        );
    }
    fields.close();
    path
}

fn read_header(mut fields: FieldReader) -> Option<HeaderMatch> {
    let name = fields.required_text("name").to_ascii_lowercase();
    check_header_name(&fields, "name", &name);
    let value = match (fields.text("exact"), fields.text("prefix"), fields.flag("present")) {
        (Some(exact), None, false) => Some(ValueMatch::Exact(exact)),
        (None, Some(prefix), false) => Some(ValueMatch::Prefix(prefix)),
        (None, None, true) => Some(ValueMatch::Present),
        _ => {
            fields.report_self("needs exactly one of exact, prefix, present: true");
            None
        }
    };
    fields.close();
    Some(HeaderMatch { name, value: value? })
}

fn read_identity(fields: &mut FieldReader) -> IdentityMatch {
    let (consumers, issuers) = (fields.texts("consumers"), fields.texts("issuers"));
    let claims = fields.objects("claims").into_iter().filter_map(read_claim).collect();
    IdentityMatch { consumers, issuers, claims }
}

fn read_claim(mut fields: FieldReader) -> Option<ClaimMatch> {
    let claim = fields.required_text("claim");
    let (exact, one_of) = (fields.text("exact"), fields.texts("oneOf"));
    let value = match (exact, one_of.is_empty(), fields.text("contains"), fields.flag("present")) {
        (Some(exact), true, None, false) => Some(ClaimValue::OneOf(vec![exact])),
        (None, false, None, false) => Some(ClaimValue::OneOf(one_of)),
        (None, true, Some(element), false) => Some(ClaimValue::Contains(element)),
        (None, true, None, true) => Some(ClaimValue::Present),
        _ => {
            fields.report_self("needs exactly one of exact, oneOf, contains, present: true");
            None
        }
    };
    fields.close();
    Some(ClaimMatch { claim, value: value? })
}
