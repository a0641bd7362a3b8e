//! The part of WASI preview 1 that toolchains import, without files, network or sleep. Standard output is logged,
//! clocks and random numbers work, and all other calls return a fixed error. The structure is that of the files in
//! `hostcalls/`.

use std::time::UNIX_EPOCH;

use rand::TryRngCore;

use crate::abi::log::LogLevel;
use crate::abi::status::Status;
use crate::failure::HostTrap;
use crate::hostcalls::context::{HostcallContext, HostcallError, HostcallResult, LogText};
use crate::hostcalls::function::HostFunction;
use crate::limits::{MAX_IO_VECTORS, MAX_RANDOM_BYTES, SCRATCH_KEEP};
use crate::memory::GuestMemory;
use crate::settings::PluginSettings;

const SUCCESS: u32 = 0;
const BAD_FILE: u32 = 8;
const NOT_A_DIRECTORY: u32 = 20;
const BAD_ADDRESS: u32 = 21;
const INVALID: u32 = 28;
const INPUT_OUTPUT: u32 = 29;
const NO_ENTRY: u32 = 44;
const NOT_HERE: u32 = 52;
const NOT_SUPPORTED: u32 = 58;

/// The right to write, in the result of `fd_fdstat_get`.
const RIGHT_TO_WRITE: u64 = 1 << 6;

const fn fixed(answer: u32) -> HostFunction {
    fixed_with_zeroes(answer, &[])
}

const fn fixed_with_zeroes(answer: u32, zeroes: &'static [(usize, u32)]) -> HostFunction {
    HostFunction::Stub { answer, zeroes, bad_address: BAD_ADDRESS }
}

/// Returns the implementation of a WASI hostcall.
pub(crate) fn host_function(name: &str) -> Option<HostFunction> {
    use HostFunction as I;
    Some(match name {
        "args_get" | "fd_advise" | "fd_close" | "sched_yield" => fixed(SUCCESS),
        "args_sizes_get" => fixed_with_zeroes(SUCCESS, &[(0, 4), (1, 4)]),
        "clock_res_get" => I::A2(clock_resolution),
        "clock_time_get" => I::Clock(clock_time),
        "environ_get" => I::A2(environment),
        "environ_sizes_get" => I::A2(environment_sizes),
        "fd_allocate"
        | "fd_datasync"
        | "fd_sync"
        | "fd_fdstat_set_rights"
        | "fd_filestat_set_size"
        | "fd_filestat_set_times" => I::StandardFile { otherwise: BAD_FILE },
        "fd_fdstat_get" => I::A2(file_status),
        "fd_fdstat_set_flags" | "fd_pread" | "fd_prestat_dir_name" | "fd_read" => fixed(NOT_HERE),
        "fd_filestat_get" | "fd_prestat_get" => fixed(BAD_FILE),
        "fd_pwrite" => I::FileAt(write),
        "fd_readdir" => fixed_with_zeroes(NOT_A_DIRECTORY, &[(4, 4)]),
        "fd_seek" => fixed_with_zeroes(SUCCESS, &[(3, 8)]),
        "fd_tell" => fixed_with_zeroes(SUCCESS, &[(1, 8)]),
        "fd_write" => I::A4(write),
        "path_open" => fixed(NO_ENTRY),
        "path_readlink" => fixed_with_zeroes(NOT_SUPPORTED, &[(5, 4)]),
        "path_create_directory"
        | "path_filestat_get"
        | "path_filestat_set_times"
        | "path_link"
        | "path_remove_directory"
        | "path_rename"
        | "path_symlink"
        | "path_unlink_file"
        | "fd_renumber"
        | "proc_raise" => fixed(NOT_SUPPORTED),
        "poll_oneoff" => fixed_with_zeroes(SUCCESS, &[(3, 4)]),
        "proc_exit" => I::A1(exit),
        "random_get" => I::A2(random),
        "sock_accept" => fixed_with_zeroes(NOT_SUPPORTED, &[(2, 4)]),
        "sock_recv" => fixed_with_zeroes(NOT_SUPPORTED, &[(4, 4), (5, 2)]),
        "sock_send" => fixed_with_zeroes(NOT_SUPPORTED, &[(4, 4)]),
        "sock_shutdown" => fixed(NOT_SUPPORTED),
        _ => return None,
    })
}

const fn bad_address(_: Status) -> HostcallError {
    HostcallError::Status(BAD_ADDRESS)
}

/// `fd_write(file, buffers, number of buffers, &written)`, and `fd_pwrite` without its offset
fn write(call: &mut HostcallContext<'_>, [file, buffers, count, written_at]: [u32; 4]) -> HostcallResult {
    let level = match file {
        1 => LogLevel::Info,
        2 => LogLevel::Error,
        _ => return Err(HostcallError::Status(BAD_FILE)),
    };
    if count > MAX_IO_VECTORS {
        return Err(HostcallError::Status(INVALID));
    }
    let (mut memory, state) = call.borrow_state()?;
    let mut text = std::mem::take(&mut state.scratch);
    text.clear();
    let mut written = 0_u32;
    for at in 0..count {
        let buffer = buffers.checked_add(at * 8).ok_or(HostcallError::Status(BAD_ADDRESS))?;
        let pointer = memory.read_u32(buffer).map_err(bad_address)?;
        let length = memory.read_u32(buffer.wrapping_add(4)).map_err(bad_address)?;
        let bytes = memory.bytes(pointer, length).map_err(bad_address)?;
        written = written.checked_add(length).ok_or(HostcallError::Status(INVALID))?;
        // All buffers may refer to the same bytes, so only the beginning is copied.
        text.extend_from_slice(&bytes[..bytes.len().min(SCRATCH_KEEP - text.len())]);
    }
    memory.write_u32(written_at, written).map_err(bad_address)?;
    call.log(level, LogText::Host(text.strip_suffix(b"\n").unwrap_or(&text)))?;
    text.clear();
    call.state().scratch = text;
    Ok(())
}

/// `fd_fdstat_get(file, &24 bytes)`
fn file_status(call: &mut HostcallContext<'_>, [file, status_at]: [u32; 2]) -> HostcallResult {
    if file != 1 && file != 2 {
        return Err(HostcallError::Status(BAD_FILE));
    }
    let (mut memory, _) = call.borrow_state()?;
    let status = memory.bytes_mut(status_at, 24).map_err(bad_address)?;
    status.fill(0);
    status[8..16].copy_from_slice(&RIGHT_TO_WRITE.to_le_bytes());
    Ok(())
}

/// `clock_time_get(clock, precision, &u64)`
fn clock_time(call: &mut HostcallContext<'_>, clock: u32, _precision: i64, time_at: u32) -> HostcallResult {
    let mut args = call.borrow()?;
    let time = match clock {
        0 => args.host.now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        1 => args.host.monotonic(),
        _ => return Err(HostcallError::Status(NOT_SUPPORTED)),
    };
    let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    args.memory.write_u64(time_at, nanoseconds).map_err(bad_address)
}

/// `clock_res_get(clock, &u64)`
fn clock_resolution(call: &mut HostcallContext<'_>, [clock, resolution_at]: [u32; 2]) -> HostcallResult {
    if clock > 1 {
        return Err(HostcallError::Status(NOT_SUPPORTED));
    }
    let (mut memory, _) = call.borrow_state()?;
    memory.write_u64(resolution_at, 1).map_err(bad_address)
}

/// Returns the environment variables as the guest reads them: `NAME=value` and a NUL each.
fn variables(settings: &PluginSettings) -> impl Iterator<Item = String> + '_ {
    let legal =
        |(name, value): &&(String, String)| !name.is_empty() && !name.contains(['\0', '=']) && !value.contains('\0');
    settings.environment.iter().filter(legal).map(|(name, value)| format!("{name}={value}\0"))
}

/// `environ_sizes_get(&number, &bytes)`
fn environment_sizes(call: &mut HostcallContext<'_>, [number_at, bytes_at]: [u32; 2]) -> HostcallResult {
    let (mut memory, state) = call.borrow_state()?;
    let (number, bytes) = variables(state.settings()).fold((0_u32, 0_usize), |(number, bytes), variable| {
        (number.saturating_add(1), bytes.saturating_add(variable.len()))
    });
    memory.write_u32(number_at, number).map_err(bad_address)?;
    memory.write_u32(bytes_at, u32::try_from(bytes).unwrap_or(u32::MAX)).map_err(bad_address)
}

/// `environ_get(&pointers, &bytes)`
fn environment(call: &mut HostcallContext<'_>, [mut pointer_at, mut bytes_at]: [u32; 2]) -> HostcallResult {
    let (mut memory, state) = call.borrow_state()?;
    for variable in variables(state.settings()) {
        write_variable(&mut memory, [pointer_at, bytes_at], &variable).map_err(bad_address)?;
        pointer_at = pointer_at.wrapping_add(4);
        bytes_at = bytes_at.wrapping_add(u32::try_from(variable.len()).unwrap_or(u32::MAX));
    }
    Ok(())
}

fn write_variable(
    memory: &mut GuestMemory<'_>,
    [pointer_at, bytes_at]: [u32; 2],
    variable: &str,
) -> Result<(), Status> {
    memory.write_u32(pointer_at, bytes_at)?;
    memory.write(bytes_at, variable.as_bytes())
}

/// `random_get(pointer, size)`
fn random(call: &mut HostcallContext<'_>, [pointer, size]: [u32; 2]) -> HostcallResult {
    if size > MAX_RANDOM_BYTES {
        return Err(HostcallError::Status(INVALID));
    }
    let (mut memory, _) = call.borrow_state()?;
    let bytes = memory.bytes_mut(pointer, size).map_err(bad_address)?;
    rand::rngs::OsRng.try_fill_bytes(bytes).map_err(|_| HostcallError::Status(INPUT_OUTPUT))
}

/// `proc_exit(code)`: does not return to the guest.
fn exit(_call: &mut HostcallContext<'_>, [code]: [u32; 1]) -> HostcallResult {
    Err(HostTrap::Exit(code).into())
}
