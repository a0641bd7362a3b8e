//! What people have written about an object for filters to read: texts by name, in groups. Of our own resources these are
//! the labels and annotations; in xDS it is `filter_metadata`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

/// The texts of one group, by name.
pub type Group = BTreeMap<Arc<str>, Arc<str>>;

/// Texts by name, in groups. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Metadata(Option<Arc<BTreeMap<Arc<str>, Group>>>);

impl Metadata {
    /// Of these groups; empty ones are left out.
    pub fn new(groups: impl IntoIterator<Item = (Arc<str>, Group)>) -> Self {
        let groups: BTreeMap<_, _> = groups.into_iter().filter(|(_, group)| !group.is_empty()).collect();
        Self((!groups.is_empty()).then(|| Arc::new(groups)))
    }

    /// True when there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Every group, in order.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &Group)> {
        self.0.iter().flat_map(|groups| groups.iter()).map(|(name, group)| (&**name, group))
    }

    /// One group.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.0.as_ref()?.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_without_texts_are_none() {
        let group = |texts: &[&str]| texts.iter().map(|text| (Arc::from(*text), Arc::from("x"))).collect::<Group>();
        let metadata = Metadata::new([("labels".into(), group(&["a", "b"])), ("annotations".into(), group(&[]))]);
        assert_eq!(metadata.groups().map(|(name, _)| name).collect::<Vec<_>>(), ["labels"]);
        assert_eq!(metadata.group("labels").and_then(|group| group.get("b")).map(|it| &**it), Some("x"));
        assert!(Metadata::new([("labels".into(), group(&[]))]).is_empty() && metadata.group("x").is_none());
    }
}
