//! From the text of a chunk to trees: pass one of the checks. Called for every chunk that is new. Bounded in depth and
//! in values, aliases expanded; never recursive.

use std::collections::{HashMap, HashSet};

use serde_saphyr::granit_parser::{Event, Marker, Options, Parser, ScalarStyle, StrInput, Tag};

use crate::document::fault::Fault;
use crate::document::path::{FieldPath, FieldStep};
use crate::document::scalar;
use crate::document::syntax_error;
use crate::document::tree::{Key, Mark, Tree, Value};
use crate::limits::{MAX_DEPTH, MAX_VALUES};
use crate::suggest::quoted;

/// What a chunk holds.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    /// Its documents in order; empty ones are left out.
    pub(crate) documents: Vec<ParsedDocument>,
    /// Why the rest of the chunk cannot be read.
    pub(crate) broken: Option<Fault>,
}

/// A document as it was written.
#[derive(Debug)]
pub(crate) struct ParsedDocument {
    /// Its values.
    pub(crate) tree: Tree,
    /// What is wrong with it already: the same key twice and the like.
    pub(crate) faults: Vec<Fault>,
}

/// Parses a chunk. Places are counted from its beginning.
pub(crate) fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    if let Some(fault) = syntax_error::control_character(text) {
        parsed.broken = Some(fault);
        return parsed;
    }
    let mut parser = Parser::new_from_str_with_options(text, options());
    let mut builder = TreeBuilder::default();
    loop {
        match next(text, &mut parser, &mut builder, &mut parsed.documents) {
            Ok(true) => {}
            Ok(false) => return parsed,
            Err(fault) => {
                parsed.broken = Some(fault);
                return parsed;
            }
        }
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.disallow_directives = true; // They would reach across the cuts between chunks, and nobody writes them.
    options.emit_unresolved_aliases = true;
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    options.set_emit_comments(false);
    options
}

fn next<'a>(
    text: &str,
    parser: &mut Parser<'a, StrInput<'a>>,
    builder: &mut TreeBuilder,
    documents: &mut Vec<ParsedDocument>,
) -> Result<bool, Fault> {
    let (event, span) = match parser.next_event() {
        None => return Ok(false),
        Some(Err(error)) => return Err(syntax_error::fault(&error, text)),
        Some(Ok(next)) => next,
    };
    let mark = mark_of(&span.start);
    match event {
        Event::StreamEnd => return Ok(false),
        Event::DocumentStart(..) => *builder = TreeBuilder::default(),
        Event::DocumentEnd => documents.extend(builder.finish()),
        Event::Alias(anchor) => builder.alias(anchor, mark)?,
        Event::UnresolvedAlias(name) => {
            let reason = format!("no anchor {} stands before this alias", quoted(&format!("&{name}")));
            builder.refuse(mark, reason, "write the value out, or define the anchor in the same document");
            builder.place(Tree { value: Value::Unreadable, mark }, 0, 1)?;
        }
        Event::Scalar(text, style, anchor, tag) => {
            let value = builder.scalar(&text, style, tag.as_deref(), mark);
            builder.place(Tree { value, mark }, anchor, 1)?;
        }
        Event::SequenceStart(_, anchor, tag) => builder.open(Open::List(Vec::new()), anchor, tag.as_deref(), mark)?,
        Event::MappingStart(_, anchor, tag) => {
            builder.open(Open::Map { entries: Vec::new(), key: None }, anchor, tag.as_deref(), mark)?;
        }
        Event::SequenceEnd | Event::MappingEnd => builder.close()?,
        _ => {}
    }
    Ok(true)
}

fn mark_of(marker: &Marker) -> Mark {
    let number = |from_one: usize| u32::try_from(from_one).unwrap_or(u32::MAX);
    Mark { line: number(marker.line()), column: number(marker.col() + 1) }
}

/// Puts one document together from events.
#[derive(Default)]
struct TreeBuilder {
    stack: Vec<Frame>,
    root: Option<Tree>,
    anchors: HashMap<usize, (Tree, usize)>,
    values: usize,
    faults: Vec<Fault>,
}

/// A list or map that is not closed yet.
struct Frame {
    open: Open,
    mark: Mark,
    anchor: usize,
    values: usize,
}

enum Open {
    List(Vec<Tree>),
    Map { entries: Vec<(Key, Tree)>, key: Option<Key> },
}

impl TreeBuilder {
    fn finish(&mut self) -> Option<ParsedDocument> {
        let builder = std::mem::take(self);
        let tree = builder.root?;
        // An empty document is skipped: `---` at the end of a file is no mistake.
        if matches!(tree.value, Value::Null) && builder.faults.is_empty() {
            return None;
        }
        Some(ParsedDocument { tree, faults: builder.faults })
    }

    fn open(&mut self, open: Open, anchor: usize, tag: Option<&Tag>, mark: Mark) -> Result<(), Fault> {
        let expected = if matches!(open, Open::List(_)) { "seq" } else { "map" };
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema_tag(expected)) {
            self.refuse_tag(tag, mark);
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.fault(
                mark,
                format!("more than {MAX_DEPTH} lists and maps inside each other"),
                "flatten it",
            ));
        }
        self.stack.push(Frame { open, mark, anchor, values: 1 });
        self.count(1, mark)
    }

    fn close(&mut self) -> Result<(), Fault> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        let value = match frame.open {
            Open::List(entries) => Value::List(entries),
            Open::Map { entries, .. } => Value::Map(self.without_repeats(entries)),
        };
        self.attach(Tree { value, mark: frame.mark }, frame.anchor, frame.values)
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<(), Fault> {
        let Some((tree, values)) = self.anchors.get(&anchor) else {
            return Err(self.fault(mark, "an alias inside the value it stands for".to_owned(), "write the value out"));
        };
        let values = *values;
        let is_key = matches!(self.stack.last(), Some(Frame { open: Open::Map { key: None, .. }, .. }));
        // Counted before it is copied: this is where a few lines could become gigabytes.
        if self.values.saturating_add(values) > MAX_VALUES {
            let reason = format!("more than {MAX_VALUES} values in one document, aliases expanded");
            return Err(self.fault(mark, reason, "write fewer aliases of aliases"));
        }
        let mut tree = tree.clone();
        if is_key {
            tree.mark = mark;
        }
        self.place(tree, 0, values)
    }

    /// Takes a whole value: counts it and puts it where it belongs.
    fn place(&mut self, tree: Tree, anchor: usize, values: usize) -> Result<(), Fault> {
        self.count(values, tree.mark)?;
        self.attach(tree, anchor, values)
    }

    fn count(&mut self, values: usize, mark: Mark) -> Result<(), Fault> {
        self.values = self.values.saturating_add(values);
        if self.values > MAX_VALUES {
            let reason = format!("more than {MAX_VALUES} values in one document");
            return Err(self.fault(mark, reason, "split it into several documents"));
        }
        Ok(())
    }

    fn attach(&mut self, tree: Tree, anchor: usize, values: usize) -> Result<(), Fault> {
        if anchor != 0 {
            self.anchors.insert(anchor, (tree.clone(), values));
        }
        let fault = match self.stack.last_mut() {
            None => {
                self.root = Some(tree);
                return Ok(());
            }
            Some(Frame { open, values: total, .. }) => {
                *total += values;
                match open {
                    Open::List(entries) => {
                        entries.push(tree);
                        return Ok(());
                    }
                    Open::Map { entries, key } => match key.take() {
                        Some(key) => {
                            entries.push((key, tree));
                            return Ok(());
                        }
                        None => match key_text(tree.value) {
                            Some(text) => {
                                *key = Some(Key { text, mark: tree.mark });
                                return Ok(());
                            }
                            None => tree.mark,
                        },
                    },
                }
            }
        };
        Err(self.fault(fault, "the name of a field must be a text".to_owned(), "write `name: value`"))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, mark: Mark) -> Value {
        match tag.map(|tag| (tag, tag.core_suffix())) {
            None if style == ScalarStyle::Plain => match &self.stack.last() {
                // A field's name is what was written, even where that could be read as a number.
                Some(Frame { open: Open::Map { key: None, .. }, .. }) => Value::Text(text.to_owned()),
                _ => scalar::resolve(text),
            },
            None | Some((_, Some("str"))) => Value::Text(text.to_owned()),
            Some((tag, Some(_))) => {
                let value = scalar::resolve(text);
                if matches!(value, Value::Text(_)) {
                    self.refuse_tag(tag, mark);
                }
                value
            }
            Some((tag, None)) => {
                self.refuse_tag(tag, mark);
                Value::Text(text.to_owned())
            }
        }
    }

    /// The entries without those whose key was there before, which are refused.
    fn without_repeats(&mut self, entries: Vec<(Key, Tree)>) -> Vec<(Key, Tree)> {
        let mut seen: HashMap<&str, Mark> = HashMap::with_capacity(entries.len());
        let mut repeated: HashSet<usize> = HashSet::new();
        for (index, (key, _)) in entries.iter().enumerate() {
            if key.text == "<<" {
                self.faults.push(self.fault_in(
                    &key.text,
                    key.mark,
                    "merge keys (`<<`) are not supported".to_owned(),
                    "write the fields out",
                ));
                repeated.insert(index);
            } else if let Some(first) = seen.get(key.text.as_str()) {
                // The chunk may begin anywhere in its file, so the other place is told by distance.
                let reason =
                    format!("this field is there already, {}", above(key.mark.line.saturating_sub(first.line)));
                self.faults.push(self.fault_in(&key.text, key.mark, reason, "keep one of the two"));
                repeated.insert(index);
            } else {
                seen.insert(&key.text, key.mark);
            }
        }
        if repeated.is_empty() {
            return entries;
        }
        entries.into_iter().enumerate().filter(|(index, _)| !repeated.contains(index)).map(|(_, entry)| entry).collect()
    }

    fn refuse_tag(&mut self, tag: &Tag, mark: Mark) {
        self.refuse(mark, format!("the tag {} does not fit here", quoted(&tag.original())), "remove the tag");
    }

    fn refuse(&mut self, mark: Mark, reason: String, hint: &str) {
        let fault = self.fault(mark, reason, hint);
        self.faults.push(fault);
    }

    fn fault(&self, mark: Mark, reason: String, hint: &str) -> Fault {
        Fault { path: self.path(), mark: Some(mark), reason, hint: hint.to_owned() }
    }

    fn fault_in(&self, field: &str, mark: Mark, reason: String, hint: &str) -> Fault {
        let mut path = self.path();
        path.0.push(FieldStep::Field(field.to_owned()));
        Fault { path, mark: Some(mark), reason, hint: hint.to_owned() }
    }

    /// The path of the value that comes next.
    fn path(&self) -> FieldPath {
        let step = |frame: &Frame| match &frame.open {
            Open::List(entries) => Some(FieldStep::Entry(entries.len())),
            Open::Map { key, .. } => key.as_ref().map(|key| FieldStep::Field(key.text.clone())),
        };
        FieldPath(self.stack.iter().filter_map(step).collect())
    }
}

fn key_text(value: Value) -> Option<String> {
    match value {
        Value::Text(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Boolean(value) => Some(value.to_string()),
        Value::Null | Value::Unreadable | Value::List(_) | Value::Map(_) => None,
    }
}

fn above(lines: u32) -> String {
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
        assert_eq!(parsed.broken, None, "{text}");
        parsed.documents.iter().map(|document| document.tree.value.to_json().to_string()).collect()
    }

    #[test]
    fn yaml_and_json() {
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
    fn fields_know_their_place() {
        let text = "spec:\n  rules:\n  - name: a\n    ports: [{n: 1}, {n: 2}]\n  - name: b\n";
        let tree = parse(text).documents.remove(0).tree;
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
            assert_eq!(tree.locate(&path), Mark { line, column }, "{path}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
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
            let faults = parsed.documents.pop().map(|document| document.faults).unwrap_or_default();
            let fault = parsed.broken.or_else(|| faults.into_iter().next()).expect(text);
            assert_eq!((fault.mark, fault.reason.as_str()), (Some(Mark { line, column }), reason), "{text}");
        }
    }

    #[test]
    fn alias_bombs_and_towers_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let below = level - 1;
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); 10].join(", ")));
        }
        let fault = parse(&bomb).broken.expect("a bomb is refused");
        assert!(fault.reason.starts_with("more than 100000 values"), "{}", fault.reason);
        for tower in ["[".repeat(10_000), "- ".repeat(10_000), "{a: ".repeat(10_000)] {
            assert!(parse(&tower).broken.is_some());
        }
    }
}
