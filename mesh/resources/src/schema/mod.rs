//! The shape of each kind: a JSON Schema generated from its types, closed (no field it does not know), and what of it
//! is not supported yet. Pass two of the checks walks it over a document; the documentation is written from it.
//!
//! An own walk rather than a JSON Schema validator: a schema's errors are about the schema, and people need to be told
//! about their text. It knows only what the generated schemas hold, and a test fails when they hold more.

pub(crate) mod check;
pub mod reference;
pub(crate) mod shape;
pub(crate) mod unsupported;
mod upstream;

use std::sync::LazyLock;

use gateway_api::gatewayclasses::GatewayClassSpec;
use gateway_api::gateways::GatewaySpec;
use gateway_api::httproutes::HttpRouteSpec;
use gateway_api::referencegrants::ReferenceGrantSpec;
use schemars::{Schema, schema_for};
use serde_json::json;

use crate::written::{
    AccessPolicySpec, BackendPolicySpec, FilterSpec, Kind, ManifestSpec, MeshSpec, Metadata, SecretDocument,
    ServiceSpec, TcpRouteSpec,
};

pub use reference::configuration_reference;

pub(crate) use check::check;
pub(crate) use shape::Shape;

static SHAPES: LazyLock<Vec<(Kind, Shape)>> =
    LazyLock::new(|| Kind::ALL.iter().map(|kind| (*kind, document_shape(*kind))).collect());

/// The shape of a whole document of this kind.
pub(crate) fn shape(kind: Kind) -> &'static Shape {
    &SHAPES.iter().find(|(other, _)| *other == kind).expect("every kind of Kind::ALL has a shape").1
}

/// The JSON Schema of a kind's `spec`, for editors and for the documentation.
pub fn json_schema(kind: &str) -> Option<Schema> {
    Kind::ALL.iter().find(|it| it.name() == kind).map(|kind| spec_schema(*kind))
}

/// The JSON Schema of a bundle's manifest.
pub(crate) fn manifest_schema() -> Schema {
    schema_for!(ManifestSpec)
}

fn spec_schema(kind: Kind) -> Schema {
    match kind {
        Kind::Gateway => schema_for!(GatewaySpec),
        Kind::HttpRoute => schema_for!(HttpRouteSpec),
        Kind::TcpRoute => schema_for!(TcpRouteSpec),
        Kind::GatewayClass => schema_for!(GatewayClassSpec),
        Kind::ReferenceGrant => schema_for!(ReferenceGrantSpec),
        Kind::Service => schema_for!(ServiceSpec),
        Kind::Filter => schema_for!(FilterSpec),
        Kind::BackendPolicy => schema_for!(BackendPolicySpec),
        Kind::AccessPolicy => schema_for!(AccessPolicySpec),
        Kind::Secret => schema_for!(SecretDocument),
        Kind::Mesh => schema_for!(MeshSpec),
    }
}

fn document_shape(kind: Kind) -> Shape {
    let text = || Shape::from_schema(&json!({"type": "string"}));
    if kind == Kind::Secret {
        let mut shape = Shape::from_schema(schema_for!(SecretDocument).as_value()); // It has no `spec`.
        unsupported::of(kind).for_each(|entry| shape.refuse(entry.path, entry.hint));
        return shape;
    }
    let mut shape = Shape::record(vec![
        ("apiVersion", text(), "The group and version of the kind."),
        ("kind", text(), "The kind."),
        ("metadata", Shape::from_schema(schema_for!(Metadata).as_value()), "Which object this is."),
        ("spec", Shape::from_schema(spec_schema(kind).as_value()), "What it says."),
    ]);
    for entry in unsupported::of(kind) {
        shape.refuse(entry.path, entry.hint);
    }
    shape
}
