//! Bundles: Wasm modules pushed to a control plane, with their manifests. A Filter names a bundle by name and version.
//! The manifest has defaults for the Filter and a schema of its configuration.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use weir_model::{BundleName, PluginLimits};

use crate::diagnostic::Diagnostic;
use crate::limits::MAX_FILE_BYTES;
use crate::resource::field::typed;
use crate::resource::filter_limits::{PartialLimits, check_limits};
use crate::resource::secret_ref::is_reference;
use crate::schema::renamed::{self, Renamed};
use crate::schema::{self, Schema, manifest_schema};
use crate::source::SourceFile;
use crate::spec::{Kind, ManifestSpec, Phase};
use crate::suggest::{listing, nearest};
use crate::syntax;
use crate::yaml::{FieldError, FieldErrors, FieldPathRef, Node, Position, Value, parse};

/// The bundles that Filters may name.
#[derive(Debug, Clone, Default)]
pub struct BundleCatalog {
    manifests: BTreeMap<BundleName, Arc<Manifest>>,
    /// Bundles that exist but may not be used, with the reason.
    rejected: BTreeMap<BundleName, String>,
    is_unchecked: bool,
}

impl BundleCatalog {
    /// Creates a catalog that accepts every name, for a caller without access to the bundles.
    pub fn unchecked() -> Self {
        Self { is_unchecked: true, ..Self::default() }
    }

    /// Creates a catalog of usable bundles, and of rejected bundles with the reason.
    pub fn new(
        manifests: impl IntoIterator<Item = Arc<Manifest>>,
        rejected: impl IntoIterator<Item = (BundleName, String)>,
    ) -> Self {
        let manifests = manifests.into_iter().map(|manifest| (manifest.bundle.clone(), manifest)).collect();
        Self { manifests, rejected: rejected.into_iter().collect(), is_unchecked: false }
    }

    /// Returns the manifest of a bundle.
    pub fn get(&self, name: &BundleName) -> Option<&Arc<Manifest>> {
        self.manifests.get(name)
    }

    /// Returns reason and hint if a bundle is missing or rejected; `None` if it is usable or the catalog is unchecked.
    pub(crate) fn missing(&self, name: &BundleName) -> Option<(String, String)> {
        if self.is_unchecked || self.manifests.contains_key(name) {
            return None;
        }
        if let Some(reason) = self.rejected.get(name) {
            let hint = "sign it with a trusted key, and push it again".to_owned();
            return Some((format!("the bundle `{}` {} {reason}", name.name, name.version), hint));
        }
        let versions: Vec<&str> =
            self.manifests.keys().filter(|other| other.name == name.name).map(|other| &*other.version).collect();
        if !versions.is_empty() {
            let reason = format!("the bundle `{}` has no version `{}`", name.name, name.version);
            return Some((reason, format!("there is {}", listing(versions))));
        }
        let names = self.manifests.keys().map(|other| &*other.name);
        let hint = match nearest(&name.name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "push it with `weir bundle push`; without a control plane use `file`".to_owned(),
        };
        Some((format!("there is no bundle `{}` here", name.name), hint))
    }
}

/// The manifest of a bundle.
#[derive(Debug)]
pub struct Manifest {
    /// The bundle's name and version.
    pub bundle: BundleName,
    /// The purpose, in a sentence.
    pub description: String,
    /// The Proxy-Wasm version that the module was built for, if the manifest has one.
    pub abi: Option<String>,
    /// A configuration that the module must accept, as JSON text; empty if the manifest has none.
    pub example: Arc<[u8]>,
    /// The whole manifest, as written.
    pub value: Json,
    phase: Option<Phase>,
    limits: PartialLimits,
    schema: Option<Schema>,
}

impl Manifest {
    /// Parses and validates a manifest in YAML or JSON.
    ///
    /// # Errors
    /// All errors, with line and column.
    pub fn read(file: &SourceFile) -> Result<Self, Vec<Diagnostic>> {
        let diagnostic = |position: Position, error: FieldError| Diagnostic {
            file: file.path.clone(),
            line: position.line,
            column: position.column,
            object: None,
            field: error.path.to_string(),
            reason: error.reason,
            hint: error.hint,
        };
        let start = Position { line: 1, column: 1 };
        let file_error = |reason: &str, hint: &str| {
            let mut errors = FieldErrors::default();
            errors.add(&FieldPathRef::ROOT, reason, hint);
            errors.into_vec().into_iter().map(|error| diagnostic(start, error)).collect::<Vec<_>>()
        };
        if file.text.len() > MAX_FILE_BYTES {
            return Err(file_error("the manifest is too large", "it describes a filter; it does not hold one"));
        }
        let parsed = parse(&file.text);
        if let Some(error) = parsed.parse_error {
            return Err(vec![diagnostic(error.position.unwrap_or(start), error)]);
        }
        let mut documents = parsed.documents;
        let (Some(document), 0) = (documents.pop(), documents.len()) else {
            return Err(file_error("a manifest is one document", "begin with `name:`"));
        };
        let mut errors = FieldErrors::default();
        for error in document.errors {
            errors.push(error);
        }
        let mut node = document.root;
        let manifest = check(&mut node, &mut errors);
        match manifest.filter(|_| errors.is_empty()) {
            Some(manifest) => Ok(manifest),
            None => Err(errors
                .into_vec()
                .into_iter()
                .map(|error| diagnostic(error.position.unwrap_or_else(|| node.locate(&error.path)), error))
                .collect()),
        }
    }

    /// Returns the default phase of its Filters.
    pub(crate) const fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// Returns the limits of a VM whose Filter sets none.
    pub fn plugin_limits(&self) -> PluginLimits {
        self.limits.or(PartialLimits::default())
    }

    /// Returns the default limits of its Filters.
    pub(crate) const fn limits(&self) -> PartialLimits {
        self.limits
    }

    /// Validates a configuration (JSON text, or empty) with the manifest's schema. References to Secrets stand for any
    /// value: a message about the value itself would show it.
    pub(crate) fn check_configuration(&self, configuration: &[u8], path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
        let Some(schema) = &self.schema else { return };
        let json = serde_json::from_slice(configuration).unwrap_or_else(|_| Json::Object(serde_json::Map::new()));
        let mut node = Node::from_json(&json);
        hide_references(&json, &mut node);
        schema::check(&node, schema, path, errors);
    }
}

/// Replaces the references to Secrets in `node`, which is `json`, by values that no check looks at.
fn hide_references(json: &Json, node: &mut Node) {
    if is_reference(json) {
        node.value = Value::Error;
        return;
    }
    match (json, &mut node.value) {
        (Json::Object(fields), Value::Map(entries)) => {
            fields.values().zip(entries).for_each(|(json, (_, node))| hide_references(json, node));
        }
        (Json::Array(items), Value::List(entries)) => {
            items.iter().zip(entries).for_each(|(json, node)| hide_references(json, node));
        }
        _ => {}
    }
}

/// Replaces former names of limits. A pushed bundle is signed, so its manifest cannot be changed.
fn rename_former_limits(manifest: &mut Node) {
    let Some(Value::Map(limits)) = manifest.field_mut("limits").map(|limits| &mut limits.value) else { return };
    for (key, _) in limits {
        let is_former = |renamed: &&Renamed| renamed.path.strip_prefix("spec.limits.") == Some(key.text.as_str());
        if let Some(Renamed { new, .. }) = renamed::of(Kind::Filter).iter().find(is_former) {
            key.text = (*new).to_owned();
        }
    }
}

fn check(node: &mut Node, errors: &mut FieldErrors) -> Option<Manifest> {
    let value = node.value.to_json();
    rename_former_limits(node);
    let node = &*node;
    let root = FieldPathRef::ROOT;
    schema::check(node, &Schema::from_schema(manifest_schema().as_value()), &root, errors);
    if !errors.is_empty() {
        return None;
    }
    let ManifestSpec { name, version, description, abi, phase, limits, config_schema, example } =
        typed(node, &root, errors)?;
    errors.check(&root.field("name"), syntax::name::object_name(&name));
    errors.check(&root.field("version"), syntax::name::version(&version));
    let limits = check_limits(limits, &root.field("limits"), errors);
    let schema = config_schema.map(|config_schema| Schema::from_user_schema(&Json::Object(config_schema)));
    let example = example.map(|example| Json::Object(example).to_string()).unwrap_or_default();
    let manifest = Manifest {
        bundle: BundleName { name: Arc::from(name), version: Arc::from(version) },
        description: description.unwrap_or_default(),
        abi,
        example: Arc::from(example.into_bytes()),
        value,
        phase,
        limits,
        schema,
    };
    if !manifest.example.is_empty() {
        manifest.check_configuration(&manifest.example, &root.field("example"), errors);
    }
    Some(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest, String> {
        let file = SourceFile { path: "plugin.yaml".into(), text: text.into() };
        Manifest::read(&file)
            .map_err(|diagnostics| diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect())
    }

    #[test]
    fn manifest_example_is_validated_with_its_schema() {
        let manifest = read(
            "name: stamp\nversion: 1.2.0\nphase: Authz\nlimits: {memory: 1Mi}\nconfigSchema: {type: object, \
             properties: {header: {type: string}}, required: [header], additionalProperties: false}\n\
             example: {header: x-a}\n",
        );
        let manifest = manifest.unwrap();
        assert_eq!(manifest.bundle.to_string(), "stamp 1.2.0");
        assert_eq!(&*manifest.example, br#"{"header":"x-a"}"#);
        assert_eq!(manifest.value["phase"], "Authz");
        let wrong = read(
            "name: Stamp\nversion: 1.2\nphases: Authz\nconfigSchema: {type: object, properties: {header: {type: \
             string}}, additionalProperties: false}\nexample: {headr: x-a}\n",
        );
        let wrong = wrong.unwrap_err();
        assert!(
            wrong.contains("plugin.yaml:2:1: version: must be a text, not a number\n  hint: put it in quotes"),
            "{wrong}"
        );
        assert!(wrong.contains("plugin.yaml:3:1: phases: unknown field\n  hint: did you mean `phase`?"), "{wrong}");
        let wrong = read(
            "name: Stamp\nversion: \"1.2\"\nconfigSchema: {type: object, properties: {header: {type: string}}, \
             additionalProperties: false}\nexample: {headr: x-a}\n",
        );
        let wrong = wrong.unwrap_err();
        assert!(wrong.contains("plugin.yaml:1:1: name:"), "{wrong}");
        assert!(
            wrong.contains("plugin.yaml:4:11: example.headr: unknown field\n  hint: did you mean `header`?"),
            "{wrong}"
        );
        for (text, reason) in [("", "one document"), ("a: 1\n---\nb: 1\n", "one document"), ("a: [", "plugin.yaml:1")] {
            assert!(read(text).unwrap_err().contains(reason), "{text}: {}", read(text).unwrap_err());
        }
    }

    #[test]
    fn former_names_of_limits_are_read() {
        let manifest = read("name: a\nversion: v1\nlimits: {callTime: 5ms, logPerSecond: 1Ki}\n").unwrap();
        let limits = manifest.plugin_limits();
        assert_eq!(limits.call_time, std::time::Duration::from_millis(5));
        assert_eq!(limits.log_per_second, weir_model::ByteSize(1024));
        assert_eq!(manifest.value["limits"]["callTime"], "5ms");
    }

    #[test]
    fn user_schema_takes_bounded_work() {
        let cycle = r##"{"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}}}"##;
        let text = |schema: &str| format!("name: a\nversion: v1\nconfigSchema: {schema}\n");
        let manifest = read(&text(cycle)).unwrap();
        let mut errors = FieldErrors::default();
        manifest.check_configuration(br#"{"x": {"x": {"x": 1}}, "y": 1}"#, &FieldPathRef::ROOT, &mut errors);
        let found: Vec<_> = errors.into_vec().iter().map(|error| format!("{}: {}", error.path, error.reason)).collect();
        assert_eq!(found, ["x.x.x: must be a map, not a number"], "what is open may hold more");
        let wide: Vec<String> = (0..40)
            .map(|level| {
                let next = (level + 1) % 40;
                format!(
                    r##""d{level}": {{"type": "object", "properties": {{"x": {{"$ref": "#/$defs/d{next}"}}, "y": {{"$ref": "#/$defs/d{next}"}}}}}}"##
                )
            })
            .collect();
        read(&text(&format!(r##"{{"$ref": "#/$defs/d0", "$defs": {{{}}}}}"##, wide.join(", ")))).unwrap();
        read(&text(r##"{"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}"##)).unwrap();
        // Many long enum values, referenced many times.
        let choices: Vec<String> = (0..20_000).map(|index| format!("\"{index:08}\"")).collect();
        let leaf = format!(r#""d12": {{"enum": [{}]}}"#, choices.join(","));
        let levels: Vec<String> = (0..12)
            .map(|level| {
                let next = level + 1;
                format!(
                    r##""d{level}": {{"type": "object", "properties": {{"x": {{"$ref": "#/$defs/d{next}"}}, "y": {{"$ref": "#/$defs/d{next}"}}}}}}"##
                )
            })
            .collect();
        let bomb = format!(r##"{{"$ref": "#/$defs/d0", "$defs": {{{}, {leaf}}}}}"##, levels.join(", "));
        let manifest = read(&text(&bomb)).unwrap();
        assert!(format!("{:?}", manifest.schema).len() < 4 * 1024 * 1024);
    }
}
