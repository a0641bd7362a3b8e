//! Decides again whether a request in flight has access, after a change of AuthorizationPolicies
//! (`docs/decisions/021-access-that-ends.md`).
//!
//! ```text
//! request as its first policy saw it ─► route of the active configuration ─► its policies, in a chain of their own
//! ```

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::filter::{ActivePlugin, EndOfStream, Event, FilterStream, PluginId, SharedStream};
use crate::head::RequestHead;
use crate::limits::MAX_ACCESS_UNDECIDED;
use crate::route::Route;
use crate::worker::WorkerConfig;

/// The last decision on a stream.
#[derive(Default)]
pub(super) struct AccessState {
    /// The policies that allowed the stream; `None` for those of its chain.
    checked: RefCell<Option<Box<[PluginId]>>>,
    undecided_since: Cell<Option<Instant>>,
}

/// The decision on a request in flight.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AccessDecision {
    Allowed,
    /// Denied by the plugin of this name.
    Denied(String),
    /// To be decided later: the request has not reached its policies, or a policy failed.
    Undecided,
}

/// A request in flight, and the active configuration.
pub(super) struct InFlightRequest<'a> {
    pub(super) cell: &'a SharedStream,
    pub(super) connection: &'a Connection,
    pub(super) config: &'a WorkerConfig,
    /// The head as the downstream sent it, without headers.
    pub(super) target: RequestHead,
}

/// The result of calling the policies.
enum PolicyResult {
    Allowed,
    Denied(String),
    /// The policy of this name failed, or needs headers that are gone.
    Failed(String),
    /// The request waits for a filter before its policies.
    NotReached,
}

impl AccessState {
    /// Decides on a request with the active policies. A request that its last decision was made on with the same ones
    /// costs no call. One that cannot be decided on for [`MAX_ACCESS_UNDECIDED`] is denied.
    pub(super) fn check(&self, request: &InFlightRequest<'_>, now: Instant) -> AccessDecision {
        if request.cell.borrow().exchange.chain.has_local_reply() {
            return AccessDecision::Allowed; // It reaches no endpoint.
        }
        let Some(route) = request.route() else { return AccessDecision::Allowed };
        let policies = request.config.access_policies(&route);
        let ids: Box<[PluginId]> = policies.iter().map(ActivePlugin::id).collect();
        let is_checked = match &*self.checked.borrow() {
            Some(checked) => *checked == ids,
            None => request.cell.borrow().access_policies().eq(ids.iter().copied()),
        };
        if is_checked {
            return AccessDecision::Allowed;
        }
        match request.decide(&route, &policies) {
            PolicyResult::Allowed => {
                self.checked.replace(Some(ids));
                self.undecided_since.set(None);
                AccessDecision::Allowed
            }
            PolicyResult::Denied(plugin) => AccessDecision::Denied(plugin),
            PolicyResult::Failed(plugin) => {
                let since = self.undecided_since.get().unwrap_or(now);
                self.undecided_since.set(Some(since));
                match now.duration_since(since) >= MAX_ACCESS_UNDECIDED {
                    true => AccessDecision::Denied(plugin),
                    false => AccessDecision::Undecided,
                }
            }
            PolicyResult::NotReached => AccessDecision::Undecided,
        }
    }
}

impl InFlightRequest<'_> {
    /// Returns the route of the request in the active configuration.
    fn route(&self) -> Option<Arc<Route>> {
        let table = self.config.route_table(&self.connection.listener.name)?;
        if !table.matches_headers() {
            return table.find(&self.target).cloned();
        }
        let stream = self.cell.borrow();
        if let Some(input) = &stream.exchange.policy_input {
            let head = RequestHead { headers: input.headers(), ..self.target.clone() };
            return table.find(&head).cloned();
        }
        // The headers are gone, so the route that the request was sent by is looked up.
        let same = stream.exchange.stream_info.route.as_ref().and_then(|name| table.named(name));
        same.or_else(|| table.find(&self.target)).cloned()
    }

    /// Calls the policies, in a stream of their own, with the request as the first policy saw it.
    fn decide(&self, route: &Arc<Route>, policies: &[ActivePlugin]) -> PolicyResult {
        let mut info = self.connection.stream_info(Some(&route.model));
        let stream = self.cell.borrow();
        let head = match &stream.exchange.policy_input {
            Some(input) => {
                info.properties.clone_from(&input.properties);
                RequestHead { headers: input.headers(), ..input.target() }
            }
            None if stream.access_policies().next().is_some() => return PolicyResult::NotReached,
            // The stream began without policies, so its headers were not stored.
            None => {
                let needing = policies.iter().find(|policy| reads_headers(&policy.model.configuration));
                if let Some(policy) = needing {
                    return PolicyResult::Failed(policy.model.name.to_string());
                }
                self.target.clone()
            }
        };
        drop(stream);
        let chain = self.config.chain_of(policies);
        let probe = FilterStream::new(head, info, &chain);
        let mut probe = probe.borrow_mut();
        probe.on_event(Event::RequestHeaders(EndOfStream::No));
        let exchange = &probe.exchange;
        let result = match &exchange.error {
            Some(error) => PolicyResult::Failed(error.plugin().unwrap_or_default().to_owned()),
            None if exchange.chain.has_local_reply() => {
                PolicyResult::Denied(exchange.stream_info.replied_by.as_deref().unwrap_or_default().to_owned())
            }
            None => PolicyResult::Allowed,
        };
        probe.finish();
        result
    }
}

/// Returns true if the decision of a policy may depend on headers: it has credentials, or rules on headers. A dry run
/// decides nothing. `configuration` is that of the `auth` filter.
fn reads_headers(configuration: &[u8]) -> bool {
    const WITHOUT_HEADERS: [&str; 7] = ["name", "action", "anonymous", "principals", "ipBlocks", "methods", "paths"];
    let Ok(Value::Object(settings)) = serde_json::from_slice(configuration) else { return true };
    if settings.get("dryRun") == Some(&Value::Bool(true)) {
        return false;
    }
    let reads = |rule: &Value| match rule {
        Value::Object(rule) => rule.keys().any(|field| !WITHOUT_HEADERS.contains(&field.as_str())),
        _ => true,
    };
    settings.iter().any(|(field, value)| match (field.as_str(), value) {
        ("dryRun", _) => false,
        ("rules", Value::Array(rules)) => rules.iter().any(reads),
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_that_may_read_headers() {
        for (configuration, expected) in [
            (r#"{"rules": []}"#, false),
            (
                r#"{"rules": [{"name": "a", "action": "deny", "principals": ["/ns/a/*"], "paths": [{"exact": "/"}]}]}"#,
                false,
            ),
            (r#"{"rules": [{"name": "a", "action": "allow", "ipBlocks": ["10.0.0.0/8"], "methods": ["GET"]}]}"#, false),
            (r#"{"rules": [{"name": "a", "action": "allow", "headers": [{"name": "a", "present": true}]}]}"#, true),
            (r#"{"apiKeys": {}, "rules": []}"#, true),
            (r#"{"apiKeys": {}, "rules": [], "dryRun": true}"#, false),
            (r#"{"rules": [{"name": "a", "consumers": ["me"]}]}"#, true),
            (r#"{"rules": [1]}"#, true),
            ("", true),
        ] {
            assert_eq!(reads_headers(configuration.as_bytes()), expected, "{configuration}");
        }
    }
}
