//! `HostFunction`: the implementation of a hostcall, by number of arguments. Most hostcalls have the canonical
//! signature of the table and are linked as typed functions, without boxed values. Guests that declare another
//! signature use boxed values, which are slower.

use wasmtime::{Caller, Linker, Val};

use crate::abi::calls::{AllowedPhase, HostcallSpec, ImportModule};
use crate::abi::log::LogLevel;
use crate::abi::status::Status;
use crate::hostcalls::context::{HostcallContext, HostcallError, HostcallResult, LogText};
use crate::vm_state::{Phase, VmState};

type HostcallFn<const N: usize> = fn(&mut HostcallContext<'_>, [u32; N]) -> HostcallResult;

/// The Rust implementation of a hostcall.
#[derive(Clone, Copy)]
pub(crate) enum HostFunction {
    A0(HostcallFn<0>),
    A1(HostcallFn<1>),
    A2(HostcallFn<2>),
    A3(HostcallFn<3>),
    A4(HostcallFn<4>),
    A5(HostcallFn<5>),
    A6(HostcallFn<6>),
    A8(HostcallFn<8>),
    A9(HostcallFn<9>),
    A10(HostcallFn<10>),
    A12(HostcallFn<12>),
    /// Arguments: metric, offset.
    Metric(fn(&mut HostcallContext<'_>, u32, i64) -> HostcallResult),
    /// Arguments: clock, precision, result pointer.
    Clock(fn(&mut HostcallContext<'_>, u32, i64, u32) -> HostcallResult),
    /// Arguments: file, buffers, number of buffers, offset, result pointer.
    FileAt(fn(&mut HostcallContext<'_>, [u32; 4]) -> HostcallResult),
    /// Returns a random number.
    Seed(fn() -> f64),
    /// Zeroes some result pointers (index of the argument, size in bytes) and returns `answer`.
    Stub {
        answer: u32,
        zeroes: &'static [(usize, u32)],
        bad_address: u32,
    },
    /// Returns 0 for standard output and error, and `otherwise` for other files.
    StandardFile {
        otherwise: u32,
    },
}

/// An import as the linker needs it.
#[derive(Clone, Copy)]
pub(crate) struct HostImport<'a> {
    pub(crate) module: &'a str,
    pub(crate) name: &'a str,
    pub(crate) row: &'static HostcallSpec,
}

macro_rules! typed {
    ($linker:ident, $import:ident, $function:ident, $($argument:ident),*) => {{
        let row = $import.row;
        $linker.func_wrap($import.module, $import.name, move |caller: Caller<'_, VmState>, $($argument: u32),*| {
            dispatch(caller, row, |call| $function(call, [$($argument),*]))
        })
    }};
}

impl HostFunction {
    /// Links the call with its canonical signature, without boxed values. Returns false if it has no typed form.
    pub(crate) fn link_typed(self, linker: &mut Linker<VmState>, import: HostImport<'_>) -> wasmtime::Result<bool> {
        let row = import.row;
        match self {
            Self::A0(function) => typed!(linker, import, function,),
            Self::A1(function) => typed!(linker, import, function, a),
            Self::A2(function) => typed!(linker, import, function, a, b),
            Self::A3(function) => typed!(linker, import, function, a, b, c),
            Self::A4(function) => typed!(linker, import, function, a, b, c, d),
            Self::A5(function) => typed!(linker, import, function, a, b, c, d, e),
            Self::A6(function) => typed!(linker, import, function, a, b, c, d, e, f),
            Self::A8(function) => typed!(linker, import, function, a, b, c, d, e, f, g, h),
            Self::A9(function) => typed!(linker, import, function, a, b, c, d, e, f, g, h, i),
            Self::A10(function) => typed!(linker, import, function, a, b, c, d, e, f, g, h, i, j),
            Self::A12(function) => typed!(linker, import, function, a, b, c, d, e, f, g, h, i, j, k, l),
            Self::Metric(function) => linker.func_wrap(
                import.module,
                import.name,
                move |caller: Caller<'_, VmState>, metric: u32, by: i64| {
                    dispatch(caller, row, |call| function(call, metric, by))
                },
            ),
            Self::Clock(_) | Self::FileAt(_) | Self::Seed(_) | Self::Stub { .. } | Self::StandardFile { .. } => {
                return Ok(false);
            }
        }?;
        Ok(true)
    }

    /// Runs the call with boxed arguments, and stores the result if the guest declared one.
    pub(crate) fn run_untyped(
        self,
        caller: Caller<'_, VmState>,
        row: &'static HostcallSpec,
        arguments: &[u64],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let value = if let Self::Seed(function) = self {
            Val::F64(function().to_bits())
        } else {
            Val::I32(dispatch(caller, row, |call| self.run(call, arguments))?.cast_signed())
        };
        if let Some(result) = results.first_mut() {
            *result = value;
        }
        Ok(())
    }

    fn run(self, call: &mut HostcallContext<'_>, arguments: &[u64]) -> HostcallResult {
        match self {
            Self::A0(function) => function(call, []),
            Self::A1(function) => function(call, numbers(arguments)),
            Self::A2(function) => function(call, numbers(arguments)),
            Self::A3(function) => function(call, numbers(arguments)),
            Self::A4(function) => function(call, numbers(arguments)),
            Self::A5(function) => function(call, numbers(arguments)),
            Self::A6(function) => function(call, numbers(arguments)),
            Self::A8(function) => function(call, numbers(arguments)),
            Self::A9(function) => function(call, numbers(arguments)),
            Self::A10(function) => function(call, numbers(arguments)),
            Self::A12(function) => function(call, numbers(arguments)),
            Self::Metric(function) => {
                let [metric] = numbers(arguments);
                function(call, metric, arguments.get(1).copied().unwrap_or_default().cast_signed())
            }
            Self::Clock(function) => {
                let [clock, _, out] = numbers(arguments);
                function(call, clock, arguments.get(1).copied().unwrap_or_default().cast_signed(), out)
            }
            Self::FileAt(function) => {
                let [file, buffers, count, _, out] = numbers(arguments);
                function(call, [file, buffers, count, out])
            }
            Self::Seed(_) => Ok(()),
            Self::Stub { answer, zeroes, bad_address } => {
                let (mut memory, _) = call.borrow_state()?;
                for (at, size) in zeroes {
                    let pointer = arguments.get(*at).copied().map_or(0, low);
                    memory.bytes_mut(pointer, *size).map_err(|_| HostcallError::Status(bad_address))?.fill(0);
                }
                Err(HostcallError::Status(answer))
            }
            Self::StandardFile { otherwise } => match numbers(arguments) {
                [1 | 2] => Ok(()),
                _ => Err(HostcallError::Status(otherwise)),
            },
        }
    }

    /// Returns the number of parameters; `None` if the function accepts any number.
    #[cfg(test)]
    pub(crate) const fn arity(self) -> Option<usize> {
        Some(match self {
            Self::A0(_) | Self::Seed(_) => 0,
            Self::A1(_) => 1,
            Self::A2(_) | Self::Metric(_) => 2,
            Self::A3(_) | Self::Clock(_) => 3,
            Self::A4(_) => 4,
            Self::A5(_) | Self::FileAt(_) => 5,
            Self::A6(_) => 6,
            Self::A8(_) => 8,
            Self::A9(_) => 9,
            Self::A10(_) => 10,
            Self::A12(_) => 12,
            Self::Stub { .. } | Self::StandardFile { .. } => return None,
        })
    }
}

/// Returns the first arguments as 32-bit numbers. Missing arguments are 0.
fn numbers<const N: usize>(arguments: &[u64]) -> [u32; N] {
    std::array::from_fn(|at| arguments.get(at).copied().map_or(0, low))
}

#[expect(clippy::cast_possible_truncation, reason = "the argument is an i32 that was widened")]
const fn low(number: u64) -> u32 {
    number as u32
}

/// WASI error number `ENOTCAPABLE`.
const NOT_CAPABLE: u32 = 76;

/// Returns the error of a hostcall outside the plugin's capabilities.
fn forbidden(row: &HostcallSpec) -> HostcallError {
    let number = match row.import_module {
        ImportModule::Env => Status::InternalFailure.number(),
        ImportModule::Wasi => NOT_CAPABLE,
    };
    HostcallError::StatusWithReason(number, "not among the filter's capabilities".to_owned())
}

/// Runs a hostcall and converts its outcome to the guest's number, or to the trap that stops the guest.
fn dispatch(
    caller: Caller<'_, VmState>,
    row: &'static HostcallSpec,
    run: impl FnOnce(&mut HostcallContext<'_>) -> HostcallResult,
) -> wasmtime::Result<u32> {
    let mut call = HostcallContext::new(caller);
    let outcome = if !call.state().allows(row.name) {
        Err(forbidden(row))
    } else if row.allowed_phase == AllowedPhase::Callback && call.state().phase != Phase::Callback {
        call.reject_early()
    } else {
        run(&mut call)
    };
    match outcome {
        Ok(()) => Ok(Status::Ok.number()),
        Err(HostcallError::Status(number)) => Ok(number),
        Err(HostcallError::StatusWithReason(number, reason)) => {
            let text = format!("{}: {reason}", row.name);
            // A failure to log is ignored: there is no other way to report it.
            let _logged = call.log(LogLevel::Warn, LogText::Host(text.as_bytes()));
            Ok(number)
        }
        Err(HostcallError::Trap(error)) => Err(error),
    }
}
