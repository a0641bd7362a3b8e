//! Paths of fields: `spec.rules[0].matches[1].path.value`. Validation passes a [`FieldPathRef`], which needs no
//! allocation. An error converts it to a [`FieldPath`].

use std::fmt;

/// A path on the stack of the validation: each step refers to its parent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldPathRef<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Entry(usize),
}

impl<'a> FieldPathRef<'a> {
    /// The document.
    pub(crate) const ROOT: Self = Self { parent: None, step: Step::Root };

    /// Returns the path of a field of this map.
    pub(crate) const fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    /// Returns the path of an entry of this list.
    pub(crate) const fn entry(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Entry(index) }
    }

    /// Returns an owned copy.
    pub(crate) fn to_field_path(self) -> FieldPath {
        let mut steps = Vec::new();
        let mut current = Some(&self);
        while let Some(path) = current {
            match path.step {
                Step::Root => {}
                Step::Field(name) => steps.push(FieldStep::Field(name.to_owned())),
                Step::Entry(index) => steps.push(FieldStep::Entry(index)),
            }
            current = path.parent;
        }
        steps.reverse();
        FieldPath(steps)
    }
}

/// An owned path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct FieldPath(pub(crate) Vec<FieldStep>);

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum FieldStep {
    /// The field of a map.
    Field(String),
    /// The entry of a list.
    Entry(usize),
}

impl fmt::Display for FieldPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                FieldStep::Entry(entry) => write!(formatter, "[{entry}]")?,
                FieldStep::Field(name) if name.contains(['.', '[', ']', '"']) || name.is_empty() => {
                    write!(formatter, "[{name:?}]")?;
                }
                FieldStep::Field(name) if index == 0 => formatter.write_str(name)?,
                FieldStep::Field(name) => write!(formatter, ".{name}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_quotes_special_keys() {
        let root = FieldPathRef::ROOT;
        assert_eq!(root.to_field_path().to_string(), "");
        let rules = root.field("spec");
        let rules = rules.field("rules");
        let value = rules.entry(0);
        let value = value.field("path");
        assert_eq!(value.to_field_path().to_string(), "spec.rules[0].path");
        let labels = root.field("labels");
        assert_eq!(labels.field("a.b/c").to_field_path().to_string(), "labels[\"a.b/c\"]");
    }
}
