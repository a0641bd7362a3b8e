//! `Implementation`: a hostcall as the linker sees it, by number of arguments. Most calls have the signature that the
//! table gives; they are linked as typed functions, without boxing a value. Guests that declare another signature get
//! the slow way.

use wasmtime::{Caller, Linker, Val};

use crate::abi::calls::{Hostcall, Library, Window};
use crate::abi::log::LogLevel;
use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult, LogText, Refusal};
use crate::state::{Phase, VmState};

type Numbers<const N: usize> = fn(&mut Call<'_>, [u32; N]) -> CallResult;

/// A hostcall's Rust function.
#[derive(Clone, Copy)]
pub(crate) enum Implementation {
    A0(Numbers<0>),
    A1(Numbers<1>),
    A2(Numbers<2>),
    A3(Numbers<3>),
    A4(Numbers<4>),
    A5(Numbers<5>),
    A6(Numbers<6>),
    A8(Numbers<8>),
    A9(Numbers<9>),
    A10(Numbers<10>),
    A12(Numbers<12>),
    /// (metric, amount)
    Metric(fn(&mut Call<'_>, u32, i64) -> CallResult),
    /// (clock, precision, out pointer)
    Clock(fn(&mut Call<'_>, u32, i64, u32) -> CallResult),
    /// (file, buffers, their number, offset, out pointer)
    FileAt(fn(&mut Call<'_>, [u32; 4]) -> CallResult),
    /// A random number.
    Seed(fn() -> f64),
    /// Writes zeroes where some arguments point, each given with how many bytes, and answers this.
    Fixed {
        answer: u32,
        zeroes: &'static [(usize, u32)],
        bad_address: u32,
    },
    /// Answers 0 for standard output and error, another number for other files.
    StandardFile {
        otherwise: u32,
    },
}

/// What the linker needs to know about an import.
#[derive(Clone, Copy)]
pub(crate) struct Import<'a> {
    pub(crate) module: &'a str,
    pub(crate) name: &'a str,
    pub(crate) row: &'static Hostcall,
}

macro_rules! typed {
    ($linker:ident, $import:ident, $function:ident, $($argument:ident),*) => {{
        let row = $import.row;
        $linker.func_wrap($import.module, $import.name, move |caller: Caller<'_, VmState>, $($argument: u32),*| {
            answer(caller, row, |call| $function(call, [$($argument),*]))
        })
    }};
}

impl Implementation {
    /// Links the call with its canonical signature, without boxing. False when it has no such form.
    pub(crate) fn link_typed(self, linker: &mut Linker<VmState>, import: Import<'_>) -> wasmtime::Result<bool> {
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
                    answer(caller, row, |call| function(call, metric, by))
                },
            ),
            Self::Clock(_) | Self::FileAt(_) | Self::Seed(_) | Self::Fixed { .. } | Self::StandardFile { .. } => {
                return Ok(false);
            }
        }?;
        Ok(true)
    }

    /// Runs the call with boxed arguments and puts its answer into `results`, if the guest wants one.
    pub(crate) fn run_untyped(
        self,
        caller: Caller<'_, VmState>,
        row: &'static Hostcall,
        arguments: &[u64],
        results: &mut [Val],
    ) -> wasmtime::Result<()> {
        let value = if let Self::Seed(function) = self {
            Val::F64(function().to_bits())
        } else {
            Val::I32(answer(caller, row, |call| self.run(call, arguments))?.cast_signed())
        };
        if let Some(result) = results.first_mut() {
            *result = value;
        }
        Ok(())
    }

    fn run(self, call: &mut Call<'_>, arguments: &[u64]) -> CallResult {
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
            Self::Fixed { answer, zeroes, bad_address } => {
                let (mut memory, _) = call.lend_state()?;
                for (at, size) in zeroes {
                    let pointer = arguments.get(*at).copied().map_or(0, low);
                    memory.bytes_mut(pointer, *size).map_err(|_| Refusal::Answer(bad_address))?.fill(0);
                }
                Err(Refusal::Answer(answer))
            }
            Self::StandardFile { otherwise } => match numbers(arguments) {
                [1 | 2] => Ok(()),
                _ => Err(Refusal::Answer(otherwise)),
            },
        }
    }

    /// How many arguments the function takes; `None` when it takes any number.
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
            Self::Fixed { .. } | Self::StandardFile { .. } => return None,
        })
    }
}

/// The first arguments as 32-bit numbers; ones that the guest does not give are 0.
fn numbers<const N: usize>(arguments: &[u64]) -> [u32; N] {
    std::array::from_fn(|at| arguments.get(at).copied().map_or(0, low))
}

#[expect(clippy::cast_possible_truncation, reason = "the argument is an i32 that was widened")]
const fn low(number: u64) -> u32 {
    number as u32
}

/// WASI's error number for what a program may not do.
const NOT_CAPABLE: u32 = 76;

/// The answer to a hostcall that the plugin may not make.
fn forbidden(row: &Hostcall) -> Refusal {
    let number = match row.library {
        Library::Env => Status::InternalFailure.number(),
        Library::Wasi => NOT_CAPABLE,
    };
    Refusal::Explained(number, "is not among the filter's capabilities".to_owned())
}

/// Runs a hostcall and turns its outcome into the number for the guest, or into the error that stops it.
fn answer(
    caller: Caller<'_, VmState>,
    row: &'static Hostcall,
    run: impl FnOnce(&mut Call<'_>) -> CallResult,
) -> wasmtime::Result<u32> {
    let mut call = Call::new(caller);
    let outcome = if !call.state().allows(row.name) {
        Err(forbidden(row))
    } else if row.window == Window::Callback && call.state().phase != Phase::Callback {
        call.refuse_early()
    } else {
        run(&mut call)
    };
    match outcome {
        Ok(()) => Ok(Status::Ok.number()),
        Err(Refusal::Answer(number)) => Ok(number),
        Err(Refusal::Explained(number, why)) => {
            let text = format!("{}: {why}", row.name);
            // Nothing more can be done when the log does not work either.
            let _logged = call.log(LogLevel::Warn, LogText::Host(text.as_bytes()));
            Ok(number)
        }
        Err(Refusal::Stop(error)) => Err(error),
    }
}
