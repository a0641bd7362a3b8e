//! The position in a message that is decoded, and the rejections found so far. All rejections of a resource are
//! collected, not only the first.

use std::cell::RefCell;
use std::collections::HashMap;

use weir_model::{Rejection, ResourceId};

/// The path of a field inside a resource. Rejections that it reports carry that path.
pub(super) struct FieldCursor<'a> {
    resource: &'a ResourceId,
    faults: &'a RefCell<Vec<Rejection>>,
    path: String,
}

impl<'a> FieldCursor<'a> {
    /// Points at the resource as a whole.
    pub(super) fn new(resource: &'a ResourceId, faults: &'a RefCell<Vec<Rejection>>) -> Self {
        Self { resource, faults, path: String::new() }
    }

    /// Returns a cursor to a field of this message.
    pub(super) fn field(&self, name: &str) -> Self {
        let name = name.trim_start_matches("r#");
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { path, ..*self }
    }

    /// Returns a cursor to an entry: of a list by its index, of a map by its key.
    pub(super) fn entry(&self, entry: impl std::fmt::Display) -> Self {
        Self { path: format!("{}[{entry}]", self.path), ..*self }
    }

    /// Rejects the value at this path. `hint` may be empty.
    pub(super) fn reject(&self, reason: &str, hint: &str) {
        self.faults.borrow_mut().push(Rejection {
            resource: self.resource.clone(),
            field: self.path.clone(),
            reason: reason.to_owned(),
            hint: hint.to_owned(),
        });
    }

    /// Rejects the value at this path and returns `None`.
    pub(super) fn reject_value<T>(&self, reason: &str, hint: &str) -> Option<T> {
        self.reject(reason, hint);
        None
    }

    /// Returns `value`; rejects an absent one.
    pub(super) fn required<T>(&self, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.reject("is missing", "");
        }
        value
    }

    /// Returns the value; rejects an error with its text.
    pub(super) fn checked<T>(&self, value: Result<T, impl std::fmt::Display>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(error) => self.reject_value(&error.to_string(), ""),
        }
    }
}

/// A protobuf field. It is set when it differs from the default of its type.
pub(super) trait IsSet {
    fn is_set(&self) -> bool;
}

impl<T> IsSet for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}

impl<T> IsSet for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<K, V> IsSet for HashMap<K, V> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for bool {
    fn is_set(&self) -> bool {
        *self
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl IsSet for $number {
            fn is_set(&self) -> bool {
                *self != 0
            }
        }
    )*};
}
numbers!(i32, u32, i64, u64);

/// Rejects each of these fields that is set, as not supported.
macro_rules! unsupported {
    ($cursor:expr; $($field:ident),* $(,)?) => {$(
        if $crate::decode::field_cursor::IsSet::is_set(&$field) {
            $cursor.field(stringify!($field)).reject("is not supported", "leave it out");
        }
    )*};
}
pub(super) use unsupported;
