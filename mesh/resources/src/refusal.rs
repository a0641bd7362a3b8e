//! Why something that was written is refused, and where: what `weir-proxy validate`, the log and `/config_dump` show.
//! Made by [`Compiler`](crate::Compiler) and [`Compiled`](crate::Compiled); its text is stable.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

/// Why one field of one object was refused. A part that is not known is empty (or 0, or `None`) and is not printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file, as the user named it.
    #[serde(serialize_with = "as_text")]
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1: of the field's name, or of the entry where the field is one of a list.
    pub column: u32,
    /// The object: `HTTPRoute default/api`.
    pub object: Option<String>,
    /// The field: `spec.rules[0].matches[1].path.value`.
    pub field: String,
    /// What is wrong, in words, without a full stop.
    pub reason: String,
    /// What to do about it.
    pub hint: String,
}

impl Refusal {
    /// A refusal whose place nobody knows.
    pub fn unplaced(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        let (file, object, field) = (PathBuf::new(), None, String::new());
        Self { file, line: 0, column: 0, object, field, reason: reason.into(), hint: hint.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.as_os_str().is_empty() {
            write!(formatter, "{}:", self.file.display())?;
            if self.line > 0 {
                write!(formatter, "{}:{}:", self.line, self.column)?;
            }
            formatter.write_str(" ")?;
        }
        if let Some(object) = &self.object {
            write!(formatter, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(formatter, "{}: ", self.field)?;
        }
        formatter.write_str(&self.reason)?;
        if !self.hint.is_empty() {
            write!(formatter, "\n  hint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}

// A path that is not UTF-8 is shown as well as it can be: serde would refuse to write it at all.
fn as_text<S: Serializer>(file: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_are_unknown_are_left_out() {
        let full = Refusal {
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
        let reason = Refusal { file: PathBuf::new(), object: None, field: String::new(), hint: String::new(), ..full };
        assert_eq!(reason.to_string(), "no Service `reviewz` in namespace `default`");
    }

    #[test]
    fn it_is_written_as_json() {
        let refusal = Refusal {
            file: PathBuf::from("a.yaml"),
            line: 1,
            column: 2,
            object: None,
            field: "spec".to_owned(),
            reason: "is missing".to_owned(),
            hint: String::new(),
        };
        assert_eq!(
            serde_json::to_string(&refusal).unwrap(),
            r#"{"file":"a.yaml","line":1,"column":2,"object":null,"field":"spec","reason":"is missing","hint":""}"#
        );
    }
}
