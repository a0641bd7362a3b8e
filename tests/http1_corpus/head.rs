//! Lines and fields of a head, as both parsers of the suite read them.

/// A field with its name in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Vec<u8>,
}

/// Reads the fields of lines, and marks those that RFC 9110 §5 does not allow.
pub(crate) fn fields_of(lines: &[&[u8]], marks: &mut Vec<&'static str>) -> Vec<Field> {
    let mut fields = Vec::new();
    for line in lines {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            marks.push("folded");
            continue;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            marks.push("no-colon");
            continue;
        };
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) {
            marks.push("field-name");
        }
        if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            marks.push("field-value");
        }
        fields.push(Field { name: name.trim_ascii().to_ascii_lowercase(), value: value.to_vec() });
    }
    fields
}

/// Returns the values of the fields of a name.
pub(crate) fn values<'a>(fields: &'a [Field], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.name == name.as_bytes()).map(|field| field.value.as_slice()).collect()
}

/// Returns true for a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+.^_`|~-".contains(byte);
    !text.is_empty() && text.iter().all(legal)
}

/// Returns the place of the first occurrence.
pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Splits a head at each CRLF. There is always a first line.
pub(crate) fn lines(head: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = find(rest, b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    lines
}

/// Removes optional white space (RFC 9110 §5.6.3).
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}
