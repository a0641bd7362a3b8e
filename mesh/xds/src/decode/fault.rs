//! Where in a message we are, and what is wrong there. All faults of a resource are collected, never the first only.

use std::cell::RefCell;
use std::collections::HashMap;

use weir_model::{Rejection, ResourceId};

/// A place inside a resource.
pub(super) struct Spot<'a> {
    resource: &'a ResourceId,
    faults: &'a RefCell<Vec<Rejection>>,
    path: String,
}

impl<'a> Spot<'a> {
    /// The resource itself.
    pub(super) fn new(resource: &'a ResourceId, faults: &'a RefCell<Vec<Rejection>>) -> Self {
        Self { resource, faults, path: String::new() }
    }

    /// A field of this place.
    pub(super) fn field(&self, name: &str) -> Self {
        let name = name.trim_start_matches("r#");
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { path, ..*self }
    }

    /// An entry of this place: of a list by position, of a map by key.
    pub(super) fn entry(&self, entry: impl std::fmt::Display) -> Self {
        Self { path: format!("{}[{entry}]", self.path), ..*self }
    }

    /// Refuses what stands here.
    pub(super) fn refuse(&self, reason: &str, hint: &str) {
        self.faults.borrow_mut().push(Rejection {
            resource: self.resource.clone(),
            field: self.path.clone(),
            reason: reason.to_owned(),
            hint: hint.to_owned(),
        });
    }

    /// Refuses what stands here and has no value then.
    pub(super) fn none<T>(&self, reason: &str, hint: &str) -> Option<T> {
        self.refuse(reason, hint);
        None
    }

    /// What has to be there.
    pub(super) fn required<T>(&self, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.refuse("is missing", "");
        }
        value
    }

    /// A value that another type's constructor may refuse.
    pub(super) fn checked<T>(&self, value: Result<T, impl std::fmt::Display>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(error) => self.none(&error.to_string(), ""),
        }
    }
}

/// Whether a field was given, by the default of its protobuf type.
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

/// Refuses each of these fields that is set: we do not support it.
macro_rules! unsupported {
    ($spot:expr; $($field:ident),* $(,)?) => {$(
        if $crate::decode::fault::IsSet::is_set(&$field) {
            $spot.field(stringify!($field)).refuse("is not supported", "leave it out");
        }
    )*};
}
pub(super) use unsupported;
