//! One client's subscription to one resource type: the names it subscribed to, the versions it has, and the response
//! that awaits its ACK. `ServerState` has one for each resource type.
//!
//! Most clients have all available resources, and most pushes change few of them. So a client that is in sync shares
//! the resource map of the set that it synced with (`synced_with`), and the next push only compares the two maps.
//!
//! ```text
//!              request                    on_sent                    on_ack
//!  unrequested ───────► pending update ───────────► awaiting ACK ───────────► in sync
//!                            ▲                                                   │
//!                            └───────── new resource set, other names ───────────┘
//! ```

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::mem::take;
use std::sync::Arc;

use crate::proto::Status;
use crate::protocol::{Protocol, RequestOutcome};
use crate::resource_set::{NamedResource, ResourceMap, VersionedResource};
use crate::resource_type::ResourceType;

/// One client's subscription to one resource type.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts about the stream")]
pub(crate) struct Subscription {
    /// True once the client has sent a request of this type.
    pub(crate) requested: bool,
    /// True while the client subscribes to all resources (`*`).
    pub(crate) wildcard: bool,
    /// Names that the client subscribes to.
    pub(crate) subscribed: BTreeSet<Arc<str>>,
    /// Resources that the client has. Those received on an earlier stream have a version and no content.
    pub(crate) client_versions: Arc<ResourceMap>,
    /// Names to send again although the client has the current version.
    pub(crate) resend: BTreeSet<Arc<str>>,
    /// Subscribed names that do not exist, of which the client was informed.
    pub(crate) reported_missing: BTreeSet<Arc<str>>,
    /// Nonce of the last response. Every request on the subscription repeats it.
    pub(crate) last_nonce: Option<String>,
    /// True until the client sends an ACK or NACK of the last response.
    pub(crate) awaiting_ack: bool,
    /// Names updated or removed by the last response.
    pub(crate) in_last_response: Vec<Arc<str>>,
    /// True when a response must be sent even if it updates nothing.
    pub(crate) response_due: bool,
    /// The available resources with which the client was in sync, since it last changed its subscription.
    synced_with: Option<Arc<ResourceMap>>,
    /// Names sent, removed or scheduled for a resend since then.
    changed_since_sync: BTreeSet<Arc<str>>,
}

/// The difference between the available resources and those of a client.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct PendingUpdate {
    /// Available and subscribed to, in a version that the client does not have.
    pub(crate) updated: Vec<NamedResource>,
    /// Subscribed to by name, not available, and not reported as missing yet.
    pub(crate) missing: Vec<Arc<str>>,
    /// At the client, and no longer available or subscribed to.
    pub(crate) removed: Vec<Arc<str>>,
}

/// The content of a response, before it is encoded.
#[derive(Debug)]
pub(crate) struct ResponseContent {
    /// New and changed resources.
    pub(crate) updated: Vec<NamedResource>,
    /// Names of resources that do not exist or were removed.
    pub(crate) removed: Vec<Arc<str>>,
    /// True when no removal remains to be sent after this response.
    pub(crate) is_complete: bool,
}

impl PendingUpdate {
    pub(crate) fn is_empty(&self) -> bool {
        self.updated.is_empty() && self.missing.is_empty() && self.removed.is_empty()
    }
}

impl Subscription {
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.subscribed.contains(name)
    }

    /// Forgets that the client is in sync, after a change of its subscription. The next update compares all resources.
    pub(crate) fn reset_sync(&mut self) {
        self.synced_with = None;
    }

    /// Schedules a resource to be sent although the client has the current version.
    pub(crate) fn schedule_resend(&mut self, name: Arc<str>) {
        self.changed_since_sync.insert(Arc::clone(&name));
        self.resend.insert(name);
    }

    /// Drops the client's versions of the names for which `keep` is false.
    pub(crate) fn retain_versions(&mut self, keep: impl Fn(&str) -> bool) {
        if self.client_versions.keys().any(|name| !keep(name)) {
            Arc::make_mut(&mut self.client_versions).retain(|name, _| keep(name));
        }
    }

    pub(crate) fn unsubscribe(&mut self, name: &str) {
        if name == "*" {
            self.wildcard = false;
            let subscribed = take(&mut self.subscribed);
            self.retain_versions(|name| subscribed.contains(name));
            self.subscribed = subscribed;
            return;
        }
        self.subscribed.remove(name);
        self.resend.remove(name);
        self.reported_missing.remove(name);
        if !self.wildcard && self.client_versions.contains_key(name) {
            Arc::make_mut(&mut self.client_versions).remove(name);
        }
    }

    /// Returns what the client needs to be in sync with the available resources. Empty until its first request.
    pub(crate) fn pending_update(&self, available: &Arc<ResourceMap>) -> PendingUpdate {
        let mut update = PendingUpdate::default();
        match &self.synced_with {
            _ if !self.requested => {}
            Some(synced) if Arc::ptr_eq(synced, available) && self.changed_since_sync.is_empty() => {}
            Some(synced) => {
                let diff = MapDiff { before: synced.iter().peekable(), after: available.iter().peekable() };
                let names: BTreeSet<&Arc<str>> = diff.chain(self.changed_since_sync.iter()).collect();
                names.into_iter().for_each(|name| self.diff_resource(name, available, &mut update));
            }
            None => {
                let at_client = self.client_versions.keys().filter(|name| !available.contains_key(*name));
                let subscribed = self.subscribed.iter().filter(|name| !available.contains_key(*name));
                let all: BTreeSet<&Arc<str>> = available.keys().chain(at_client).chain(subscribed).collect();
                all.into_iter().for_each(|name| self.diff_resource(name, available, &mut update));
            }
        }
        update
    }

    fn diff_resource(&self, name: &Arc<str>, available: &Arc<ResourceMap>, update: &mut PendingUpdate) {
        let (at_client, is_wanted) = (self.client_versions.get(name), self.wants(name));
        match (available.get_key_value(name), at_client) {
            (Some((name, current)), at_client) if is_wanted => {
                let is_current = at_client
                    .is_some_and(|at_client| Arc::ptr_eq(at_client, current) || at_client.version == current.version);
                if !is_current || self.resend.contains(name) {
                    update.updated.push((Arc::clone(name), Arc::clone(current)));
                }
            }
            (_, Some(_)) => update.removed.push(Arc::clone(name)),
            (None, None) if self.subscribed.contains(name) && !self.reported_missing.contains(name) => {
                update.missing.push(Arc::clone(name));
            }
            (_, None) => {}
        }
    }

    /// Records that the client is in sync with the available resources. If it has all of them, it shares their map.
    pub(crate) fn mark_synced(&mut self, available: &Arc<ResourceMap>) {
        if !self.requested {
            return;
        }
        self.changed_since_sync.clear();
        if self.client_versions.len() == available.len() {
            self.client_versions = Arc::clone(available);
        }
        self.synced_with = Some(Arc::clone(available));
    }

    /// Records that a response with this nonce is sent.
    pub(crate) fn on_sent(
        &mut self,
        content: &ResponseContent,
        available: &Arc<ResourceMap>,
        protocol: Protocol,
        nonce: &str,
    ) {
        let ResponseContent { updated, removed, is_complete } = content;
        for (name, _) in updated {
            self.resend.remove(name);
            self.reported_missing.remove(name);
        }
        for name in removed {
            self.resend.remove(name);
            if self.subscribed.contains(name) {
                self.reported_missing.insert(Arc::clone(name));
            }
        }
        if self.synced_with.is_some() {
            self.changed_since_sync.extend(updated.iter().map(|(name, _)| name).chain(removed).cloned());
        }
        let had_all = self.synced_with.as_ref().is_some_and(|synced| Arc::ptr_eq(synced, &self.client_versions));
        let same_names = self.client_versions.len() == available.len()
            && updated.iter().all(|(name, _)| self.client_versions.contains_key(name));
        if *is_complete && had_all && same_names {
            self.client_versions = Arc::clone(available); // The response contains everything that differs.
        } else {
            let versions = Arc::make_mut(&mut self.client_versions);
            for name in removed {
                versions.remove(name);
            }
            versions.extend(updated.iter().cloned());
        }
        self.in_last_response = match protocol {
            Protocol::Delta => updated.iter().map(|(name, _)| name).chain(removed).cloned().collect(),
            // A SotW response contains all resources, so an ACK or NACK concerns all of them.
            Protocol::StateOfTheWorld => self.client_versions.keys().chain(removed).cloned().collect(),
        };
        self.response_due = false;
        self.last_nonce = Some(nonce.to_owned());
        self.awaiting_ack = true;
    }

    /// Processes the nonce and the `error_detail` of a request: an ACK, a NACK, or neither.
    pub(crate) fn on_ack(
        &mut self,
        resource_type: ResourceType,
        nonce: &str,
        error: Option<&Status>,
    ) -> RequestOutcome {
        if nonce.is_empty() {
            return RequestOutcome::Subscribe;
        }
        if self.last_nonce.as_deref() != Some(nonce) {
            return RequestOutcome::StaleNonce;
        }
        if !std::mem::replace(&mut self.awaiting_ack, false) {
            return RequestOutcome::Subscribe;
        }
        match error {
            None => RequestOutcome::Ack(resource_type, take(&mut self.in_last_response)),
            // A rejected resource is not sent again until its version changes.
            Some(status) => {
                RequestOutcome::Nack(resource_type, self.nacked_resources(&status.message), status.message.clone())
            }
        }
    }

    /// Returns the resources of the last response that a NACK mentions by name, or all if it mentions none.
    fn nacked_resources(&mut self, message: &str) -> Vec<Arc<str>> {
        let all = take(&mut self.in_last_response);
        let mentioned: Vec<Arc<str>> = all.iter().filter(|name| mentions_name(message, name)).cloned().collect();
        if mentioned.is_empty() { all } else { mentioned }
    }
}

/// Iterator over the names in which two resource maps differ: present in one map only, or different resources.
struct MapDiff<I: Iterator> {
    before: Peekable<I>,
    after: Peekable<I>,
}

impl<'a, I: Iterator<Item = (&'a Arc<str>, &'a Arc<VersionedResource>)>> Iterator for MapDiff<I> {
    type Item = &'a Arc<str>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let order = match (self.before.peek(), self.after.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((before, _)), Some((after, _))) if Arc::ptr_eq(before, after) => Ordering::Equal,
                (Some((before, _)), Some((after, _))) => before.cmp(after),
            };
            let before = if order == Ordering::Greater { None } else { self.before.next() };
            let after = if order == Ordering::Less { None } else { self.after.next() };
            match (before, after) {
                (Some((_, before)), Some((_, after))) if Arc::ptr_eq(before, after) => {}
                (one, other) => return one.or(other).map(|(name, _)| name),
            }
        }
    }
}

/// True if a text contains a name as a whole, not as a part of a longer name.
fn mentions_name(text: &str, name: &str) -> bool {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "-_/@".contains(character);
    text.match_indices(name).any(|(start, _)| {
        let (before, after) = (text[..start].chars().next_back(), text[start + name.len()..].chars().next());
        !name.is_empty() && !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mentions_name_matches_whole_names_only() {
        for (text, name, expected) in [
            ("cluster a/web: is rejected", "a/web", true),
            ("cluster a/web2: is rejected", "a/web", false),
            ("cluster b-a/web: is rejected", "a/web", false),
            ("Error adding listener(s) a/web", "a/web", true),
            ("x", "", false),
        ] {
            assert_eq!(mentions_name(text, name), expected, "{name} in {text}");
        }
    }

    #[test]
    fn map_diff_yields_removed_changed_and_added_names() {
        let resource =
            |version: &str| Arc::new(VersionedResource { version: version.to_owned(), ..VersionedResource::default() });
        let mut before = ResourceMap::new();
        for name in ["a", "b", "c", "e"] {
            before.insert(name.into(), resource("1"));
        }
        let mut after = before.clone();
        after.remove("a");
        after.insert("c".into(), resource("2"));
        after.insert("d".into(), resource("1"));
        let diff = MapDiff { before: before.iter().peekable(), after: after.iter().peekable() };
        assert_eq!(diff.map(|name| &**name).collect::<Vec<_>>(), ["a", "c", "d"]);
    }
}
