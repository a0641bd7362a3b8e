//! Bundles: modules that were pushed to a control plane, and what their manifests say of them. A Filter names one by name
//! and version; its manifest says what the Filter leaves out, and what its configuration may look like.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use weir_model::{BundleName, PluginLimits};

use crate::document::{Fault, Faults, Mark, Path, Tree, parse};
use crate::grammar;
use crate::limits::MAX_FILE_BYTES;
use crate::refusal::Refusal;
use crate::resource::field::typed;
use crate::resource::filter_limits::{SaidLimits, check_limits};
use crate::schema::{self, Shape, manifest_schema};
use crate::source::SourceFile;
use crate::suggest::{listing, nearest};
use crate::written::{ManifestSpec, Phase};

/// The bundles that Filters may name.
#[derive(Debug, Clone, Default)]
pub struct Bundles {
    known: BTreeMap<BundleName, Arc<Manifest>>,
    /// Those that are there and may not be used, and why.
    refused: BTreeMap<BundleName, String>,
    is_elsewhere: bool,
}

impl Bundles {
    /// Nobody here knows them: every name is taken for good.
    pub fn elsewhere() -> Self {
        Self { is_elsewhere: true, ..Self::default() }
    }

    /// These; and those that are there and may not be used, with the reason.
    pub fn of(
        manifests: impl IntoIterator<Item = Arc<Manifest>>,
        refused: impl IntoIterator<Item = (BundleName, String)>,
    ) -> Self {
        let known = manifests.into_iter().map(|manifest| (manifest.bundle.clone(), manifest)).collect();
        Self { known, refused: refused.into_iter().collect(), is_elsewhere: false }
    }

    /// The manifest of one.
    pub fn get(&self, name: &BundleName) -> Option<&Arc<Manifest>> {
        self.known.get(name)
    }

    /// Whether it can be said that one is not there, and what there is: its reason and hint.
    pub(crate) fn missing(&self, name: &BundleName) -> Option<(String, String)> {
        if self.is_elsewhere || self.known.contains_key(name) {
            return None;
        }
        if let Some(reason) = self.refused.get(name) {
            let hint = "have it signed by somebody who is trusted, and push it again".to_owned();
            return Some((format!("the bundle `{}` {} {reason}", name.name, name.version), hint));
        }
        let versions: Vec<&str> =
            self.known.keys().filter(|known| known.name == name.name).map(|known| &*known.version).collect();
        if !versions.is_empty() {
            let reason = format!("the bundle `{}` has no version `{}`", name.name, name.version);
            return Some((reason, format!("there is {}", listing(versions))));
        }
        let names = self.known.keys().map(|known| &*known.name);
        let hint = match nearest(&name.name, names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "push it with `weir plugin push`; without a control plane use `file`".to_owned(),
        };
        Some((format!("there is no bundle `{}` here", name.name), hint))
    }
}

/// What a bundle says of itself.
#[derive(Debug)]
pub struct Manifest {
    /// Its name and version.
    pub bundle: BundleName,
    /// What it is for, in a sentence.
    pub description: String,
    /// The version of Proxy-Wasm that it was built for, if it says so.
    pub abi: Option<String>,
    /// A configuration that it must accept: JSON text; empty when it says none.
    pub example: Arc<[u8]>,
    /// All of it, as it was written.
    pub value: Json,
    phase: Option<Phase>,
    limits: SaidLimits,
    shape: Option<Shape>,
}

impl Manifest {
    /// Reads a manifest, in YAML or JSON.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn read(file: &SourceFile) -> Result<Self, Vec<Refusal>> {
        let refusal = |mark: Mark, fault: Fault| Refusal {
            file: file.path.clone(),
            line: mark.line,
            column: mark.column,
            object: None,
            field: fault.path.to_string(),
            reason: fault.reason,
            hint: fault.hint,
        };
        let start = Mark { line: 1, column: 1 };
        let alone = |reason: &str, hint: &str| {
            let mut faults = Faults::default();
            faults.add(&Path::ROOT, reason, hint);
            faults.into_vec().into_iter().map(|fault| refusal(start, fault)).collect::<Vec<_>>()
        };
        if file.text.len() > MAX_FILE_BYTES {
            return Err(alone("the manifest is too large", "it describes a filter; it does not hold one"));
        }
        let parsed = parse(&file.text);
        if let Some(fault) = parsed.broken {
            return Err(vec![refusal(fault.mark.unwrap_or(start), fault)]);
        }
        let mut documents = parsed.documents;
        let (Some(document), 0) = (documents.pop(), documents.len()) else {
            return Err(alone("a manifest is one document", "begin with `name:`"));
        };
        let mut faults = Faults::default();
        for fault in document.faults {
            faults.push(fault);
        }
        let tree = document.tree;
        let manifest = check(&tree, &mut faults);
        match manifest.filter(|_| faults.is_empty()) {
            Some(manifest) => Ok(manifest),
            None => Err(faults
                .into_vec()
                .into_iter()
                .map(|fault| refusal(fault.mark.unwrap_or_else(|| tree.locate(&fault.path)), fault))
                .collect()),
        }
    }

    /// Where its Filters stand when they say nothing.
    pub(crate) const fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// What a VM of it may use when nobody says anything else.
    pub fn plugin_limits(&self) -> PluginLimits {
        self.limits.or(SaidLimits::default())
    }

    /// What its Filters may use when they say nothing.
    pub(crate) const fn limits(&self) -> SaidLimits {
        self.limits
    }

    /// Checks a configuration (JSON text, or nothing) against its schema.
    pub(crate) fn check_configuration(&self, configuration: &[u8], path: &Path<'_>, faults: &mut Faults) {
        let Some(shape) = &self.shape else { return };
        let json = serde_json::from_slice(configuration).unwrap_or_else(|_| Json::Object(serde_json::Map::new()));
        schema::check(&Tree::of(&json), shape, path, faults);
    }
}

fn check(tree: &Tree, faults: &mut Faults) -> Option<Manifest> {
    let root = Path::ROOT;
    schema::check(tree, &Shape::from_schema(manifest_schema().as_value()), &root, faults);
    if !faults.is_empty() {
        return None;
    }
    let ManifestSpec { name, version, description, abi, phase, limits, config_schema, example } =
        typed(tree, &root, faults)?;
    faults.check(&root.field("name"), grammar::name::object_name(&name));
    faults.check(&root.field("version"), grammar::name::version(&version));
    let limits = check_limits(limits, &root.field("limits"), faults);
    let shape = config_schema.map(|schema| Shape::from_foreign_schema(&Json::Object(schema)));
    let example = example.map(|example| Json::Object(example).to_string()).unwrap_or_default();
    let manifest = Manifest {
        bundle: BundleName { name: Arc::from(name), version: Arc::from(version) },
        description: description.unwrap_or_default(),
        abi,
        example: Arc::from(example.into_bytes()),
        value: tree.value.to_json(),
        phase,
        limits,
        shape,
    };
    if !manifest.example.is_empty() {
        manifest.check_configuration(&manifest.example, &root.field("example"), faults);
    }
    Some(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest, String> {
        let file = SourceFile { path: "plugin.yaml".into(), text: text.into() };
        Manifest::read(&file).map_err(|refusals| refusals.iter().map(|it| format!("{it}\n")).collect())
    }

    #[test]
    fn a_manifest_is_checked_with_its_example() {
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
    fn a_schema_that_somebody_else_wrote_takes_bounded_work() {
        let cycle = r##"{"$ref": "#/$defs/a", "$defs": {"a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}}}}"##;
        let text = |schema: &str| format!("name: a\nversion: v1\nconfigSchema: {schema}\n");
        let manifest = read(&text(cycle)).unwrap();
        let mut faults = Faults::default();
        manifest.check_configuration(br#"{"x": {"x": {"x": 1}}, "y": 1}"#, &Path::ROOT, &mut faults);
        let found: Vec<_> = faults.into_vec().iter().map(|it| format!("{}: {}", it.path, it.reason)).collect();
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
        // Many long choices, met again and again.
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
        assert!(format!("{:?}", manifest.shape).len() < 4 * 1024 * 1024);
    }
}
