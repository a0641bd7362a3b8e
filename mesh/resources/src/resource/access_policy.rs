//! `AccessPolicy`: who may do what, as the configuration of the `auth` filter.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use weir_model::limits::MAX_PLUGIN_CONFIGURATION_BYTES;

use crate::document::{Faults, Path};
use crate::grammar::name;
use crate::limits::MAX_POLICY_RULES;
use crate::resource::TargetKind;
use crate::resource::field::is_bounded;
use crate::resource::filter::check_targets;
use crate::suggest::quoted;
use crate::written::{
    AccessAction, AccessPolicySpec, AccessRule, ClaimSpec, HeaderSpec, PathSpec, PolicyMode, WorkloadRef,
};

/// Longest name of a rule, in bytes: as the `auth` filter takes it.
const MAX_RULE_NAME: usize = 63;

/// Who may do what.
#[derive(Debug)]
pub(crate) struct AccessPolicy {
    /// What it is for; `None` = the whole mesh.
    pub(crate) targets: Option<Vec<(TargetKind, String)>>,
    /// What the `auth` filter is told: JSON text.
    pub(crate) configuration: Arc<[u8]>,
}

/// Checks the fields of an AccessPolicy in a namespace.
pub(crate) fn check(
    spec: AccessPolicySpec,
    namespace: &str,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<AccessPolicy> {
    let AccessPolicySpec { target_refs, mode, credentials, rules } = spec;
    const TARGETS: [TargetKind; 3] = [TargetKind::Gateway, TargetKind::HttpRoute, TargetKind::Service];
    let targets = match target_refs {
        None => None,
        Some(targets) => {
            Some(check_targets(targets, (&TARGETS, "an AccessPolicy"), &path.field("targetRefs"), faults)?)
        }
    };
    let asks_for_credentials =
        credentials.as_ref().is_some_and(|it| it.jwt.is_some() || it.api_keys.is_some() || it.basic.is_some());
    let rules = rules.unwrap_or_default();
    if !asks_for_credentials && rules.is_empty() {
        faults.add(path, "neither credentials nor rules", "add `rules`: without them everybody passes");
    }
    let list = path.field("rules");
    if !is_bounded(&rules, MAX_POLICY_RULES, &list, faults) {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    let mut written = Vec::with_capacity(rules.len());
    for (index, rule) in rules.into_iter().enumerate() {
        let at = list.entry(index);
        if names.contains(&rule.name) {
            faults.add(&at.field("name"), format!("there is a rule {} already", quoted(&rule.name)), "give it another");
        }
        names.push(rule.name.clone());
        written.push(check_rule(rule, (namespace, asks_for_credentials), &at, faults));
    }
    let mut configuration = credentials.map_or_else(|| json!({}), |it| serde_json::to_value(it).unwrap_or_default());
    configuration["rules"] = Value::Array(written);
    if mode == Some(PolicyMode::Shadow) {
        configuration["shadow"] = json!(true);
    }
    let configuration = configuration.to_string();
    if configuration.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let reason = format!("{} bytes as JSON", configuration.len());
        faults.add(path, reason, format!("use at most {MAX_PLUGIN_CONFIGURATION_BYTES}"));
    }
    Some(AccessPolicy { targets, configuration: Arc::from(configuration.into_bytes()) })
}

fn check_rule(
    rule: AccessRule,
    (namespace, asks_for_credentials): (&str, bool),
    path: &Path<'_>,
    faults: &mut Faults,
) -> Value {
    let AccessRule {
        name,
        action,
        anonymous,
        workloads,
        networks,
        consumers,
        issuers,
        claims,
        methods,
        paths,
        headers,
    } = rule;
    check_rule_name(&name, &path.field("name"), faults);
    let anonymous = anonymous.unwrap_or_default();
    if anonymous && action == AccessAction::Deny {
        faults.add(&path.field("anonymous"), "a deny rule is against everybody", "remove it");
    }
    let proofs = [("consumers", consumers.is_some()), ("issuers", issuers.is_some()), ("claims", claims.is_some())];
    for (field, _) in proofs.iter().filter(|(_, is_there)| *is_there) {
        if anonymous {
            faults.add(&path.field(field), "an anonymous rule asks for no credential", "remove one of the two");
        } else if !asks_for_credentials {
            faults.add(&path.field(field), "nobody is asked for credentials", "add `credentials`, or name `workloads`");
        }
    }
    let mut json = Map::new();
    json.insert("name".to_owned(), json!(name));
    json.insert("action".to_owned(), json!(if action == AccessAction::Allow { "allow" } else { "deny" }));
    if anonymous {
        json.insert("anonymous".to_owned(), json!(true));
    }
    check_claims(claims.as_deref().unwrap_or_default(), &path.field("claims"), faults);
    check_paths(paths.as_deref().unwrap_or_default(), &path.field("paths"), faults);
    check_headers(headers.as_deref().unwrap_or_default(), &path.field("headers"), faults);
    let workloads = workloads.map(|all| check_workloads(all, namespace, &path.field("workloads"), faults));
    for (index, network) in networks.iter().flatten().enumerate() {
        check_network(network, &path.field("networks").entry(index), faults);
    }
    for (field, value) in [
        ("workloads", json!(workloads)),
        ("networks", json!(networks)),
        ("consumers", json!(consumers)),
        ("issuers", json!(issuers)),
        ("claims", json!(claims)),
        ("methods", json!(methods)),
        ("paths", json!(paths)),
        ("headers", json!(headers)),
    ] {
        match &value {
            Value::Null => continue,
            Value::Array(entries) if entries.is_empty() => {
                faults.add(&path.field(field), "an empty list", "leave it out for all of them, or name some");
            }
            _ => {}
        }
        json.insert(field.to_owned(), value);
    }
    Value::Object(json)
}

fn check_rule_name(name: &str, path: &Path<'_>, faults: &mut Faults) {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_RULE_NAME || !name.bytes().all(is_legal) {
        let hint = format!("use up to {MAX_RULE_NAME} lower-case letters, digits and `-`");
        faults.add(path, format!("{} is not the name of a rule", quoted(name)), hint);
    }
}

/// As paths of their SPIFFE IDs: `/ns/shop/sa/web`, and `/ns/shop/*`.
fn check_workloads(workloads: Vec<WorkloadRef>, own: &str, path: &Path<'_>, faults: &mut Faults) -> Vec<String> {
    let mut paths = Vec::with_capacity(workloads.len());
    for (index, WorkloadRef { namespace, service_account }) in workloads.into_iter().enumerate() {
        let at = path.entry(index);
        if let Some(namespace) = &namespace {
            faults.check(&at.field("namespace"), name::label(namespace));
        }
        if let Some(account) = &service_account {
            faults.check(&at.field("serviceAccount"), name::object_name(account));
        }
        let namespace = namespace.as_deref().unwrap_or(own);
        paths.push(match service_account {
            Some(account) => format!("/ns/{namespace}/sa/{account}"),
            None => format!("/ns/{namespace}/*"),
        });
    }
    paths
}

fn check_network(text: &str, path: &Path<'_>, faults: &mut Faults) {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else {
        faults.add(path, format!("{} is not a network", quoted(text)), "write one like `10.0.0.0/8` or `fd00::/8`");
        return;
    };
    let (width, value) = match address {
        IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (128, u128::from(address)),
    };
    match bits.map_or(Some(width), |bits| bits.parse::<u32>().ok()) {
        Some(bits) if bits <= width && value.checked_shl(bits).unwrap_or(0) == 0 => {}
        Some(bits) if bits <= width => {
            faults.add(path, format!("{} has bits beyond its length", quoted(text)), "write its first address");
        }
        _ => faults.add(path, format!("{} has no such length", quoted(text)), format!("use 0 to {width} bits")),
    }
}

fn check_claims(claims: &[ClaimSpec], path: &Path<'_>, faults: &mut Faults) {
    for (index, ClaimSpec { claim: _, exact, one_of, contains, present }) in claims.iter().enumerate() {
        let said = [exact.is_some(), one_of.is_some(), contains.is_some(), *present == Some(true)];
        check_one_of(&said, "exact, oneOf, contains, present: true", &path.entry(index), faults);
    }
}

fn check_paths(paths: &[PathSpec], path: &Path<'_>, faults: &mut Faults) {
    for (index, PathSpec { exact, prefix }) in paths.iter().enumerate() {
        let at = path.entry(index);
        check_one_of(&[exact.is_some(), prefix.is_some()], "exact, prefix", &at, faults);
        for (field, text) in [("exact", exact), ("prefix", prefix)] {
            if text.as_ref().is_some_and(|text| !text.starts_with('/')) {
                faults.add(&at.field(field), "a path begins with `/`", "write it from the root: `/admin`");
            }
        }
    }
}

fn check_headers(headers: &[HeaderSpec], path: &Path<'_>, faults: &mut Faults) {
    for (index, HeaderSpec { name: _, exact, prefix, present }) in headers.iter().enumerate() {
        let said = [exact.is_some(), prefix.is_some(), *present == Some(true)];
        check_one_of(&said, "exact, prefix, present: true", &path.entry(index), faults);
    }
}

fn check_one_of(said: &[bool], fields: &str, path: &Path<'_>, faults: &mut Faults) {
    let count = said.iter().filter(|is_there| **is_there).count();
    if count != 1 {
        let reason = if count == 0 { "says nothing" } else { "says several things" };
        faults.add(path, reason, format!("write exactly one of {fields}"));
    }
}
