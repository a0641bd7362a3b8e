//! `ClientTrafficPolicy`: validation.

use std::sync::Arc;

use weir_model::limits::{MAX_TARGET_BYTES, MAX_UPGRADES};
use weir_model::{ByteSize, DownstreamProtocolOptions, UpgradeProtocol};

use crate::limits::MAX_TARGET_REFS;
use crate::resource::field::{check_size, is_bounded};
use crate::resource::protocol_options::{check_age, check_head, check_max_requests, check_optional, check_positive};
use crate::spec::{ClientHttp1Spec, ClientTimeouts, ClientTrafficPolicySpec, GATEWAY_GROUP, GatewayTargetRef, Kind};
use crate::suggest::quoted;
use crate::yaml::{FieldErrors, FieldPathRef};

/// A validated ClientTrafficPolicy.
#[derive(Debug)]
pub(crate) struct ClientTrafficPolicy {
    /// The targets; `None` for the whole mesh.
    pub(crate) targets: Option<Vec<GatewayTarget>>,
    /// The settings.
    pub(crate) options: DownstreamProtocolOptions,
}

/// A Gateway, or one of its listeners.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GatewayTarget {
    /// The Gateway's name.
    pub(crate) gateway: String,
    /// The listener's name; `None` for all.
    pub(crate) section: Option<String>,
}

/// Validates a ClientTrafficPolicy.
pub(crate) fn check(
    spec: ClientTrafficPolicySpec,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<ClientTrafficPolicy> {
    let ClientTrafficPolicySpec { target_refs, http1, upgrades, timeouts } = spec;
    let targets = match target_refs {
        None => None,
        Some(targets) => Some(check_targets(targets, &path.field("targetRefs"), errors)?),
    };
    let defaults = DownstreamProtocolOptions::default();
    let at = path.field("http1");
    let ClientHttp1Spec {
        max_head_bytes,
        max_headers,
        max_target_bytes,
        max_requests_per_connection,
        preserve_header_case,
    } = http1.unwrap_or_default();
    let head = check_head(max_head_bytes.as_deref(), max_headers, &at, errors);
    let target_bytes = match max_target_bytes {
        None => Some(defaults.target_bytes),
        Some(text) => check_target_bytes(&text, &at.field("maxTargetBytes"), errors),
    };
    let max_requests = check_max_requests(max_requests_per_connection, &at, errors);
    let upgrades = match upgrades {
        None => Some(defaults.upgrades),
        Some(names) => check_upgrades(&names, &path.field("upgrades"), errors),
    };
    let at = path.field("timeouts");
    let ClientTimeouts { request_head, stream_idle, connection_idle, connection_age } = timeouts.unwrap_or_default();
    let head_timeout = match request_head {
        None => Some(defaults.head_timeout),
        Some(text) => check_positive(&text, &at.field("requestHead"), errors),
    };
    let stream_idle = check_optional(stream_idle, defaults.stream_idle_timeout, &at.field("streamIdle"), errors);
    let idle = check_optional(connection_idle, defaults.idle_timeout, &at.field("connectionIdle"), errors);
    let max_age = check_age(connection_age, &at, errors);
    let options = DownstreamProtocolOptions {
        head: head?,
        target_bytes: target_bytes?,
        preserve_header_case: preserve_header_case.unwrap_or(defaults.preserve_header_case),
        max_requests,
        head_timeout: head_timeout?,
        stream_idle_timeout: stream_idle?.0,
        idle_timeout: idle?.0,
        max_age,
        upgrades: upgrades?,
    };
    Some(ClientTrafficPolicy { targets, options })
}

fn check_upgrades(
    names: &[String],
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Arc<[UpgradeProtocol]>> {
    if !is_bounded(names, MAX_UPGRADES, path, errors) {
        return None;
    }
    let mut upgrades = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match UpgradeProtocol::new(name) {
            Some(protocol) => upgrades.push(protocol),
            None => {
                let reason = format!("{} is no protocol that a request can switch to", quoted(name));
                errors.add(&path.entry(index), reason, "write its token, as in `websocket`");
            }
        }
    }
    (upgrades.len() == names.len()).then(|| upgrades.into())
}

fn check_target_bytes(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<u32> {
    let allowed = ByteSize(1)..=ByteSize(MAX_TARGET_BYTES.into());
    let size = check_size(text, &allowed, path, errors)?;
    u32::try_from(size.0).ok()
}

fn check_targets(
    targets: Vec<GatewayTargetRef>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<GatewayTarget>> {
    if targets.is_empty() {
        errors.add(path, "no target", "leave `targetRefs` out for the whole mesh, or name a Gateway");
    }
    if !is_bounded(&targets, MAX_TARGET_REFS, path, errors) {
        return None;
    }
    let mut checked = Vec::with_capacity(targets.len());
    for (index, GatewayTargetRef { group, kind, name, section_name }) in targets.into_iter().enumerate() {
        let at = path.entry(index);
        if kind != Kind::Gateway.name() {
            let reason = format!("{} cannot have a ClientTrafficPolicy", quoted(&kind));
            errors.add(&at.field("kind"), reason, "write `kind: Gateway`");
        }
        if let Some(group) = group.filter(|group| group != GATEWAY_GROUP) {
            let reason = format!("{} is not the group of Gateway", quoted(&group));
            errors.add(&at.field("group"), reason, format!("write `{GATEWAY_GROUP}`, or leave it out"));
        }
        let target = GatewayTarget { gateway: name, section: section_name };
        if checked.contains(&target) {
            errors.add(&at, format!("Gateway {} is there already", quoted(&target.gateway)), "remove one of the two");
        }
        checked.push(target);
    }
    Some(checked)
}
