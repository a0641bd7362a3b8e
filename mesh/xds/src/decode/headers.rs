//! Decodes changes of headers: those of a route, and those of a weighted cluster.

use std::sync::Arc;

use weir_model::{HeaderEdits, HeaderModifier};

use super::field_cursor::FieldCursor;
use crate::proto::{core, protobuf};

/// Decodes the changes to requests.
pub(super) fn request_modifier(
    to_add: Vec<core::HeaderValueOption>,
    to_remove: Vec<String>,
    cursor: &FieldCursor<'_>,
) -> HeaderModifier {
    let (add_field, remove_field) = ("request_headers_to_add", "request_headers_to_remove");
    header_modifier(HeaderMutations { add_field, to_add, remove_field, to_remove }, cursor)
}

/// Decodes the changes to responses.
pub(super) fn response_modifier(
    to_add: Vec<core::HeaderValueOption>,
    to_remove: Vec<String>,
    cursor: &FieldCursor<'_>,
) -> HeaderModifier {
    let (add_field, remove_field) = ("response_headers_to_add", "response_headers_to_remove");
    header_modifier(HeaderMutations { add_field, to_add, remove_field, to_remove }, cursor)
}

/// The fields that change the headers of one direction.
struct HeaderMutations {
    add_field: &'static str,
    to_add: Vec<core::HeaderValueOption>,
    remove_field: &'static str,
    to_remove: Vec<String>,
}

fn header_modifier(mutations: HeaderMutations, cursor: &FieldCursor<'_>) -> HeaderModifier {
    let HeaderMutations { add_field, to_add, remove_field, to_remove } = mutations;
    let mut edits = HeaderEdits::default();
    for (index, option) in to_add.into_iter().enumerate() {
        add_header(option, &mut edits, &cursor.field(add_field).entry(index));
    }
    for (index, name) in to_remove.into_iter().enumerate() {
        let cursor = cursor.field(remove_field).entry(index);
        edits.remove.extend(header_name(&name, &cursor));
    }
    HeaderModifier::new(edits)
}

fn add_header(option: core::HeaderValueOption, edits: &mut HeaderEdits, cursor: &FieldCursor<'_>) {
    use core::header_value_option::HeaderAppendAction;
    let core::HeaderValueOption { header, append, append_action, keep_empty_value } = option;
    let Some(core::HeaderValue { key, value, raw_value }) = cursor.field("header").required(header) else { return };
    let value_spot = cursor.field("header").field("value");
    let value = if value.is_empty() { String::from_utf8(raw_value).unwrap_or_default() } else { value };
    let Some(name) = header_name(&key, &cursor.field("header").field("key")) else { return };
    if value.is_empty() && !keep_empty_value {
        value_spot.reject("is empty", "an empty value needs `keep_empty_value: true`");
    }
    let plain = value.replace("%%", "");
    if plain.contains('%') {
        value_spot.reject("has a variable", "write `%%` for a percent sign; variables are not supported");
    }
    if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
        value_spot.reject("has a control character", "leave it out");
    }
    let value = value.replace("%%", "%").into();
    let action = match append {
        // Deprecated, but still in use.
        Some(protobuf::BoolValue { value: false }) => Ok(HeaderAppendAction::OverwriteIfExistsOrAdd),
        Some(protobuf::BoolValue { value: true }) => Ok(HeaderAppendAction::AppendIfExistsOrAdd),
        None => HeaderAppendAction::try_from(append_action),
    };
    match action {
        Ok(HeaderAppendAction::AppendIfExistsOrAdd) => edits.add.push((name, value)),
        Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => edits.set.push((name, value)),
        Ok(HeaderAppendAction::AddIfAbsent | HeaderAppendAction::OverwriteIfExists) | Err(_) => {
            let hint = "use APPEND_IF_EXISTS_OR_ADD or OVERWRITE_IF_EXISTS_OR_ADD";
            cursor.field("append_action").reject("is not supported", hint);
        }
    }
}

/// Decodes the name of a header that routes may modify, in lower case. It is a token (RFC 9110 §5.6.2).
fn header_name(name: &str, cursor: &FieldCursor<'_>) -> Option<Arc<str>> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return cursor.reject_value(&format!("`{name}` is no header name"), "pseudo headers are changed by a rewrite");
    }
    Some(name.to_ascii_lowercase().into())
}
