//! Imports of module `env` that are not in the ABI: compilers and their runtimes add them.

use rand::TryRngCore;

use crate::failure::{HostTrap, shortened};
use crate::hostcalls::context::{HostcallContext, HostcallError, HostcallResult};
use crate::limits::MAX_GUEST_MESSAGE;
use crate::memory::GuestMemory;

/// `emscripten_notify_memory_growth(index)`: has no effect, because the memory is looked up at each use.
#[expect(clippy::unnecessary_wraps, reason = "the shape of every hostcall")]
pub(super) const fn memory_grew(_call: &mut HostcallContext<'_>, [_index]: [u32; 1]) -> HostcallResult {
    Ok(())
}

/// `pthread_equal(a, b)`
pub(super) const fn thread_equal(_call: &mut HostcallContext<'_>, [a, b]: [u32; 2]) -> HostcallResult {
    Err(HostcallError::Status((a == b) as u32))
}

/// `seed()`: returns a random number.
pub(super) fn seed() -> f64 {
    let bits = rand::rngs::OsRng.try_next_u32().unwrap_or_default();
    f64::from(bits)
}

/// `abort(message, file, line, column)` of `AssemblyScript`: stops the guest.
pub(super) fn abort(call: &mut HostcallContext<'_>, [message, file, line, column]: [u32; 4]) -> HostcallResult {
    let (memory, _) = call.borrow_state()?;
    let message = text(&memory, message).unwrap_or_else(|| "no message".to_owned());
    let file = text(&memory, file).unwrap_or_else(|| "unknown file".to_owned());
    Err(HostTrap::Abort(format!("{message} at {file}:{line}:{column}")).into())
}

/// Reads an `AssemblyScript` string: UTF-16, with its length in bytes in the four bytes before it.
fn text(memory: &GuestMemory<'_>, pointer: u32) -> Option<String> {
    let length = memory.read_u32(pointer.checked_sub(4)?).ok()?;
    let bytes = memory.bytes(pointer, length.min(u32::try_from(MAX_GUEST_MESSAGE).ok()?)).ok()?;
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text: String = char::decode_utf16(units).map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Some(shortened(&text, MAX_GUEST_MESSAGE))
}
