//! The hostcall that calls functions of the host by name.

use crate::abi::protobuf::{bytes_of, fields, number_of};
use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult};
use crate::limits::MAX_NAME;

/// `proxy_call_foreign_function(name, arguments, &result pointer, &result size)`, the first two a pointer and a size
/// each. A guest that does not want the result gives 0 for its two addresses. The result is written whatever the
/// status.
pub(super) fn call_function(call: &mut Call<'_>, arguments: [u32; 6]) -> CallResult {
    let [name, name_size, input, input_size, result_at, size_at] = arguments;
    if name_size as usize > MAX_NAME {
        return Err(Status::NotFound.into());
    }
    let parts = call.lend()?;
    let name = parts.memory.bytes(name, name_size)?;
    let input = parts.memory.bytes(input, input_size)?;
    if name == b"declare_property" {
        let declared = fields(input).ok_or(Status::BadArgument)?;
        let (name, read_only) = (bytes_of(&declared, 1).unwrap_or_default().to_vec(), number_of(&declared, 2) != 0);
        return Ok(call.state().declare(name, read_only)?);
    }
    let outcome = parts.host.foreign_function(parts.context, name, input, parts.out);
    // There is no such function: nothing is written.
    if outcome == Err(Status::NotFound) && parts.out.is_empty() {
        return Err(Status::NotFound.into());
    }
    if result_at != 0 && size_at != 0 {
        call.give_scratch([result_at, size_at])?;
    }
    Ok(outcome?)
}
