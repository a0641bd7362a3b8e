//! Objects: list, get, apply, delete.

// Requests for objects, and changes of them.
mod handlers;

// The view of one object.
mod view;

pub(crate) use handlers::{ApplyResponse, ChangeQuery, ListQuery, apply, change, delete, delete_many, get, list, put};
