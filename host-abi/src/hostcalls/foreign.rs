//! The hostcall that calls functions of the host by name.

use crate::abi::property::PropertyValue;
use crate::abi::protobuf::{bytes_of, fields, number_of};
use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult, Refusal};
use crate::limits::MAX_NAME;
use crate::state::VmState;

/// `proxy_call_foreign_function(name, arguments, &result pointer, &result size)`, the first two a pointer and a size
/// each. A guest that does not want the result gives 0 for its two addresses. The result is written whatever the
/// status.
pub(super) fn call_function(call: &mut Call<'_>, arguments: [u32; 6]) -> CallResult {
    let [name_at, name_size, input_at, input_size, result_at, size_at] = arguments;
    if name_size as usize > MAX_NAME {
        return Err(Status::NotFound.into());
    }
    let outcome = of_the_vm(call, [name_at, name_size, input_at, input_size])?;
    if let Some(outcome) = outcome {
        let is_wanted = result_at != 0 && size_at != 0;
        match outcome {
            Ok(()) if is_wanted => call.give_scratch([result_at, size_at])?,
            // Of what was refused nothing is shown.
            _ if is_wanted => call.give(&[], [result_at, size_at])?,
            _ => {}
        }
        return outcome;
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

/// Calls a function that works on what the VM keeps; `None` when it is none of these. Its result is in the scratch.
fn of_the_vm(call: &mut Call<'_>, arguments: [u32; 4]) -> Result<Option<CallResult>, Refusal> {
    let [name_at, name_size, input_at, input_size] = arguments;
    let (memory, state) = call.lend_state()?;
    let name = memory.bytes(name_at, name_size)?;
    let input = memory.bytes(input_at, input_size)?;
    state.scratch.clear();
    let token = || input.try_into().map(u32::from_le_bytes).map_err(|_| Refusal::from(Status::BadArgument));
    Ok(Some(match name {
        b"declare_property" => declare(state, input),
        // No object of the host's own can be made by a guest.
        b"set_envoy_filter_state" => Err(Status::NotFound.into()),
        b"expr_create" => match state.expressions.create(input) {
            Ok(token) => {
                state.scratch.extend_from_slice(&token.to_le_bytes());
                Ok(())
            }
            Err(why) => Err(Refusal::Explained(Status::BadArgument.number(), format!("expr_create: {why}"))),
        },
        b"expr_evaluate" => token().and_then(|token| evaluate(state, token)),
        b"expr_delete" => token().map(|token| state.expressions.delete(token)),
        _ => return Ok(None),
    }))
}

/// `DeclarePropertyArguments` of Envoy: 1 name, 3 type (1 is text).
fn declare(state: &mut VmState, input: &[u8]) -> CallResult {
    let declared = fields(input).ok_or(Status::BadArgument)?;
    let name = bytes_of(&declared, 1).unwrap_or_default();
    Ok(state.declare(name, number_of(&declared, 3) == 1)?)
}

fn evaluate(state: &mut VmState, token: u32) -> CallResult {
    let VmState { expressions, declared, host, contexts, scratch, .. } = state;
    let (host, context) = (host.host()?, contexts.effective());
    let mut look = |path: &[u8], see: &mut dyn FnMut(PropertyValue<'_>)| {
        // What is not there is not known to the expression either.
        let _is_there = host.property(context, path, &mut |value| match value {
            PropertyValue::Bytes(text) if declared.get(path) == Some(&true) => see(PropertyValue::Text(text)),
            value => see(value),
        });
    };
    Ok(expressions.evaluate(token, &mut look, scratch)?)
}
