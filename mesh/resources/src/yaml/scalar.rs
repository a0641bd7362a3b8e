//! Type of an unquoted YAML text: null, boolean, number or text (YAML 1.2 core schema). So `yes` is a text, and `0755`
//! is the decimal number 755.

use serde_json::Number;

use crate::yaml::node::Value;

/// Returns the value of an unquoted text.
pub(crate) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Boolean(true),
        "false" | "False" | "FALSE" => return Value::Boolean(false),
        _ => {}
    }
    // Fast path: the first character shows that most texts are no numbers.
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return Value::Text(text.to_owned());
    }
    number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number)
}

/// Returns the number of a text; `None` if it is no number or not representable in JSON (`.inf`, `.nan`).
pub(crate) fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')).map(Number::from);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return u64::from_str_radix(digits, 8).ok().filter(|_| !digits.starts_with('+')).map(Number::from);
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        if let Ok(number) = text.parse::<i64>() {
            return Some(number.into());
        }
        if let Ok(number) = text.parse::<u64>() {
            return Some(number.into());
        }
    }
    let numeric = unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && unsigned.bytes().any(|byte| byte.is_ascii_digit())
        && unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    if numeric { text.parse::<f64>().ok().and_then(Number::from_f64) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_follows_core_schema() {
        for (text, expected) in [
            ("", "null"),
            ("~", "null"),
            ("null", "null"),
            ("true", "true"),
            ("False", "false"),
            ("yes", "\"yes\""),
            ("80", "80"),
            ("-1", "-1"),
            ("+7", "7"),
            ("0755", "755"),
            ("0o17", "15"),
            ("0x1F", "31"),
            ("0x+1", "\"0x+1\""),
            ("18446744073709551615", "18446744073709551615"),
            ("1.5", "1.5"),
            ("1e3", "1000.0"),
            (".5", "0.5"),
            ("1.2.3", "\"1.2.3\""),
            ("127.0.0.1:80", "\"127.0.0.1:80\""),
            ("10ms", "\"10ms\""),
            ("-", "\"-\""),
            (".", "\".\""),
            (".inf", "\".inf\""),
            ("1e999", "\"1e999\""),
            ("v1", "\"v1\""),
        ] {
            assert_eq!(resolve(text).to_json().to_string(), expected, "{text}");
        }
    }
}
