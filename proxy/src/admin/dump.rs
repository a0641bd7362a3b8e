//! `/config_dump`: what serves, and what was refused last. Secrets are left out by the model itself: a plugin's
//! configuration is not part of its JSON.

use serde::Serialize;
use weir_model::Snapshot;

use crate::admin::Admin;
use crate::admin::server::{Page, json};
use crate::config::StatusReport;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigDump<'a> {
    #[serde(flatten)]
    status: StatusReport,
    resources: &'a Snapshot,
}

/// What serves, and what was refused last.
pub(super) fn config_dump(admin: &Admin) -> Page {
    let active = admin.active.load();
    json(&ConfigDump { status: admin.status.report(), resources: &active.snapshot })
}
