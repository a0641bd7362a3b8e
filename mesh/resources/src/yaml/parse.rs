//! The first validation step: from the text of a chunk to nodes. Called for every new chunk. Bounded in depth and in
//! values, aliases expanded; not recursive.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Marker, Options, Parser, ScalarStyle, StrInput, Tag};

use crate::limits::{MAX_DEPTH, MAX_LIST_VALUES, MAX_VALUES};
use crate::suggest::quoted;
use crate::yaml::errors::FieldError;
use crate::yaml::node::{Key, Node, Position, Value};
use crate::yaml::parse_error;
use crate::yaml::path::{FieldPath, FieldStep};
use crate::yaml::scalar;

/// The content of a chunk.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// The documents in order, without empty ones.
    pub(crate) documents: Vec<ParsedDocument>,
    /// The error that made the rest of the chunk unreadable.
    pub(crate) parse_error: Option<FieldError>,
}

/// A parsed document.
#[derive(Debug)]
pub(crate) struct ParsedDocument {
    /// The root node.
    pub(crate) root: Node,
    /// Errors found by the parser, such as a duplicate key.
    pub(crate) errors: Vec<FieldError>,
}

/// Parses a chunk. Positions count from its start.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    if let Some(error) = parse_error::control_character(text) {
        parsed.parse_error = Some(error);
        return parsed;
    }
    let mut parser = Parser::new_from_str_with_options(text, options());
    let mut builder = NodeBuilder::default();
    loop {
        match parse_event(text, &mut parser, &mut builder, &mut parsed.documents) {
            Ok(true) => {}
            Ok(false) => return parsed,
            Err(error) => {
                parsed.parse_error = Some(error);
                return parsed;
            }
        }
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.disallow_directives = true; // A directive would apply to the following chunks as well.
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options.set_emit_comments(false);
    options
}

fn parse_event<'a>(
    text: &str,
    parser: &mut Parser<'a, StrInput<'a>>,
    builder: &mut NodeBuilder,
    documents: &mut Vec<ParsedDocument>,
) -> Result<bool, FieldError> {
    let (event, span) = match parser.next_event() {
        None => return Ok(false),
        Some(Err(error)) => return Err(parse_error::from_scan_error(&error, text)),
        Some(Ok(event)) => event,
    };
    let position = position(&span.start);
    match event {
        Event::StreamEnd => return Ok(false),
        Event::DocumentStart(..) => *builder = NodeBuilder::default(),
        Event::DocumentEnd => documents.extend(builder.finish()),
        Event::Alias(anchor) => builder.alias(anchor, position)?,
        Event::UnresolvedAlias(name) => {
            let reason = format!("no anchor {} stands before this alias", quoted(&format!("&{name}")));
            builder.report(position, reason, "write the value out, or define the anchor in the same document");
            builder.add_value(Node { value: Value::Error, position }, 0, 1)?;
        }
        Event::Scalar(text, style, anchor, tag) => {
            let value = builder.scalar(&text, style, tag.as_deref(), position);
            builder.add_value(Node { value, position }, anchor, 1)?;
        }
        Event::SequenceStart(_, anchor, tag) => {
            builder.open(Container::List(Vec::new()), anchor, tag.as_deref(), position)?;
        }
        Event::MappingStart(_, anchor, tag) => {
            builder.open(Container::Map { entries: Vec::new(), key: None }, anchor, tag.as_deref(), position)?;
        }
        Event::SequenceEnd | Event::MappingEnd => builder.close()?,
        _ => {}
    }
    Ok(true)
}

fn position(marker: &Marker) -> Position {
    let number = |from_one: usize| u32::try_from(from_one).unwrap_or(u32::MAX);
    Position { line: number(marker.line()), column: number(marker.col() + 1) }
}

/// Builds the nodes of one document from parser events.
#[derive(Default)]
struct NodeBuilder {
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, usize)>,
    /// The values of the document, or of the present entry of a list of objects.
    values: usize,
    /// The values of the document that are copies for aliases.
    copied: usize,
    /// All values of the document.
    all_values: usize,
    errors: Vec<FieldError>,
}

/// A list or map that is still open.
struct Frame {
    container: Container,
    position: Position,
    anchor: usize,
    values: usize,
}

enum Container {
    List(Vec<Node>),
    Map { entries: Vec<(Key, Node)>, key: Option<Key> },
}

impl NodeBuilder {
    fn finish(&mut self) -> Option<ParsedDocument> {
        let builder = std::mem::take(self);
        let root = builder.root?;
        // An empty document is no error: a file may end with `---`.
        if matches!(root.value, Value::Null) && builder.errors.is_empty() {
            return None;
        }
        Some(ParsedDocument { root, errors: builder.errors })
    }

    fn open(
        &mut self,
        container: Container,
        anchor: usize,
        tag: Option<&Tag>,
        position: Position,
    ) -> Result<(), FieldError> {
        let expected = if matches!(container, Container::List(_)) { "seq" } else { "map" };
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema_tag(expected)) {
            self.report_tag(tag, position);
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.error(
                position,
                format!("more than {MAX_DEPTH} lists and maps inside each other"),
                "flatten it",
            ));
        }
        self.stack.push(Frame { container, position, anchor, values: 1 });
        self.count(1, position)
    }

    fn close(&mut self) -> Result<(), FieldError> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.container {
            Container::List(entries) => Value::List(entries),
            Container::Map { entries, .. } => Value::Map(self.remove_duplicates(entries)),
        };
        self.attach(Node { value, position: frame.position }, frame.anchor, frame.values)
    }

    fn alias(&mut self, anchor: usize, position: Position) -> Result<(), FieldError> {
        let Some((node, values)) = self.anchors.get(&anchor) else {
            return Err(self.error(
                position,
                "an alias inside the value it stands for".to_owned(),
                "write the value out",
            ));
        };
        let values = *values;
        let is_key = matches!(self.stack.last(), Some(Frame { container: Container::Map { key: None, .. }, .. }));
        // Checked before the copy: a few lines of aliases could expand to gigabytes.
        if self.values.saturating_add(values) > MAX_VALUES {
            let reason = format!("more than {MAX_VALUES} values in one document, aliases expanded");
            return Err(self.error(position, reason, "write fewer aliases of aliases"));
        }
        self.copied += values;
        let mut node = node.clone();
        if is_key {
            node.position = position;
        }
        self.add_value(node, 0, values)
    }

    /// Adds a complete value to its container, and counts it.
    fn add_value(&mut self, node: Node, anchor: usize, values: usize) -> Result<(), FieldError> {
        self.count(values, node.position)?;
        self.attach(node, anchor, values)
    }

    fn count(&mut self, values: usize, position: Position) -> Result<(), FieldError> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES {
            let reason = format!("more than {MAX_VALUES} values in one document");
            return Err(self.error(position, reason, "split it into several documents"));
        }
        self.all_values = self.all_values.saturating_add(values);
        if self.all_values > MAX_LIST_VALUES {
            let reason = format!("more than {MAX_LIST_VALUES} values in one list");
            return Err(self.error(position, reason, "split it into several lists"));
        }
        Ok(())
    }

    fn attach(&mut self, node: Node, anchor: usize, values: usize) -> Result<(), FieldError> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), values));
        }
        if self.is_list_of_objects() {
            self.values = self.copied; // The next entry is a document of its own.
        }
        let key_mark = match self.stack.last_mut() {
            None => {
                self.root = Some(node);
                return Ok(());
            }
            Some(Frame { container, values: total, .. }) => {
                *total += values;
                match container {
                    Container::List(entries) => {
                        entries.push(node);
                        return Ok(());
                    }
                    Container::Map { entries, key } => match key.take() {
                        Some(key) => {
                            entries.push((key, node));
                            return Ok(());
                        }
                        None => match key_text(node.value) {
                            Some(text) => {
                                *key = Some(Key { text, position: node.position });
                                return Ok(());
                            }
                            None => node.position,
                        },
                    },
                }
            }
        };
        Err(self.error(key_mark, "the name of a field must be a text".to_owned(), "write `name: value`"))
    }

    /// Returns true if the innermost open container is a list at the top, or the field `items` of a map at the top.
    fn is_list_of_objects(&self) -> bool {
        match self.stack.as_slice() {
            [Frame { container: Container::List(_), .. }] => true,
            [
                Frame { container: Container::Map { key: Some(key), .. }, .. },
                Frame { container: Container::List(_), .. },
            ] => key.text == "items",
            _ => false,
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, position: Position) -> Value {
        match tag.map(|tag| (tag, tag.core_suffix())) {
            None if style == ScalarStyle::Plain => match &self.stack.last() {
                // A key is always a text, even if it could be a number.
                Some(Frame { container: Container::Map { key: None, .. }, .. }) => Value::Text(text.to_owned()),
                _ => scalar::resolve(text),
            },
            None | Some((_, Some("str"))) => Value::Text(text.to_owned()),
            Some((tag, Some(_))) => {
                let value = scalar::resolve(text);
                if matches!(value, Value::Text(_)) {
                    self.report_tag(tag, position);
                }
                value
            }
            Some((tag, None)) => {
                self.report_tag(tag, position);
                Value::Text(text.to_owned())
            }
        }
    }

    /// Returns the entries without merge keys and duplicate keys; reports an error for each.
    fn remove_duplicates(&mut self, entries: Vec<(Key, Node)>) -> Vec<(Key, Node)> {
        let mut seen: HashMap<&str, Position> = HashMap::with_capacity(entries.len());
        let mut repeated: HashSet<usize> = HashSet::new();
        for (index, (key, _)) in entries.iter().enumerate() {
            if key.text == "<<" {
                self.errors.push(self.error_in_field(
                    &key.text,
                    key.position,
                    "merge keys (`<<`) are not supported".to_owned(),
                    "write the fields out",
                ));
                repeated.insert(index);
            } else if let Some(first) = seen.get(key.text.as_str()) {
                // The chunk's position in the file is not known here, so the message has the distance in lines.
                let reason = format!(
                    "this field is there already, {}",
                    line_distance(key.position.line.saturating_sub(first.line))
                );
                self.errors.push(self.error_in_field(&key.text, key.position, reason, "keep one of the two"));
                repeated.insert(index);
            } else {
                seen.insert(&key.text, key.position);
            }
        }
        if repeated.is_empty() {
            return entries;
        }
        entries.into_iter().enumerate().filter(|(index, _)| !repeated.contains(index)).map(|(_, entry)| entry).collect()
    }

    fn report_tag(&mut self, tag: &Tag, position: Position) {
        self.report(position, format!("the tag {} does not fit here", quoted(&tag.original())), "remove the tag");
    }

    fn report(&mut self, position: Position, reason: String, hint: &str) {
        let error = self.error(position, reason, hint);
        self.errors.push(error);
    }

    fn error(&self, position: Position, reason: String, hint: &str) -> FieldError {
        FieldError { path: self.path(), position: Some(position), reason, hint: hint.to_owned() }
    }

    fn error_in_field(&self, field: &str, position: Position, reason: String, hint: &str) -> FieldError {
        let mut path = self.path();
        path.0.push(FieldStep::Field(field.to_owned()));
        FieldError { path, position: Some(position), reason, hint: hint.to_owned() }
    }

    /// Returns the path of the next value.
    fn path(&self) -> FieldPath {
        let step = |frame: &Frame| match &frame.container {
            Container::List(entries) => Some(FieldStep::Entry(entries.len())),
            Container::Map { key, .. } => key.as_ref().map(|key| FieldStep::Field(key.text.clone())),
        };
        FieldPath(self.stack.iter().filter_map(step).collect())
    }
}

fn key_text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Null | Value::Error | Value::List(_) | Value::Map(_) => None,
    }
}

fn line_distance(lines: u32) -> String {
    match lines {
        0 => "earlier on this line".to_owned(),
        1 => "1 line above".to_owned(),
        _ => format!("{lines} lines above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Vec<String> {
        let parsed = parse(text);
        assert_eq!(parsed.parse_error, None, "{text}");
        parsed.documents.iter().map(|document| document.root.value.to_json().to_string()).collect()
    }

    #[test]
    fn parse_reads_yaml_and_json() {
        for (text, expected) in [
            ("", &[][..]),
            ("# nothing but a comment\n", &[]),
            ("---\n---\n", &[]),
            ("a: 1\nb: [x, 'y', \"z\"]\n", &[r#"{"a":1,"b":["x","y","z"]}"#]),
            ("{\"a\": {\"b\": null}, \"c\": true}", &[r#"{"a":{"b":null},"c":true}"#]),
            ("a: 1\n...\nb: 2\n", &[r#"{"a":1}"#, r#"{"b":2}"#]),
            ("80: x\ntrue: y\n", &[r#"{"80":"x","true":"y"}"#]),
            ("a: &x {b: 1}\nc: *x\n", &[r#"{"a":{"b":1},"c":{"b":1}}"#]),
            ("a: !!str 80\nb: !!int 7\n", &[r#"{"a":"80","b":7}"#]),
            ("a: |\n  x\n  y\n", &["{\"a\":\"x\\ny\\n\"}"]),
            ("a:\r\n  b: 1\r\n", &[r#"{"a":{"b":1}}"#]),
        ] {
            assert_eq!(json(text), expected, "{text:?}");
        }
    }

    #[test]
    fn locate_returns_position_of_field() {
        let text = "spec:\n  rules:\n  - name: a\n    ports: [{n: 1}, {n: 2}]\n  - name: b\n";
        let node = parse(text).documents.remove(0).root;
        let field = |name: &str| FieldStep::Field(name.to_owned());
        for (path, line, column) in [
            (vec![], 1, 1),
            (vec![field("spec")], 1, 1),
            (vec![field("spec"), field("rules"), FieldStep::Entry(0)], 3, 5),
            (vec![field("spec"), field("rules"), FieldStep::Entry(1), field("name")], 5, 5),
            (
                vec![
                    field("spec"),
                    field("rules"),
                    FieldStep::Entry(0),
                    field("ports"),
                    FieldStep::Entry(1),
                    field("n"),
                ],
                4,
                22,
            ),
            (vec![field("spec"), field("none"), field("x")], 1, 1),
        ] {
            let path = FieldPath(path);
            assert_eq!(node.locate(&path), Position { line, column }, "{path}");
        }
    }

    #[test]
    fn parse_reports_position_of_error() {
        for (text, line, column, reason) in [
            ("a: 1\na: 2\n", 2, 1, "this field is there already, 1 line above"),
            ("a: {b: 1, b: 2}\n", 1, 11, "this field is there already, earlier on this line"),
            ("a: *x\n", 1, 4, "no anchor `&x` stands before this alias"),
            ("a: &x [*x]\n", 1, 8, "an alias inside the value it stands for"),
            ("<<: {a: 1}\n", 1, 1, "merge keys (`<<`) are not supported"),
            ("? [a]\n: b\n", 1, 3, "the name of a field must be a text"),
            ("a: !secret b\n", 1, 12, "the tag `!secret` does not fit here"),
        ] {
            let mut parsed = parse(text);
            let errors = parsed.documents.pop().map(|document| document.errors).unwrap_or_default();
            let error = parsed.parse_error.or_else(|| errors.into_iter().next()).expect(text);
            assert_eq!((error.position, error.reason.as_str()), (Some(Position { line, column }), reason), "{text}");
        }
    }

    #[test]
    fn parse_rejects_alias_bombs_and_deep_nesting() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = level - 1;
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); 10].join(", ")));
        }
        let error = parse(&bomb).parse_error.expect("an alias bomb is rejected");
        assert!(error.reason.starts_with("more than 100000 values"), "{}", error.reason);
        for tower in ["[".repeat(10_000), "- ".repeat(10_000), "{a: ".repeat(10_000)] {
            assert!(parse(&tower).parse_error.is_some());
        }
    }
}
