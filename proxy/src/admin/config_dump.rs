//! `/config_dump`: the active configuration and the last rejection. The model leaves secrets out of its JSON: private
//! keys and the configuration of plugins.

use serde::Serialize;
use weir_model::Snapshot;

use crate::admin::response::{AdminResponse, json};
use crate::admin::state::AdminState;
use crate::config::ConfigStatusReport;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigDump<'a> {
    #[serde(flatten)]
    status: ConfigStatusReport,
    resources: &'a Snapshot,
}

/// `GET /config_dump`.
pub(super) fn config_dump(state: &AdminState, _query: &str) -> AdminResponse {
    let active = state.active.load();
    json(&ConfigDump { status: state.status.report(), resources: &active.snapshot })
}
