//! What one peer has asked for and holds of one kind of resource, and what remains to be said to it. The server's state
//! has one for each kind.
//!
//! Most peers hold exactly what is offered, and most changes touch little. So a peer that holds all of an offer shares its
//! map, and remembers the offer against which nothing remained to be said: only names in which the next one differs are
//! looked at.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::mem::take;
use std::sync::Arc;

use crate::kind::Kind;
use crate::offer::{Named, Offered, Resources};
use crate::proto::Status;
use crate::protocol::{Protocol, Said};

/// What one peer has asked for and holds of one kind.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a thing that has been said, or not")]
pub(crate) struct Subscription {
    pub(crate) begun: bool,
    pub(crate) wildcard: bool,
    pub(crate) names: BTreeSet<Arc<str>>,
    /// What the peer holds. Of what another stream has sent, only the version is known.
    pub(crate) sent: Arc<Resources>,
    /// To be sent although the peer holds them.
    pub(crate) again: BTreeSet<Arc<str>>,
    /// Asked for, not there, and told so.
    pub(crate) told_missing: BTreeSet<Arc<str>>,
    /// The nonce of the last response; whoever asks for something else repeats it.
    pub(crate) last: Option<String>,
    /// True while the last response is not answered.
    pub(crate) in_flight: bool,
    /// What the last response brought or took away.
    pub(crate) moved: Vec<Arc<str>>,
    /// State of the world: the set of names has changed, so that a response is due even when it is shorter.
    pub(crate) due: bool,
    /// The offer against which nothing remained to be said, since the peer has last changed what it asks for.
    done: Option<Arc<Resources>>,
    /// What was sent, taken away or asked for again since then.
    touched: BTreeSet<Arc<str>>,
}

/// What remains to be said to a peer.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Remaining {
    /// Offered, wanted, and not held in this version.
    pub(crate) put: Vec<Named>,
    /// Asked for, never there, and not known to be missing.
    pub(crate) missing: Vec<Arc<str>>,
    /// Held and no longer offered, or no longer wanted.
    pub(crate) gone: Vec<Arc<str>>,
}

impl Remaining {
    pub(crate) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.missing.is_empty() && self.gone.is_empty()
    }
}

impl Subscription {
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// The peer asks for something else than before: everything is looked at once more.
    pub(crate) fn look_again(&mut self) {
        self.done = None;
    }

    /// The peer is to get a resource although it holds it.
    pub(crate) fn repeat(&mut self, name: Arc<str>) {
        self.touched.insert(Arc::clone(&name));
        self.again.insert(name);
    }

    /// Forgets that the peer holds some of what it holds.
    pub(crate) fn retain_sent(&mut self, keep: impl Fn(&str) -> bool) {
        if self.sent.keys().any(|name| !keep(name)) {
            Arc::make_mut(&mut self.sent).retain(|name, _| keep(name));
        }
    }

    pub(crate) fn unsubscribe(&mut self, name: &str) {
        if name == "*" {
            self.wildcard = false;
            let names = take(&mut self.names);
            self.retain_sent(|name| names.contains(name));
            self.names = names;
            return;
        }
        self.names.remove(name);
        self.again.remove(name);
        self.told_missing.remove(name);
        if !self.wildcard && self.sent.contains_key(name) {
            Arc::make_mut(&mut self.sent).remove(name);
        }
    }

    /// What remains to be said of an offer.
    pub(crate) fn remaining(&self, offered: &Arc<Resources>) -> Remaining {
        let mut remaining = Remaining::default();
        match &self.done {
            _ if !self.begun => {}
            Some(done) if Arc::ptr_eq(done, offered) && self.touched.is_empty() => {}
            Some(done) => {
                let differing = Differing { before: done.iter().peekable(), after: offered.iter().peekable() };
                let touched = self.touched.iter();
                let names: BTreeSet<&Arc<str>> = differing.chain(touched).collect();
                names.into_iter().for_each(|name| self.look_at(name, offered, &mut remaining));
            }
            None => {
                let held = self.sent.keys().filter(|name| !offered.contains_key(*name));
                let asked = self.names.iter().filter(|name| !offered.contains_key(*name));
                let all: BTreeSet<&Arc<str>> = offered.keys().chain(held).chain(asked).collect();
                all.into_iter().for_each(|name| self.look_at(name, offered, &mut remaining));
            }
        }
        remaining
    }

    fn look_at(&self, name: &Arc<str>, offered: &Arc<Resources>, remaining: &mut Remaining) {
        let (held, is_wanted) = (self.sent.get(name), self.wants(name));
        match (offered.get_key_value(name), held) {
            (Some(offered), held) if is_wanted => {
                let is_held =
                    held.is_some_and(|held| Arc::ptr_eq(held, offered.1) || held.version == offered.1.version);
                if !is_held || self.again.contains(name) {
                    remaining.put.push(shared(offered));
                }
            }
            (_, Some(_)) => remaining.gone.push(Arc::clone(name)),
            (None, None) if self.names.contains(name) && !self.told_missing.contains(name) => {
                remaining.missing.push(Arc::clone(name));
            }
            (_, None) => {}
        }
    }

    /// Nothing remains to be said of an offer. A peer that holds all of it shares its map from now on.
    pub(crate) fn set_done(&mut self, offered: &Arc<Resources>) {
        if !self.begun {
            return;
        }
        self.touched.clear();
        if self.sent.len() == offered.len() {
            self.sent = Arc::clone(offered);
        }
        self.done = Some(Arc::clone(offered));
    }

    /// A response with this nonce is sent; `is_all` when nothing remains to be taken away after it.
    pub(crate) fn send(
        &mut self,
        (put, removed): (&[Named], &[Arc<str>]),
        (offered, is_all): (&Arc<Resources>, bool),
        (protocol, nonce): (Protocol, &str),
    ) {
        for (name, _) in put {
            self.again.remove(name);
            self.told_missing.remove(name);
        }
        for name in removed {
            self.again.remove(name);
            if self.names.contains(name) {
                self.told_missing.insert(Arc::clone(name));
            }
        }
        if self.done.is_some() {
            self.touched.extend(put.iter().map(|(name, _)| name).chain(removed).cloned());
        }
        let held_all = self.done.as_ref().is_some_and(|done| Arc::ptr_eq(done, &self.sent));
        let same_names = self.sent.len() == offered.len() && put.iter().all(|(name, _)| self.sent.contains_key(name));
        if is_all && held_all && same_names {
            self.sent = Arc::clone(offered); // Everything that differs is in this response.
        } else {
            let sent = Arc::make_mut(&mut self.sent);
            for name in removed {
                sent.remove(name);
            }
            sent.extend(put.iter().cloned());
        }
        self.moved = match protocol {
            Protocol::Delta => put.iter().map(|(name, _)| name).chain(removed).cloned().collect(),
            // Every response says everything, so that every answer is about everything.
            Protocol::StateOfTheWorld => self.sent.keys().chain(removed).cloned().collect(),
        };
        self.due = false;
        self.last = Some(nonce.to_owned());
        self.in_flight = true;
    }

    pub(crate) fn answered(&mut self, kind: Kind, nonce: &str, error: Option<&Status>) -> Said {
        if nonce.is_empty() {
            return Said::Asked;
        }
        if self.last.as_deref() != Some(nonce) {
            return Said::Stale;
        }
        if !std::mem::replace(&mut self.in_flight, false) {
            return Said::Asked;
        }
        match error {
            None => Said::Accepted(kind, take(&mut self.moved)),
            // What was refused is not sent again until it says something else.
            Some(status) => Said::Refused(kind, self.blamed(&status.message), status.message.clone()),
        }
    }

    /// The resources that a refusal is about: those of the response that it names, or else all of them.
    fn blamed(&mut self, refusal: &str) -> Vec<Arc<str>> {
        let moved = take(&mut self.moved);
        let named: Vec<Arc<str>> = moved.iter().filter(|name| names_it(refusal, name)).cloned().collect();
        if named.is_empty() { moved } else { named }
    }
}

fn shared((name, offered): (&Arc<str>, &Arc<Offered>)) -> Named {
    (Arc::clone(name), Arc::clone(offered))
}

/// The names in which two maps differ: there in one of them only, or not the same there.
struct Differing<I: Iterator> {
    before: Peekable<I>,
    after: Peekable<I>,
}

impl<'a, I: Iterator<Item = (&'a Arc<str>, &'a Arc<Offered>)>> Iterator for Differing<I> {
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

/// True when a text holds a name, and not only one that begins or ends like it.
fn names_it(text: &str, name: &str) -> bool {
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
    fn names_are_found_whole() {
        for (text, name, expected) in [
            ("cluster a/web: is refused", "a/web", true),
            ("cluster a/web2: is refused", "a/web", false),
            ("cluster b-a/web: is refused", "a/web", false),
            ("Error adding listener(s) a/web", "a/web", true),
            ("x", "", false),
        ] {
            assert_eq!(names_it(text, name), expected, "{name} in {text}");
        }
    }

    #[test]
    fn only_what_differs_is_looked_at() {
        let offered = |version: &str| Arc::new(Offered { version: version.to_owned(), ..Offered::default() });
        let mut before = Resources::new();
        for name in ["a", "b", "c", "e"] {
            before.insert(name.into(), offered("1"));
        }
        let mut after = before.clone();
        after.remove("a");
        after.insert("c".into(), offered("2"));
        after.insert("d".into(), offered("1"));
        let differing = Differing { before: before.iter().peekable(), after: after.iter().peekable() };
        assert_eq!(differing.map(|name| &**name).collect::<Vec<_>>(), ["a", "c", "d"]);
    }
}
