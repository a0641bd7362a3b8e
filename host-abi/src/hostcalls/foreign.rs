//! The hostcall that calls functions of the host by name.

use crate::abi::protobuf::{bytes_of, fields};
use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult};
use crate::limits::MAX_NAME;

/// `proxy_call_foreign_function(name, arguments, &result pointer, &result size)`, the first two a pointer and a size
/// each. A guest that does not want the result gives 0 for its two addresses. The result is written whatever the
/// status.
pub(super) fn call_function(call: &mut Call<'_>, arguments: [u32; 6]) -> CallResult {
    let [name_at, name_size, input_at, input_size, result_at, size_at] = arguments;
    if name_size as usize > MAX_NAME {
        return Err(Status::NotFound.into());
    }
    let parts = call.lend()?;
    let name = parts.memory.bytes(name_at, name_size)?;
    let input = parts.memory.bytes(input_at, input_size)?;
    let outcome = match name {
        b"declare_property" => {
            let declared = fields(input).ok_or(Status::BadArgument)?;
            let name = bytes_of(&declared, 1).unwrap_or_default().to_vec();
            Some(call.state().declare(&name))
        }
        // No object of the host's own can be made by a guest.
        b"set_envoy_filter_state" => Some(Err(Status::NotFound)),
        _ => None,
    };
    if let Some(outcome) = outcome {
        if result_at != 0 && size_at != 0 {
            call.give(&[], [result_at, size_at])?;
        }
        return Ok(outcome?);
    }
    let parts = call.lend()?;
    let name = parts.memory.bytes(name_at, name_size)?;
    let input = parts.memory.bytes(input_at, input_size)?;
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
