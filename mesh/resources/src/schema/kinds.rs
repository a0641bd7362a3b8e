//! The schema of each kind: generated from its Rust type, plus the table of unsupported fields.

use std::sync::LazyLock;

use gateway_api::backendtlspolicies::BackendTlsPolicySpec;
use gateway_api::gatewayclasses::GatewayClassSpec;
use gateway_api::gateways::GatewaySpec;
use gateway_api::grpcroutes::GrpcRouteSpec;
use gateway_api::referencegrants::ReferenceGrantSpec;
use schemars::schema_for;
use serde_json::json;

use crate::schema::definition::{Schema, Support};
use crate::schema::{renamed, unsupported};
use crate::spec::{
    AuthorizationPolicySpec, BackendTrafficPolicySpec, ClientTrafficPolicySpec, ConfigMapDocument, FilterSpec,
    HttpRouteSpec, Kind, ManifestSpec, MeshSpec, Metadata, SecretDocument, ServiceEntrySpec, TcpRouteSpec,
};

static SCHEMAS: LazyLock<Vec<(Kind, Schema)>> =
    LazyLock::new(|| Kind::ALL.iter().map(|kind| (*kind, document_schema(*kind))).collect());

/// Returns the schema of a whole document of this kind.
pub(crate) fn kind_schema(kind: Kind) -> &'static Schema {
    &SCHEMAS.iter().find(|(other, _)| *other == kind).expect("every kind of Kind::ALL has a schema").1
}

/// Returns the JSON Schema of a kind's `spec`, for editors and for the documentation; `None` for an unknown kind.
pub fn json_schema(kind: &str) -> Option<schemars::Schema> {
    Kind::ALL.iter().find(|known| known.name() == kind).map(|kind| spec_schema(*kind))
}

/// Returns the JSON Schema of a bundle's manifest.
pub(crate) fn manifest_schema() -> schemars::Schema {
    schema_for!(ManifestSpec)
}

pub(crate) fn spec_schema(kind: Kind) -> schemars::Schema {
    match kind {
        Kind::Gateway => schema_for!(GatewaySpec),
        Kind::HttpRoute => schema_for!(HttpRouteSpec),
        Kind::GrpcRoute => schema_for!(GrpcRouteSpec),
        Kind::TcpRoute => schema_for!(TcpRouteSpec),
        Kind::GatewayClass => schema_for!(GatewayClassSpec),
        Kind::ReferenceGrant => schema_for!(ReferenceGrantSpec),
        Kind::ServiceEntry => schema_for!(ServiceEntrySpec),
        Kind::Filter => schema_for!(FilterSpec),
        Kind::BackendTrafficPolicy => schema_for!(BackendTrafficPolicySpec),
        Kind::BackendTlsPolicy => schema_for!(BackendTlsPolicySpec),
        Kind::ClientTrafficPolicy => schema_for!(ClientTrafficPolicySpec),
        Kind::AuthorizationPolicy => schema_for!(AuthorizationPolicySpec),
        Kind::Secret => schema_for!(SecretDocument),
        Kind::ConfigMap => schema_for!(ConfigMapDocument),
        Kind::Mesh => schema_for!(MeshSpec),
    }
}

fn document_schema(kind: Kind) -> Schema {
    let text = || Schema::from_schema(&json!({"type": "string"}));
    if !kind.has_spec() {
        let mut schema = Schema::from_schema(spec_schema(kind).as_value());
        unsupported::of(kind).for_each(|entry| schema.mark(entry.path, Support::Unsupported(entry.hint)));
        return schema;
    }
    let mut schema = Schema::record(vec![
        ("apiVersion", text(), "The group and version of the kind."),
        ("kind", text(), "The kind."),
        (
            "metadata",
            Schema::from_schema(schema_for!(Metadata).as_value()),
            "The object's name, namespace, labels and annotations.",
        ),
        ("spec", Schema::from_schema(spec_schema(kind).as_value()), "The object's fields."),
    ]);
    for entry in unsupported::of(kind) {
        schema.mark(entry.path, Support::Unsupported(entry.hint));
    }
    for entry in renamed::of(kind) {
        schema.mark(entry.path, Support::Renamed(entry.new));
    }
    schema
}
