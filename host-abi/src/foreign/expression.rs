//! CEL expressions (`expr_create`, `expr_evaluate`, `expr_delete`). A guest creates an expression once and evaluates it
//! for any number of streams. The variables of an expression are properties, by their paths: `request.headers['x-a']`.
//!
//! The text is untrusted, and an evaluation cannot be interrupted. Therefore an expression is limited when it is
//! created: its length, depth and size, the functions it calls (none that loops or multiplies its input), and the
//! patterns it matches. Like Envoy, there are no comprehensions (`all`, `exists`, `map`, `filter`).

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};
use cel::objects::Key;
use cel::{Context, Env, IdedExpr, Value};
use chrono::{DateTime, Duration};

use crate::abi::property::PropertyValue;
use crate::abi::status::Status;
use crate::limits::{
    MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH, MAX_EXPRESSION_NODES, MAX_EXPRESSION_PATTERNS, MAX_EXPRESSION_SUMS,
    MAX_EXPRESSIONS, MAX_FOREIGN_BYTES, MAX_MATCHED_BYTES, MAX_PATH_SEGMENTS, MAX_PATTERN_BYTES, MAX_PATTERN_SIZE,
};

/// The expressions of one VM, by token.
#[derive(Default)]
pub(crate) struct ExpressionTable {
    live: HashMap<u32, Expression>,
    next: u32,
}

/// A parsed expression with the properties that it reads.
struct Expression {
    root: IdedExpr,
    /// Property paths, shorter ones first, each with its number of uses by itself or as part of a longer path.
    paths: Vec<(Vec<String>, usize)>,
    /// True if the expression calls `matches`.
    has_pattern: bool,
}

/// A function that passes the value of a property to its argument. Paths have the form of `proxy_get_property`.
pub(crate) type PropertyLookup<'a> = dyn FnMut(&[u8], &mut dyn FnMut(PropertyValue<'_>)) + 'a;

impl ExpressionTable {
    /// Stores an expression and returns its token.
    ///
    /// # Errors
    /// A description of the syntax error or exceeded limit.
    pub(crate) fn create(&mut self, text: &[u8]) -> Result<u32, String> {
        if self.live.len() >= MAX_EXPRESSIONS {
            return Err(format!("more than {MAX_EXPRESSIONS} expressions: delete some"));
        }
        let expression = Expression::read(text)?;
        while self.live.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let token = self.next;
        self.next = self.next.wrapping_add(1);
        self.live.insert(token, expression);
        Ok(token)
    }

    /// Appends the value of an expression, in the wire format of properties.
    ///
    /// # Errors
    /// `NotFound` for an unknown token. `InternalFailure` for an expression without a value: a type mismatch, or a
    /// missing property.
    pub(crate) fn evaluate(
        &self,
        token: u32,
        lookup: &mut PropertyLookup<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        self.live.get(&token).ok_or(Status::NotFound)?.evaluate(lookup, out)
    }

    /// Removes an expression.
    pub(crate) fn delete(&mut self, token: u32) {
        self.live.remove(&token);
    }
}

/// Returns the CEL environment, which is created once per process.
fn language() -> &'static Arc<Env> {
    static LANGUAGE: OnceLock<Arc<Env>> = OnceLock::new();
    LANGUAGE.get_or_init(|| Arc::new(Env::stdlib().with_optional_support(false)))
}

impl Expression {
    fn read(text: &[u8]) -> Result<Self, String> {
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(format!("longer than {MAX_EXPRESSION_BYTES} bytes"));
        }
        let text = std::str::from_utf8(text).map_err(|_| "not UTF-8".to_owned())?;
        check_depth(text)?;
        // The parser is third-party code and its input is untrusted.
        let parse = || language().parser().max_recursion_depth(MAX_EXPRESSION_DEPTH).parse(text);
        let root = catch_unwind(AssertUnwindSafe(parse)).map_err(|_| "the parser failed".to_owned())?;
        let first =
            |errors: cel::ParseErrors| errors.errors.first().map_or_else(String::new, |error| error.msg.clone());
        let root = root.map_err(first)?;
        let mut checker = ExpressionChecker::default();
        checker.visit(&root)?;
        if checker.patterns > MAX_EXPRESSION_PATTERNS || (checker.patterns > 0 && checker.sums > 0) {
            return Err(format!("at most {MAX_EXPRESSION_PATTERNS} patterns, and no sums beside them"));
        }
        let mut uses: HashMap<Vec<String>, usize> = HashMap::new();
        checker.paths.into_iter().for_each(|path| *uses.entry(path).or_default() += 1);
        // A value at a path is also copied with each use of a prefix of the path.
        let weight = |path: &[String]| uses.iter().filter(|(whole, _)| path.starts_with(whole)).map(|(_, n)| n).sum();
        let mut paths: Vec<(Vec<String>, usize)> = uses.keys().map(|path| (path.clone(), weight(path))).collect();
        paths.sort_by(|(one, _), (other, _)| (one.len(), one).cmp(&(other.len(), other)));
        Ok(Self { root, paths, has_pattern: checker.patterns > 0 })
    }

    fn evaluate(&self, lookup: &mut PropertyLookup<'_>, out: &mut Vec<u8>) -> Result<(), Status> {
        let mut known = HashMap::new();
        // The evaluation cannot be interrupted, so the size of its input is limited.
        let mut budget = Some(if self.has_pattern { MAX_MATCHED_BYTES } else { MAX_FOREIGN_BYTES });
        for (path, uses) in &self.paths {
            let mut value = None;
            lookup(path.join("\0").as_bytes(), &mut |found| {
                budget = budget.and_then(|budget| budget.checked_sub(found.len().saturating_mul(*uses)));
                value = budget.map(|_| to_cel_value(found));
            });
            budget.ok_or(Status::InternalFailure)?;
            insert_property(&mut known, path, value);
        }
        let mut context = Context::with_env(Arc::clone(language()));
        for (name, node) in known {
            context.add_variable_from_value(name, node.into_value());
        }
        let value = catch_unwind(AssertUnwindSafe(|| Value::resolve(&self.root, &context)));
        let value = value.ok().and_then(Result::ok).ok_or(Status::InternalFailure)?;
        write(&value, out)
    }
}

/// Checks the nesting of brackets. Each level takes a few frames of the parser's stack.
fn check_depth(text: &str) -> Result<(), String> {
    let mut depth = 0_u16;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_EXPRESSION_DEPTH {
            return Err(format!("nested more than {MAX_EXPRESSION_DEPTH} deep"));
        }
    }
    Ok(())
}

/// Functions allowed in expressions beside operators. None of them returns more than its input.
const FUNCTIONS: [&str; 30] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "bool",
    "dyn",
    "type",
    "timestamp",
    "duration",
    "getFullYear",
    "getMonth",
    "getDayOfYear",
    "getDayOfMonth",
    "getDate",
    "getDayOfWeek",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getMilliseconds",
    operators::IN,
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
];

const OPERATORS: [&str; 13] = [
    operators::ADD,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER,
    operators::GREATER_EQUALS,
    operators::LESS,
    operators::LESS_EQUALS,
    operators::NEGATE,
    operators::INDEX,
];

/// A traversal of an expression that rejects what is not allowed, and collects the properties.
#[derive(Default)]
struct ExpressionChecker {
    nodes: usize,
    depth: u16,
    sums: usize,
    patterns: usize,
    paths: Vec<Vec<String>>,
}

impl ExpressionChecker {
    fn visit(&mut self, node: &IdedExpr) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > MAX_EXPRESSION_NODES {
            return Err(format!("more than {MAX_EXPRESSION_NODES} parts"));
        }
        if let Some(path) = property_path(node, MAX_PATH_SEGMENTS) {
            self.paths.push(path);
            return Ok(());
        }
        self.depth += 1;
        if self.depth > MAX_EXPRESSION_DEPTH {
            return Err(format!("nested more than {MAX_EXPRESSION_DEPTH} deep"));
        }
        let outcome = self.visit_parts(node);
        self.depth -= 1;
        outcome
    }

    fn visit_parts(&mut self, node: &IdedExpr) -> Result<(), String> {
        match &node.expr {
            Expr::Call(call) => self.visit_call(call),
            Expr::Select(select) => self.visit(&select.operand),
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.visit(element)),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => self.visit(&entry.key).and_then(|()| self.visit(&entry.value)),
                EntryExpr::StructField(_) => Err("objects cannot be created".to_owned()),
            }),
            Expr::Literal(_) | Expr::Ident(_) => Ok(()),
            Expr::Comprehension(_) => {
                Err("comprehensions (`all`, `exists`, `map`, `filter`) are not allowed".to_owned())
            }
            Expr::Struct(_) => Err("objects cannot be created".to_owned()),
            Expr::Unspecified => Err("a part is missing".to_owned()),
        }
    }

    fn visit_call(&mut self, call: &CallExpr) -> Result<(), String> {
        let name = call.func_name.as_str();
        if !FUNCTIONS.contains(&name) && !OPERATORS.contains(&name) {
            return Err(format!("unknown function `{name}`"));
        }
        if name == operators::ADD {
            self.sums += 1;
            if self.sums > MAX_EXPRESSION_SUMS {
                return Err(format!("more than {MAX_EXPRESSION_SUMS} sums"));
            }
        }
        if name == "matches" {
            self.patterns += 1;
            check_pattern(call)?;
        }
        call.target.as_deref().into_iter().chain(&call.args).try_for_each(|part| self.visit(part))
    }
}

/// Checks a pattern. It must be a literal, because it is compiled at each evaluation and its size must be known.
fn check_pattern(call: &CallExpr) -> Result<(), String> {
    let Some(Expr::Literal(LiteralValue::String(pattern))) = call.args.last().map(|pattern| &pattern.expr) else {
        return Err("the pattern of `matches` must be a literal".to_owned());
    };
    let pattern = pattern.inner();
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(format!("a pattern is longer than {MAX_PATTERN_BYTES} bytes"));
    }
    let built = regex::RegexBuilder::new(pattern).size_limit(MAX_PATTERN_SIZE).build();
    built.map(drop).map_err(|error| format!("invalid pattern: {error}"))
}

/// Returns the property path of a node such as `a.b['c']`; `None` for other nodes, and for paths longer than `most`.
fn property_path(node: &IdedExpr, most: usize) -> Option<Vec<String>> {
    let shorter = most.checked_sub(1)?;
    let (operand, last) = match &node.expr {
        Expr::Ident(name) => return Some(vec![name.clone()]),
        Expr::Select(select) => (&*select.operand, select.field.clone()),
        Expr::Call(call) if call.func_name == operators::INDEX && call.target.is_none() => match call.args.as_slice() {
            [operand, IdedExpr { expr: Expr::Literal(LiteralValue::String(key)), .. }] => {
                (operand, key.inner().to_owned())
            }
            _ => return None,
        },
        _ => return None,
    };
    let mut path = property_path(operand, shorter)?;
    path.push(last);
    Some(path)
}

/// A property value, or the values below a path.
enum PropertyNode {
    Value(Value),
    Parts(HashMap<String, Self>),
}

impl PropertyNode {
    fn into_value(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Parts(parts) => {
                let parts = parts.into_iter().map(|(name, node)| (Key::from(name), node.into_value()));
                Value::from(parts.collect::<HashMap<Key, Value>>())
            }
        }
    }
}

/// Inserts a value at its path. A missing value still creates the nodes above it, so that `has` works.
fn insert_property(known: &mut HashMap<String, PropertyNode>, path: &[String], value: Option<Value>) {
    match (path, value) {
        ([], _) | ([_], None) => {}
        ([name], Some(value)) => {
            known.insert(name.clone(), PropertyNode::Value(value));
        }
        ([name, rest @ ..], value) => {
            match known.entry(name.clone()).or_insert_with(|| PropertyNode::Parts(HashMap::new())) {
                PropertyNode::Parts(parts) => insert_property(parts, rest, value),
                PropertyNode::Value(_) => {} // The value includes its parts.
            }
        }
    }
}

fn to_cel_value(found: PropertyValue<'_>) -> Value {
    let text = |bytes: &[u8]| Value::String(Arc::new(String::from_utf8_lossy(bytes).into_owned()));
    match found {
        PropertyValue::Text(bytes) => text(&bytes),
        PropertyValue::Bytes(bytes) => Value::Bytes(Arc::new(bytes.into_owned())),
        PropertyValue::Integer(number) => Value::Int(number),
        PropertyValue::Unsigned(number) => Value::UInt(number),
        PropertyValue::Bool(yes) => Value::Bool(yes),
        PropertyValue::Double(number) => Value::Float(number),
        PropertyValue::Timestamp(moment) => Value::Timestamp(DateTime::from_timestamp_nanos(moment).fixed_offset()),
        PropertyValue::Duration(time) => Value::Duration(Duration::nanoseconds(time)),
        PropertyValue::Pairs(pairs) => {
            let mut joined: HashMap<Key, Vec<u8>> = HashMap::new();
            for (name, value) in pairs {
                let all = joined.entry(Key::from(String::from_utf8_lossy(&name).into_owned())).or_default();
                if !all.is_empty() {
                    all.push(b',');
                }
                all.extend(value);
            }
            Value::from(joined.into_iter().map(|(name, value)| (name, text(&value))).collect::<HashMap<_, _>>())
        }
    }
}

/// Appends a value in the wire format of properties. A list is encoded as pairs of an item and an empty value.
fn write(value: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    // A list or map may contain the same value many times.
    let mut size = 0;
    let mut wire = |value: &Value| {
        let mut bytes = Vec::new();
        write(value, &mut bytes)?;
        size += bytes.len();
        if size > MAX_FOREIGN_BYTES { Err(Status::SerializationFailure) } else { Ok(bytes) }
    };
    let found = match value {
        Value::Int(number) => PropertyValue::Integer(*number),
        Value::UInt(number) => PropertyValue::Unsigned(*number),
        Value::Float(number) => PropertyValue::Double(*number),
        Value::Bool(yes) => PropertyValue::Bool(*yes),
        Value::String(text) => PropertyValue::text(text.as_str()),
        Value::Bytes(bytes) => PropertyValue::text(bytes.as_slice()),
        Value::Duration(time) => PropertyValue::Duration(time.num_nanoseconds().ok_or(Status::SerializationFailure)?),
        Value::Timestamp(moment) => {
            PropertyValue::Timestamp(moment.timestamp_nanos_opt().ok_or(Status::SerializationFailure)?)
        }
        Value::List(items) => {
            let item = |item| wire(item).map(|bytes| (bytes, Vec::new()));
            PropertyValue::Pairs(items.iter().map(item).collect::<Result<_, _>>()?)
        }
        Value::Map(map) => {
            let mut pairs = Vec::new();
            for (key, value) in map.map.iter() {
                let Key::String(name) = key else { return Err(Status::SerializationFailure) };
                pairs.push((name.as_bytes().to_vec(), wire(value)?));
            }
            pairs.sort();
            PropertyValue::Pairs(pairs)
        }
        _ => return Err(Status::SerializationFailure),
    };
    found.write(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluate(text: &str) -> Result<Vec<u8>, Status> {
        let mut expressions = ExpressionTable::default();
        let token = expressions.create(text.as_bytes()).map_err(|error| panic!("{text}: {error}")).unwrap();
        let mut out = Vec::new();
        let mut lookup = |path: &[u8], visit: &mut dyn FnMut(PropertyValue<'_>)| match path {
            b"request\0path" => visit(PropertyValue::text("/a/b")),
            b"request\0size" => visit(PropertyValue::Integer(7)),
            b"request\0headers\0x-a" => visit(PropertyValue::text("1,2")),
            b"request\0time" => visit(PropertyValue::Timestamp(1_700_000_000_000_000_000)),
            b"request\0duration" => visit(PropertyValue::Duration(2_000_000)),
            b"connection\0id" => visit(PropertyValue::Unsigned(9)),
            b"request\0headers" => visit(PropertyValue::Pairs(vec![
                (b"x-a".to_vec(), b"1".to_vec()),
                (b"x-a".to_vec(), b"2".to_vec()),
                (b"x-b".to_vec(), b"\xff".to_vec()),
            ])),
            b"mine" => visit(PropertyValue::Bytes(b"own"[..].into())),
            _ => {}
        };
        expressions.evaluate(token, &mut lookup, &mut out).map(|()| out)
    }

    #[test]
    fn expressions_are_evaluated() {
        let rows: [(&str, Result<&[u8], Status>); 24] = [
            ("request.path", Ok(b"/a/b")),
            ("request['path']", Ok(b"/a/b")),
            ("request.path.startsWith('/a') && request.size > 5", Ok(&[1])),
            ("request.path.matches('^/[a-z]/b$') ? 'yes' : 'no'", Ok(b"yes")),
            ("request.size + 1", Ok(&[8, 0, 0, 0, 0, 0, 0, 0])),
            ("connection.id == 9u", Ok(&[1])),
            ("request.headers['x-a']", Ok(b"1,2")),
            ("request.headers['x-a'] == request.headers['X'[0] == 'X' ? 'x-a' : 'x-a']", Err(Status::InternalFailure)),
            ("'x-a' in request.headers && !('x-c' in request.headers)", Ok(&[1])),
            ("has(request.headers.nope)", Ok(&[0])),
            ("has(request.headers.nope) || request.headers['x-a'] == '1,2'", Ok(&[1])),
            ("request.headers.nope", Err(Status::InternalFailure)),
            ("request.headers.nope == 'a' || true", Ok(&[1])),
            ("request.time > timestamp('2020-01-01T00:00:00Z')", Ok(&[1])),
            ("request.duration < duration('1s')", Ok(&[1])),
            ("request.duration", Ok(&2_000_000_i64.to_le_bytes())),
            ("mine == b'own'", Ok(&[1])),
            ("unknown", Err(Status::InternalFailure)),
            ("request.path + 1", Err(Status::InternalFailure)),
            ("1 / 0", Err(Status::InternalFailure)),
            ("9223372036854775807 + 1", Err(Status::InternalFailure)),
            ("null", Err(Status::SerializationFailure)),
            ("['a']", Ok(b"\x01\0\0\0\x01\0\0\0\0\0\0\0a\0\0")),
            ("{'a': true}", Ok(b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0\x01\0")),
        ];
        for (text, expected) in rows {
            assert_eq!(evaluate(text), expected.map(<[u8]>::to_vec), "{text}");
        }
    }

    #[test]
    fn expensive_expression_is_rejected() {
        let deep = format!("{}1{}", "(".repeat(100), ")".repeat(100));
        let sums = vec!["request.path"; 40].join("+");
        let wide = format!("[{}]", vec!["1"; 1_500].join(","));
        let texts = [
            "",
            "1 +",
            "(",
            "a..b",
            "[1, 2].all(x, x > 0)",
            "[1].map(x, [x, x])",
            "request.headers.exists(h, h == 'x')",
            "request.path.matches(request.path)",
            "request.path.matches('a') && (request.path + 'b').matches('b')",
            "a.matches('1') || a.matches('2') || a.matches('3') || a.matches('4') || a.matches('5')",
            "request.path.matches('\\\\w')",
            "request.path.matches('(a{500}){500}')",
            "request.path.matches('(')",
            "request.path.replace('', 'long')",
            "google.protobuf.Timestamp{seconds: 1}",
            &deep,
            &sums,
            &wide,
            &"x".repeat(9_000),
            &"!".repeat(3_000),
            &"-".repeat(3_000),
            &"a?".repeat(1_000),
            &"a.".repeat(1_000),
            &format!("{}a", "a?b:".repeat(500)),
            "\u{0}",
            "'\\u00",
            "b'\\x",
            "0x",
            "1e",
            "@in(1, [1])",
            "'a'[",
        ];
        for text in texts {
            assert!(ExpressionTable::default().create(text.as_bytes()).is_err(), "{}", &text[..text.len().min(60)]);
        }
        assert!(ExpressionTable::default().create(b"'\xff'").is_err());
    }

    /// Workers have small stacks, and a stack overflow ends the process.
    #[test]
    fn nested_expression_needs_little_stack() {
        let unit = |text: &str| text.repeat(MAX_EXPRESSION_BYTES / text.len());
        let texts = ["(", "[", "{", "!", "-", "a.", "a?b:", "a+", "a&&", "f(", "a[", "a.f(", "[[", "'", "a||b&&", "-!"];
        let texts: Vec<String> = texts.iter().flat_map(|text| [unit(text), format!("{}a", unit(text))]).collect();
        let closed = |open: &str, close: &str| {
            let times = MAX_EXPRESSION_BYTES / (open.len() + close.len()) - 1;
            format!("{}a{}", open.repeat(times), close.repeat(times))
        };
        let closed = [closed("(", ")"), closed("[", "]"), closed("a[", "]"), closed("f(", ")"), closed("{1:", "}")];
        let create = move || {
            for text in texts.iter().chain(&closed) {
                drop(ExpressionTable::default().create(&text.as_bytes()[..text.len().min(MAX_EXPRESSION_BYTES)]));
            }
        };
        let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(create);
        thread.unwrap().join().unwrap();
    }

    #[test]
    fn oversized_input_fails() {
        let mut expressions = ExpressionTable::default();
        let text = format!("[{}]", vec!["request.path"; 100].join(","));
        let token = expressions.create(text.as_bytes()).unwrap();
        let mut lookup =
            |_: &[u8], visit: &mut dyn FnMut(PropertyValue<'_>)| visit(PropertyValue::text(&[b'x'; 20_000]));
        let outcome = expressions.evaluate(token, &mut lookup, &mut Vec::new());
        assert_eq!(outcome, Err(Status::InternalFailure));
    }

    #[test]
    fn oversized_result_fails() {
        let mut expressions = ExpressionTable::default();
        let token = expressions.create(b"[request.path]").unwrap();
        // Each invalid UTF-8 byte becomes three bytes of text.
        let mut lookup =
            |_: &[u8], visit: &mut dyn FnMut(PropertyValue<'_>)| visit(PropertyValue::text(&[0xff; 500_000]));
        let outcome = expressions.evaluate(token, &mut lookup, &mut Vec::new());
        assert_eq!(outcome, Err(Status::SerializationFailure));
    }

    #[test]
    fn input_of_patterns_is_limited() {
        let long = [b'x'; 9_000];
        // (expression, paths with values, evaluation succeeds)
        let rows: [(&str, &[&str], bool); 6] = [
            ("a.contains('y')", &["a"], true),
            ("a.matches('y')", &["a"], false),
            ("a == '' || a == '' || a == '' || b.matches('y')", &["b"], false),
            ("a.matches('^/v[0-9]+/[A-Za-z0-9_]+$')", &[], false), // No property has a value.
            (&format!("[{}]", vec!["w"; 60].join(",")), &["w"], true),
            // `w` has no value itself, but its parts are copied with each use.
            (&format!("[w.a, w.b, {}]", vec!["w"; 60].join(",")), &["w\0a", "w\0b"], false),
        ];
        for (text, values, expected) in rows {
            let mut expressions = ExpressionTable::default();
            let token = expressions.create(text.as_bytes()).unwrap();
            let mut lookup = |path: &[u8], visit: &mut dyn FnMut(PropertyValue<'_>)| {
                if values.iter().any(|name| name.as_bytes() == path) {
                    visit(PropertyValue::text(&long));
                }
            };
            let outcome = expressions.evaluate(token, &mut lookup, &mut Vec::new());
            assert_eq!(outcome.is_ok(), expected, "{text}: {outcome:?}");
        }
    }

    #[test]
    fn tokens_are_unique_and_limited() {
        let mut expressions = ExpressionTable::default();
        let tokens: Vec<_> = (0..MAX_EXPRESSIONS).map(|_| expressions.create(b"true").unwrap()).collect();
        assert_eq!((tokens[0], tokens[1]), (0, 1), "as in Envoy");
        assert!(expressions.create(b"true").is_err());
        expressions.delete(tokens[3]);
        assert!(!tokens.contains(&expressions.create(b"true").unwrap()));
        assert_eq!(expressions.evaluate(tokens[3], &mut |_, _| {}, &mut Vec::new()), Err(Status::NotFound));
    }
}
