//! Syntax of single texts and numbers: names, host names, paths, headers, ports. Called by `resource` for each field;
//! each rule names its source.

pub(crate) mod http;
pub(crate) mod name;
pub(crate) mod error;

pub(crate) use error::SyntaxError;
