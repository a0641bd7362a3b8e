//! Diagnostics: errors and warnings of a compilation with file, line and column. `weir-proxy validate`, the log and `/config_dump`
//! show them. Created by [`Compiler`](crate::Compiler) and [`Compiled`](crate::Compiled); the text format is stable.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use weir_model::printable;

/// The error of one field of one object, or a warning about it. An unknown part is empty, 0 or `None`, and is not printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The path of the file, as the user named it.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1: of the field's name, or of the entry in a list.
    pub column: u32,
    /// The object, as in `HTTPRoute default/api`.
    pub object: Option<String>,
    /// The path of the field, as in `spec.rules[0].matches[1].path.value`.
    pub field: String,
    /// The reason, without a full stop.
    pub reason: String,
    /// The hint: how to correct it.
    pub hint: String,
}

impl Diagnostic {
    /// Creates a diagnostic without file, line and field.
    pub fn without_position(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        let (file, object, field) = (PathBuf::new(), None, String::new());
        Self { file, line: 0, column: 0, object, field, reason: reason.into(), hint: hint.into() }
    }

    /// Returns the diagnostic on one line, as for a log message.
    pub fn one_line(&self) -> String {
        self.to_string().replace("\n  hint: ", "; hint: ").replace('\n', " ")
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(formatter, "{}:", printable(&self.file.to_string_lossy()))?;
            if self.line > 0 {
                write!(formatter, "{}:{}:", self.line, self.column)?;
            }
            formatter.write_str(" ")?;
        }
        if let Some(object) = &self.object {
            write!(formatter, "{}: ", printable(object))?;
        }
        if !self.field.is_empty() {
            write!(formatter, "{}: ", printable(&self.field))?;
        }
        formatter.write_str(&printable(&self.reason))?;
        if !self.hint.is_empty() {
            write!(formatter, "\n  hint: {}", printable(&self.hint))?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostic {}

// Serializes a path lossily: serde rejects a path that is not UTF-8.
fn as_text<S: Serializer>(file: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_omits_unknown_parts() {
        let full = Diagnostic {
            file: PathBuf::from("shop.yaml"),
            line: 14,
            column: 9,
            object: Some("HTTPRoute default/api".to_owned()),
            field: "spec.rules[0].backendRefs[0].name".to_owned(),
            reason: "no Service `reviewz` in namespace `default`".to_owned(),
            hint: "did you mean `reviews`?".to_owned(),
        };
        assert_eq!(
            full.to_string(),
            "shop.yaml:14:9: HTTPRoute default/api: spec.rules[0].backendRefs[0].name: \
             no Service `reviewz` in namespace `default`\n  hint: did you mean `reviews`?"
        );
        assert!(full.one_line().ends_with("in namespace `default`; hint: did you mean `reviews`?"));
        let reason =
            Diagnostic { file: PathBuf::new(), object: None, field: String::new(), hint: String::new(), ..full };
        assert_eq!(reason.to_string(), "no Service `reviewz` in namespace `default`");
    }

    #[test]
    fn serializes_as_json() {
        let diagnostic = Diagnostic {
            file: PathBuf::from("a.yaml"),
            line: 1,
            column: 2,
            object: None,
            field: "spec".to_owned(),
            reason: "is missing".to_owned(),
            hint: String::new(),
        };
        assert_eq!(
            serde_json::to_string(&diagnostic).unwrap(),
            r#"{"file":"a.yaml","line":1,"column":2,"object":null,"field":"spec","reason":"is missing","hint":""}"#
        );
    }
}
