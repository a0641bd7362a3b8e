//! `AuthorizationPolicy`: validation, and conversion to the configuration of the `auth` filter.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use weir_model::limits::MAX_PLUGIN_CONFIGURATION_BYTES;

use crate::limits::MAX_POLICY_RULES;
use crate::resource::field::is_bounded;
use crate::resource::filter::{TargetKind, check_targets};
use crate::resource::secret_ref::SecretTemplate;
use crate::spec::{
    AuthorizationAction, AuthorizationPolicySpec, AuthorizationRule, AuthorizationTargetRef, ClaimSpec, HeaderSpec,
    PathSpec, PolicyMode, Principal, TargetRef,
};
use crate::suggest::quoted;
use crate::syntax::name;
use crate::yaml::{FieldErrors, FieldPathRef};

/// Longest name of a rule, in bytes (limit of the `auth` filter).
const MAX_RULE_NAME: usize = 63;

/// A validated AuthorizationPolicy.
#[derive(Debug)]
pub(crate) struct AuthorizationPolicy {
    /// The targets; `None` for the whole mesh.
    pub(crate) targets: Option<Vec<(TargetKind, String)>>,
    /// The configuration of the `auth` filter, as JSON text. References to Secrets are in it as written.
    pub(crate) configuration: Arc<[u8]>,
    /// The configuration, if it has references to Secrets.
    pub(crate) template: Option<SecretTemplate>,
}

/// Validates an AuthorizationPolicy of a namespace.
pub(crate) fn check(
    spec: AuthorizationPolicySpec,
    namespace: &str,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<AuthorizationPolicy> {
    let AuthorizationPolicySpec { target_refs, mode, credentials, rules } = spec;
    const TARGETS: [TargetKind; 4] =
        [TargetKind::Gateway, TargetKind::HttpRoute, TargetKind::GrpcRoute, TargetKind::Service];
    let targets = match target_refs {
        None => None,
        Some(targets) => {
            let targets =
                targets.into_iter().map(|AuthorizationTargetRef { group, kind, name }| TargetRef { group, kind, name });
            Some(check_targets(
                targets.collect(),
                &TARGETS,
                "an AuthorizationPolicy",
                &path.field("targetRefs"),
                errors,
            )?)
        }
    };
    let has_credentials = credentials.as_ref().is_some_and(|credentials| {
        credentials.jwt.is_some() || credentials.api_keys.is_some() || credentials.basic.is_some()
    });
    let rules = rules.unwrap_or_default();
    if !has_credentials && rules.is_empty() {
        errors.add(path, "neither credentials nor rules", "add `rules`: without them every request passes");
    }
    let list = path.field("rules");
    let scope = PolicyScope { namespace, has_credentials };
    if !is_bounded(&rules, MAX_POLICY_RULES, &list, errors) {
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    let mut written = Vec::with_capacity(rules.len());
    for (index, rule) in rules.into_iter().enumerate() {
        let at = list.entry(index);
        if names.contains(&rule.name) {
            errors.add(&at.field("name"), format!("there is a rule {} already", quoted(&rule.name)), "give it another");
        }
        names.push(rule.name.clone());
        written.push(check_rule(rule, &scope, &at, errors));
    }
    let mut configuration =
        credentials.map_or_else(|| json!({}), |credentials| serde_json::to_value(credentials).unwrap_or_default());
    let template = SecretTemplate::new(&configuration, &path.field("credentials"), errors);
    configuration["rules"] = Value::Array(written);
    if mode == Some(PolicyMode::DryRun) {
        configuration["dryRun"] = json!(true);
    }
    let template = template.map(|template| template.with_fields(configuration.clone()));
    let configuration = configuration.to_string();
    if configuration.len() > MAX_PLUGIN_CONFIGURATION_BYTES {
        let reason = format!("{} bytes as JSON", configuration.len());
        errors.add(path, reason, format!("use at most {MAX_PLUGIN_CONFIGURATION_BYTES}"));
    }
    Some(AuthorizationPolicy { targets, configuration: Arc::from(configuration.into_bytes()), template })
}

/// Settings of a policy that its rules depend on.
struct PolicyScope<'a> {
    /// The policy's namespace.
    namespace: &'a str,
    /// True if the policy requires a credential.
    has_credentials: bool,
}

fn check_rule(
    rule: AuthorizationRule,
    scope: &PolicyScope<'_>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Value {
    let AuthorizationRule {
        name,
        action,
        anonymous,
        principals,
        ip_blocks,
        consumers,
        issuers,
        claims,
        methods,
        paths,
        headers,
    } = rule;
    check_rule_name(&name, &path.field("name"), errors);
    let anonymous = anonymous.unwrap_or_default();
    if anonymous && action == AuthorizationAction::Deny {
        errors.add(&path.field("anonymous"), "a deny rule applies to every consumer", "remove it");
    }
    let proofs = [("consumers", consumers.is_some()), ("issuers", issuers.is_some()), ("claims", claims.is_some())];
    for (field, _) in proofs.iter().filter(|(_, is_set)| *is_set) {
        if anonymous {
            errors.add(&path.field(field), "an anonymous rule requires no credential", "remove one of the two");
        } else if !scope.has_credentials {
            errors.add(
                &path.field(field),
                "the policy requires no credentials",
                "add `credentials`, or use `principals`",
            );
        }
    }
    let mut json = Map::new();
    json.insert("name".to_owned(), json!(name));
    json.insert("action".to_owned(), json!(if action == AuthorizationAction::Allow { "allow" } else { "deny" }));
    if anonymous {
        json.insert("anonymous".to_owned(), json!(true));
    }
    check_claims(claims.as_deref().unwrap_or_default(), &path.field("claims"), errors);
    check_methods(methods.as_deref().unwrap_or_default(), &path.field("methods"), errors);
    check_paths(paths.as_deref().unwrap_or_default(), &path.field("paths"), errors);
    check_headers(headers.as_deref().unwrap_or_default(), &path.field("headers"), errors);
    let principals = principals.map(|all| check_principals(all, scope.namespace, &path.field("principals"), errors));
    for (index, block) in ip_blocks.iter().flatten().enumerate() {
        check_ip_block(block, &path.field("ipBlocks").entry(index), errors);
    }
    // The configuration of the `auth` filter has the field names of the policy.
    for (field, value) in [
        ("principals", json!(principals)),
        ("ipBlocks", json!(ip_blocks)),
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
                errors.add(&path.field(field), "an empty list", "leave it out for all of them, or name some");
            }
            _ => {}
        }
        json.insert(field.to_owned(), value);
    }
    Value::Object(json)
}

fn check_rule_name(name: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    let is_legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > MAX_RULE_NAME || !name.bytes().all(is_legal) {
        let hint = format!("use up to {MAX_RULE_NAME} lower-case letters, digits and `-`");
        errors.add(path, format!("{} is not the name of a rule", quoted(name)), hint);
    }
}

/// Returns the workloads as path patterns of SPIFFE IDs: `/ns/shop/sa/web`, and `/ns/shop/*`.
fn check_principals(
    principals: Vec<Principal>,
    own: &str,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Vec<String> {
    let mut paths = Vec::with_capacity(principals.len());
    for (index, Principal { namespace, service_account }) in principals.into_iter().enumerate() {
        let at = path.entry(index);
        if let Some(namespace) = &namespace {
            errors.check(&at.field("namespace"), name::label(namespace));
        }
        if let Some(account) = &service_account {
            errors.check(&at.field("serviceAccount"), name::object_name(account));
        }
        let namespace = namespace.as_deref().unwrap_or(own);
        paths.push(match service_account {
            Some(account) => format!("/ns/{namespace}/sa/{account}"),
            None => format!("/ns/{namespace}/*"),
        });
    }
    paths
}

fn check_ip_block(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let Ok(address) = address.parse::<IpAddr>() else {
        errors.add(path, format!("{} is not a network", quoted(text)), "write one like `10.0.0.0/8` or `fd00::/8`");
        return;
    };
    let (width, value) = match address {
        IpAddr::V4(address) => (32, u128::from(u32::from(address)) << 96),
        IpAddr::V6(address) => (128, u128::from(address)),
    };
    match bits.map_or(Some(width), |bits| bits.parse::<u32>().ok()) {
        Some(bits) if bits <= width && value.checked_shl(bits).unwrap_or(0) == 0 => {}
        Some(bits) if bits <= width => {
            errors.add(path, format!("{} has bits beyond its length", quoted(text)), "write its first address");
        }
        _ => errors.add(path, format!("{} has no such length", quoted(text)), format!("use 0 to {width} bits")),
    }
}

fn check_claims(claims: &[ClaimSpec], path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    for (index, ClaimSpec { claim: _, exact, one_of, contains, present }) in claims.iter().enumerate() {
        let is_set = [exact.is_some(), one_of.is_some(), contains.is_some(), *present == Some(true)];
        check_one_of(&is_set, "exact, oneOf, contains, present: true", &path.entry(index), errors);
    }
}

fn check_paths(paths: &[PathSpec], path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    for (index, PathSpec { exact, prefix }) in paths.iter().enumerate() {
        let at = path.entry(index);
        check_one_of(&[exact.is_some(), prefix.is_some()], "exact, prefix", &at, errors);
        for (field, text) in [("exact", exact), ("prefix", prefix)] {
            if text.as_ref().is_some_and(|text| !text.starts_with('/')) {
                errors.add(&at.field(field), "a path begins with `/`", "write it from the root: `/admin`");
            }
            if let Some(stem) = text.as_ref().and_then(|text| text.strip_suffix('*')) {
                let below = stem.trim_end_matches('/');
                let prefix = if below.is_empty() { "/" } else { below };
                let hint = format!("write `prefix: {prefix}`, which matches it and all paths below");
                errors.add(&at.field(field), "`*` has no meaning in a path, so that no request matches", hint);
            }
        }
    }
}

fn check_methods(methods: &[String], path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    for (index, method) in methods.iter().enumerate() {
        if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
            let reason = format!("{} matches no request: methods are case-sensitive", quoted(method));
            errors.add(&path.entry(index), reason, format!("write `{}`", method.to_ascii_uppercase()));
        }
    }
}

fn check_headers(headers: &[HeaderSpec], path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    for (index, HeaderSpec { name: _, exact, prefix, present }) in headers.iter().enumerate() {
        let is_set = [exact.is_some(), prefix.is_some(), *present == Some(true)];
        check_one_of(&is_set, "exact, prefix, present: true", &path.entry(index), errors);
    }
}

fn check_one_of(is_set: &[bool], fields: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    let count = is_set.iter().filter(|is_set| **is_set).count();
    if count != 1 {
        let reason = if count == 0 { "no condition" } else { "several conditions" };
        errors.add(path, reason, format!("write exactly one of {fields}"));
    }
}
