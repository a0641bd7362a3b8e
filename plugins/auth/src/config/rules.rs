//! Allow and deny rules.

use weir_sdk::config::Fields;
use weir_sdk::matching::{self, PathMatch};

use super::check_header_name;
use crate::path;
use crate::peer::{Network, WorkloadMatch};
use crate::rules::{HeaderMatch, Rule, ValueMatch};
use crate::who::{ClaimMatch, ClaimValue, Who};

/// The longest name of a rule, in bytes: it stands in every refusal's log line.
const MAX_RULE_NAME: usize = 63;

/// What a rule does.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Allow,
    Deny,
}

pub(super) fn read_rule(fields: &mut Fields, earlier_names: &[String]) -> (Effect, Rule) {
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
        fields.report("anonymous", "is for allow rules; a deny rule is against everybody");
    }
    let methods = matching::methods(fields);
    let paths = fields.objects("paths").into_iter().filter_map(read_path).collect();
    let headers = fields.objects("headers").into_iter().filter_map(read_header).collect();
    let workloads = fields.texts("workloads");
    let workloads: Vec<_> =
        workloads.iter().filter_map(|text| reported(fields, "workloads", read_workload(text))).collect();
    let networks = fields.texts("networks");
    let networks: Vec<_> =
        networks.iter().filter_map(|text| reported(fields, "networks", Network::read(text))).collect();
    let who = read_who(fields);
    if anonymous && !who.is_anybody() {
        fields.report("anonymous", "asks nobody who they are, so it cannot stand beside consumers, issuers or claims");
    }
    fields.close();
    (effect, Rule { name, anonymous, methods, paths, headers, workloads, networks, who })
}

fn read_workload(text: &str) -> Result<WorkloadMatch, &'static str> {
    WorkloadMatch::read(text).ok_or("names a workload like /ns/shop/sa/web, or all of a namespace like /ns/shop/*")
}

fn reported<T>(fields: &Fields, name: &str, read: Result<T, &'static str>) -> Option<T> {
    read.map_err(|reason| fields.report(name, reason)).ok()
}

fn read_path(mut fields: Fields) -> Option<PathMatch> {
    let path = PathMatch::read(&mut fields);
    let is_plain = |text: &str| text.contains(['?', '#']) || path::readings(text.as_bytes()).len() == 1;
    if !path.as_ref().is_none_or(|path| is_plain(path.as_str())) {
        fields.report_self("must be written plainly: without %XX, //, /./, /../, ; and \\");
    }
    fields.close();
    path
}

fn read_header(mut fields: Fields) -> Option<HeaderMatch> {
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

fn read_who(fields: &mut Fields) -> Who {
    let (consumers, issuers) = (fields.texts("consumers"), fields.texts("issuers"));
    let claims = fields.objects("claims").into_iter().filter_map(read_claim).collect();
    Who { consumers, issuers, claims }
}

fn read_claim(mut fields: Fields) -> Option<ClaimMatch> {
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
