//! Lookups that the warnings share.

use std::collections::HashMap;

use weir_model::ModuleSource;

use crate::resolve::{Attachment, Resolved};
use crate::resource::Filter;

/// Returns whether a Filter runs this module of the proxy's own.
pub(super) fn is_builtin(filter: &Filter, module: &str) -> bool {
    matches!(&filter.module, ModuleSource::Builtin(name) if **name == *module)
}

/// Returns the attachments of each route, by the index of its document.
pub(super) fn by_route<'r>(resolved: &'r Resolved<'_>) -> HashMap<usize, Vec<&'r Attachment>> {
    let mut attachments = HashMap::<usize, Vec<&Attachment>>::new();
    for attachment in &resolved.attachments {
        attachments.entry(attachment.route).or_default().push(attachment);
    }
    attachments
}
