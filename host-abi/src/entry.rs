//! `Entry`: a function of the guest that the host calls. All that the contract has take 32-bit numbers, at most five, and
//! return one or nothing.
//!
//! The way in is one piece of code for all of them. wasmtime's `TypedFunc` has one for each signature, and a stream goes
//! through three: what a small filter costs is code that is not in the near cache
//! (`docs/decisions/006-price-of-a-filter.md`).

use wasmtime::{AsContextMut, Func, FuncType, Instance, Store, StoreContextMut, ValRaw, ValType};

/// As many arguments as any of them takes.
const MOST: usize = 5;

/// A function of the guest that takes `N` numbers.
#[derive(Clone, Copy)]
pub(crate) struct Entry<const N: usize>(Func);

/// What a function of the guest returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returns {
    Nothing,
    Number,
}

impl<const N: usize> Entry<N> {
    /// An export of this name and type; another type is as good as none here (the module check has refused wrong ones).
    pub(crate) fn find<T>(instance: &Instance, store: &mut Store<T>, name: &str, returns: Returns) -> Option<Self> {
        let function = instance.get_func(&mut *store, name)?;
        is_of(&function.ty(&*store), N, returns).then_some(Self(function))
    }

    /// Calls it. The number means nothing when it returns nothing.
    ///
    /// # Errors
    /// When the guest is stopped.
    pub(crate) fn call(self, mut store: impl AsContextMut, arguments: [u32; N]) -> wasmtime::Result<u32> {
        const { assert!(N <= MOST, "a function of the guest takes a few numbers") }
        let mut values = [ValRaw::u32(0); MOST];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = ValRaw::u32(argument);
        }
        enter(self.0, store.as_context_mut(), &mut values)?;
        Ok(values[0].get_u32())
    }
}

/// Whether a function takes so many 32-bit numbers, and returns this.
fn is_of(function: &FuncType, arguments: usize, returns: Returns) -> bool {
    let is_number = |value: ValType| matches!(value, ValType::I32);
    function.params().len() == arguments
        && function.results().len() == usize::from(returns == Returns::Number)
        && function.params().chain(function.results()).all(is_number)
}

/// Of a function that returns nothing the first value stays what it was.
#[inline(never)]
fn enter<T>(function: Func, store: StoreContextMut<'_, T>, values: &mut [ValRaw; MOST]) -> wasmtime::Result<()> {
    #[expect(unsafe_code, reason = "wasmtime cannot know that the function's type was looked at before")]
    // SAFETY: `Entry::find` has seen that the function takes as many 32-bit numbers as its `N`, which are here and are no
    // more than `MOST`, and returns one or none, for which there is room. wasmtime checks that it is of this store.
    unsafe {
        function.call_unchecked(store, values.as_mut_slice())
    }
}
