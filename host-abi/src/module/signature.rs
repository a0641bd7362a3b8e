//! Function types in the table's terms, and in words. Both checks of a module (imports and exports) compare with it.

use wasmtime::{FuncType, ValType};

use crate::abi::calls::ValueType;

/// A function type whose values can all cross the border.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub(super) params: Vec<ValueType>,
    pub(super) results: Vec<ValueType>,
}

impl Signature {
    /// `None` when a vector or a reference is among the values.
    pub(super) fn of(function: &FuncType) -> Option<Self> {
        Some(Self {
            params: function.params().map(|value| value_type(&value)).collect::<Option<_>>()?,
            results: function.results().map(|value| value_type(&value)).collect::<Option<_>>()?,
        })
    }

    /// Whether these are exactly its parameters and result.
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

/// A type of the table in words: `(i32, i32) -> i32`.
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

/// A function's type in words.
pub(super) fn function_in_words(function: &FuncType) -> String {
    let names = |values: Vec<String>| values.join(", ");
    let params = names(function.params().map(|value| value.to_string()).collect());
    let results = names(function.results().map(|value| value.to_string()).collect());
    format!("({params}) -> {}", if results.is_empty() { "nothing" } else { &results })
}
