//! The path to a field: `spec.rules[0].matches[1].path.value`. Checks carry a [`Path`] along, which costs nothing; a
//! [`FieldPath`] is made of it when something is refused.

use std::fmt;

/// A path on the stack of whoever walks a document: each step refers to the one before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Entry(usize),
}

impl<'a> Path<'a> {
    /// The document itself.
    pub(crate) const ROOT: Self = Self { parent: None, step: Step::Root };

    /// A field of this one.
    pub(crate) const fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    /// An entry of this list.
    pub(crate) const fn entry(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Entry(index) }
    }

    /// The path on its own.
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

/// A path that stands on its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct FieldPath(pub(crate) Vec<FieldStep>);

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum FieldStep {
    /// Into a map.
    Field(String),
    /// Into a list.
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
    fn paths_print_as_people_write_them() {
        let root = Path::ROOT;
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
