//! Function types in terms of the call table, and as text. The checks of imports and exports compare with it.

use wasmtime::{FuncType, ValType};

use crate::abi::calls::ValueType;

/// A function type whose values are all supported by the ABI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) params: Vec<ValueType>,
    pub(super) results: Vec<ValueType>,
}

impl Signature {
    /// Converts a function type; `None` if it has a vector or reference type.
    pub(super) fn of(function: &FuncType) -> Option<Self> {
        Some(Self {
            params: function.params().map(|value| value_type(&value)).collect::<Option<_>>()?,
            results: function.results().map(|value| value_type(&value)).collect::<Option<_>>()?,
        })
    }

    /// Returns whether the signature has exactly these parameters and this result.
    pub(super) fn is(&self, params: &[ValueType], result: Option<ValueType>) -> bool {
        self.params == params && self.results == result.as_slice()
    }
}

const fn value_type(value: &ValType) -> Option<ValueType> {
    match value {
        ValType::I32 => Some(ValueType::I32),
        ValType::I64 => Some(ValueType::I64),
        ValType::F32 => Some(ValueType::F32),
        ValType::F64 => Some(ValueType::F64),
        ValType::V128 | ValType::Ref(_) => None,
    }
}

/// Formats a type of the call table: `(i32, i32) -> i32`.
pub(super) fn in_words(params: &[ValueType], result: Option<ValueType>) -> String {
    let name = |value: &ValueType| match value {
        ValueType::I32 => "i32",
        ValueType::I64 => "i64",
        ValueType::F32 => "f32",
        ValueType::F64 => "f64",
    };
    let params: Vec<_> = params.iter().map(name).collect();
    format!("({}) -> {}", params.join(", "), result.as_ref().map_or("nothing", name))
}

/// Formats a function's type.
pub(super) fn function_in_words(function: &FuncType) -> String {
    let names = |values: Vec<String>| values.join(", ");
    let params = names(function.params().map(|value| value.to_string()).collect());
    let results = names(function.results().map(|value| value.to_string()).collect());
    format!("({params}) -> {}", if results.is_empty() { "nothing" } else { &results })
}
