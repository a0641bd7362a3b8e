//! `BackendTLSPolicy`: validation.

use std::collections::BTreeMap;
use std::sync::Arc;

use gateway_api::backendtlspolicies::{
    BackendTlsPolicySpec, BackendTlsPolicyTargetRefs, BackendTlsPolicyValidation,
    BackendTlsPolicyValidationCaCertificateRefs, BackendTlsPolicyValidationSubjectAltNames,
    BackendTlsPolicyValidationSubjectAltNamesType,
};
use weir_model::{SubjectAltName, TlsVersion};

use crate::limits::{MAX_CA_REFS, MAX_SUBJECT_ALT_NAMES, MAX_TARGET_REFS, MAX_URI_BYTES};
use crate::resource::field::is_bounded;
use crate::resource::service_ref::{CORE_SERVICE, SERVICE_ENTRY, is_service, renamed_service_hint};
use crate::spec::{Kind, WEIR_GROUP};
use crate::suggest::{hint, quoted};
use crate::syntax::name;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The option with the lowest version of TLS.
const MIN_VERSION: &str = "weir.dev/tls-min-version";
/// The option with the highest version of TLS.
const MAX_VERSION: &str = "weir.dev/tls-max-version";
/// The CAs of the machine.
const SYSTEM: &str = "System";

/// A validated BackendTLSPolicy.
#[derive(Debug)]
pub(crate) struct BackendTlsPolicy {
    /// The targets, at least one.
    pub(crate) targets: Vec<TlsTarget>,
    /// The CAs.
    pub(crate) trust: PolicyTrust,
    /// The server name (SNI).
    pub(crate) hostname: Arc<str>,
    /// The names of which the certificate must have one; at least one.
    pub(crate) names: Vec<SubjectAltName>,
    /// The lowest version of TLS.
    pub(crate) min_version: TlsVersion,
    /// The highest version of TLS.
    pub(crate) max_version: TlsVersion,
}

/// A Service, or one of its ports.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TlsTarget {
    /// The Service's name.
    pub(crate) service: String,
    /// The name or the number of a port; `None` for all ports.
    pub(crate) section: Option<String>,
}

/// The CAs of a policy.
#[derive(Debug)]
pub(crate) enum PolicyTrust {
    /// Those of the machine that the proxy runs on.
    System,
    /// Those of ConfigMaps and Secrets, by kind and name; at least one.
    References(Vec<(Kind, String)>),
}

/// Validates a BackendTLSPolicy.
pub(crate) fn check(
    spec: BackendTlsPolicySpec,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<BackendTlsPolicy> {
    let BackendTlsPolicySpec { options, target_refs, validation } = spec;
    let BackendTlsPolicyValidation { ca_certificate_refs, hostname, subject_alt_names, well_known_ca_certificates } =
        validation;
    let targets = check_targets(target_refs, &path.field("targetRefs"), errors);
    let at = path.field("validation");
    if let Err(error) = name::hostname(&hostname) {
        errors.add(&at.field("hostname"), error.reason, "write the host name that is in the server's certificate");
    }
    let trust =
        check_trust(ca_certificate_refs.unwrap_or_default(), well_known_ca_certificates.as_deref(), &at, errors);
    let hostname: Arc<str> = Arc::from(hostname);
    let names = subject_alt_names.unwrap_or_default();
    let names = match names.is_empty() {
        true => Some(vec![SubjectAltName::Dns(Arc::clone(&hostname))]),
        false => check_names(names, &at.field("subjectAltNames"), errors),
    };
    let (min_version, max_version) = check_options(&options.unwrap_or_default(), &path.field("options"), errors)?;
    Some(BackendTlsPolicy { targets: targets?, trust: trust?, hostname, names: names?, min_version, max_version })
}

fn check_targets(
    targets: Vec<BackendTlsPolicyTargetRefs>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<TlsTarget>> {
    if targets.is_empty() {
        errors.add(path, "no target", "name a Service");
    }
    if !is_bounded(&targets, MAX_TARGET_REFS, path, errors) {
        return None;
    }
    let mut checked: Vec<TlsTarget> = Vec::with_capacity(targets.len());
    for (index, BackendTlsPolicyTargetRefs { group, kind, name, section_name }) in targets.into_iter().enumerate() {
        let at = path.entry(index);
        if let Some(hint) = renamed_service_hint(&group, &kind) {
            errors.add(&at.field("kind"), format!("no kind {} in group `{WEIR_GROUP}`", quoted(&kind)), hint);
        } else if !is_service(&group, &kind) {
            let reason = format!("{} of group {} cannot have a BackendTLSPolicy", quoted(&kind), quoted(&group));
            let hint =
                format!("write `group: \"\", kind: {CORE_SERVICE}`, or `group: {WEIR_GROUP}, kind: {SERVICE_ENTRY}`");
            errors.add(&at.field("kind"), reason, hint);
        }
        let target = TlsTarget { service: name, section: section_name };
        if checked.contains(&target) {
            errors.add(&at, format!("Service {} is there already", quoted(&target.service)), "remove one of the two");
        }
        checked.push(target);
    }
    Some(checked)
}

fn check_trust(
    references: Vec<BackendTlsPolicyValidationCaCertificateRefs>,
    well_known: Option<&str>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<PolicyTrust> {
    let list = path.field("caCertificateRefs");
    match well_known.filter(|well_known| !well_known.is_empty()) {
        Some(_) if !references.is_empty() => {
            let at = path.field("wellKnownCACertificates");
            errors.add(&at, "both `caCertificateRefs` and `wellKnownCACertificates`", "keep one of the two");
            None
        }
        Some(SYSTEM) => Some(PolicyTrust::System),
        Some(other) => {
            let at = path.field("wellKnownCACertificates");
            errors.add(&at, format!("{} is not supported", quoted(other)), format!("write `{SYSTEM}`"));
            None
        }
        None if references.is_empty() => {
            let reason = "neither `caCertificateRefs` nor `wellKnownCACertificates`";
            let hint = "add `caCertificateRefs: [{group: \"\", kind: ConfigMap, name: my-ca}]`, or \
                        `wellKnownCACertificates: System`";
            errors.add(path, reason, hint);
            None
        }
        None if !is_bounded(&references, MAX_CA_REFS, &list, errors) => None,
        None => Some(PolicyTrust::References(check_references(references, &list, errors))),
    }
}

fn check_references(
    references: Vec<BackendTlsPolicyValidationCaCertificateRefs>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Vec<(Kind, String)> {
    let mut checked = Vec::with_capacity(references.len());
    for (index, reference) in references.into_iter().enumerate() {
        let BackendTlsPolicyValidationCaCertificateRefs { group, kind, name } = reference;
        let known = [Kind::ConfigMap, Kind::Secret].into_iter().find(|known| known.name() == kind && group.is_empty());
        match known {
            Some(kind) => checked.push((kind, name)),
            None => {
                let reason = format!("{} of group {} has no CA certificates", quoted(&kind), quoted(&group));
                let hint = "write `group: \"\"` and `kind: ConfigMap` or `kind: Secret`";
                errors.add(&path.entry(index).field("kind"), reason, hint);
            }
        }
    }
    checked
}

fn check_names(
    names: Vec<BackendTlsPolicyValidationSubjectAltNames>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<SubjectAltName>> {
    if !is_bounded(&names, MAX_SUBJECT_ALT_NAMES, path, errors) {
        return None;
    }
    let mut checked = Vec::with_capacity(names.len());
    for (index, BackendTlsPolicyValidationSubjectAltNames { hostname, r#type, uri }) in names.into_iter().enumerate() {
        let at = path.entry(index);
        match (r#type, hostname, uri) {
            (BackendTlsPolicyValidationSubjectAltNamesType::Hostname, Some(hostname), None) => {
                match name::hostname(&hostname) {
                    Ok(()) => checked.push(SubjectAltName::Dns(Arc::from(hostname))),
                    Err(error) => {
                        errors.add(&at.field("hostname"), error.reason, "write a host name without wildcard");
                    }
                }
            }
            (BackendTlsPolicyValidationSubjectAltNamesType::Uri, None, Some(uri)) => {
                if is_uri(&uri) {
                    checked.push(SubjectAltName::Uri(Arc::from(uri)));
                } else {
                    let reason = format!("{} is not a URI", quoted(&uri));
                    errors.add(&at.field("uri"), reason, "write it with its scheme, as in `spiffe://mesh/ns/a/sa/b`");
                }
            }
            (BackendTlsPolicyValidationSubjectAltNamesType::Hostname, _, _) => {
                errors.add(&at, "not one `hostname`", "write `type: Hostname` with `hostname` alone");
            }
            (BackendTlsPolicyValidationSubjectAltNamesType::Uri, _, _) => {
                errors.add(&at, "not one `uri`", "write `type: URI` with `uri` alone");
            }
        }
    }
    Some(checked)
}

/// Returns true for a scheme, a colon and a rest of printable ASCII (RFC 3986 §3).
fn is_uri(text: &str) -> bool {
    let is_scheme = |scheme: &str| {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        scheme.bytes().next().is_some_and(|first| first.is_ascii_alphabetic()) && scheme.bytes().all(is_legal)
    };
    let is_rest = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    text.len() <= MAX_URI_BYTES && text.split_once(':').is_some_and(|(scheme, rest)| is_scheme(scheme) && is_rest(rest))
}

/// Returns the lowest and the highest version of TLS.
fn check_options(
    options: &BTreeMap<String, String>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<(TlsVersion, TlsVersion)> {
    let (mut min, mut max) = (Some(TlsVersion::V1_2), Some(TlsVersion::V1_3));
    for (option, value) in options {
        let at = path.field(option);
        let version = match value.as_str() {
            "1.2" => Some(TlsVersion::V1_2),
            "1.3" => Some(TlsVersion::V1_3),
            _ => None,
        };
        match option.as_str() {
            MIN_VERSION => min = version,
            MAX_VERSION => max = version,
            _ => {
                errors.add(&at, "unknown option", hint(option, [MIN_VERSION, MAX_VERSION], "the options are"));
                continue;
            }
        }
        if version.is_none() {
            errors.add(&at, format!("{} is not a version of TLS", quoted(value)), "write \"1.2\" or \"1.3\"");
        }
    }
    let versions = min.zip(max);
    if versions.is_some_and(|(min, max)| min > max) {
        errors.add(path, "the lowest version is above the highest", "swap them, or remove one of the two");
        return None;
    }
    versions
}
