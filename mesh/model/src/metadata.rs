//! Metadata of resources that filters can read: texts by name, in groups. The groups of our own resources are labels
//! and annotations; in xDS this is `filter_metadata`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

/// The texts of one group, by name.
pub type MetadataGroup = BTreeMap<Arc<str>, Arc<str>>;

/// Texts by name, in groups. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Metadata(Option<Arc<BTreeMap<Arc<str>, MetadataGroup>>>);

impl Metadata {
    /// Returns metadata with these groups; empty groups are left out.
    pub fn new(groups: impl IntoIterator<Item = (Arc<str>, MetadataGroup)>) -> Self {
        let groups: BTreeMap<_, _> = groups.into_iter().filter(|(_, group)| !group.is_empty()).collect();
        Self((!groups.is_empty()).then(|| Arc::new(groups)))
    }

    /// Returns true if there is no group.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns every group, in alphabetical order.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &MetadataGroup)> {
        self.0.iter().flat_map(|groups| groups.iter()).map(|(name, group)| (&**name, group))
    }

    /// Returns one group; `None` if it is absent or empty.
    pub fn group(&self, name: &str) -> Option<&MetadataGroup> {
        self.0.as_ref()?.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_groups_are_left_out() {
        let group =
            |texts: &[&str]| texts.iter().map(|text| (Arc::from(*text), Arc::from("x"))).collect::<MetadataGroup>();
        let metadata = Metadata::new([("labels".into(), group(&["a", "b"])), ("annotations".into(), group(&[]))]);
        assert_eq!(metadata.groups().map(|(name, _)| name).collect::<Vec<_>>(), ["labels"]);
        assert_eq!(metadata.group("labels").and_then(|group| group.get("b")).map(|text| &**text), Some("x"));
        assert!(Metadata::new([("labels".into(), group(&[]))]).is_empty() && metadata.group("x").is_none());
    }
}
