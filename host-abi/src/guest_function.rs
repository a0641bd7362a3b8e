//! `GuestFunction`: a guest function that the host calls. All functions of the ABI take at most five 32-bit numbers and
//! return one or nothing.
//!
//! All of them share one call path. wasmtime's `TypedFunc` has one per signature, and a stream uses three signatures.
//! The cost of a small filter is mostly code that is not in the nearest cache
//! (`docs/decisions/006-price-of-a-filter.md`).

use wasmtime::{AsContextMut, Func, FuncType, Instance, Store, StoreContextMut, ValRaw, ValType};

/// Maximum number of arguments of a guest function.
const MAX_ARGUMENTS: usize = 5;

/// A guest function with `N` parameters.
#[derive(Clone, Copy)]
pub(crate) struct GuestFunction<const N: usize>(Func);

/// The result of a guest function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReturnType {
    Nothing,
    Number,
}

impl<const N: usize> GuestFunction<N> {
    /// Returns the export with this name and type; `None` if it is missing or has another type. The module check has
    /// already rejected callbacks of a wrong type.
    pub(crate) fn find<T>(instance: &Instance, store: &mut Store<T>, name: &str, returns: ReturnType) -> Option<Self> {
        let function = instance.get_func(&mut *store, name)?;
        has_signature(&function.ty(&*store), N, returns).then_some(Self(function))
    }

    /// Calls the function and returns its result, which is unspecified for [`ReturnType::Nothing`].
    ///
    /// # Errors
    /// The guest traps or is stopped.
    pub(crate) fn call(self, mut store: impl AsContextMut, arguments: [u32; N]) -> wasmtime::Result<u32> {
        const { assert!(N <= MAX_ARGUMENTS, "a guest function takes at most five arguments") }
        let mut values = [ValRaw::u32(0); MAX_ARGUMENTS];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = ValRaw::u32(argument);
        }
        call_unchecked(self.0, store.as_context_mut(), &mut values)?;
        Ok(values[0].get_u32())
    }
}

/// Returns whether a function has `arguments` 32-bit parameters and this result.
fn has_signature(function: &FuncType, arguments: usize, returns: ReturnType) -> bool {
    let is_number = |value: ValType| matches!(value, ValType::I32);
    function.params().len() == arguments
        && function.results().len() == usize::from(returns == ReturnType::Number)
        && function.params().chain(function.results()).all(is_number)
}

/// Calls a function with `values` as arguments. The first value then is the result; without a result it is unchanged.
#[inline(never)]
fn call_unchecked<T>(
    function: Func,
    store: StoreContextMut<'_, T>,
    values: &mut [ValRaw; MAX_ARGUMENTS],
) -> wasmtime::Result<()> {
    #[expect(unsafe_code, reason = "wasmtime cannot know that the function's type was checked before")]
    // SAFETY: `GuestFunction::find` has checked that the function has `N` 32-bit parameters and at most one result. The
    // arguments are here, `N` is at most `MAX_ARGUMENTS`, and the result fits. wasmtime checks that the function
    // belongs to this store.
    unsafe {
        function.call_unchecked(store, values.as_mut_slice())
    }
}
