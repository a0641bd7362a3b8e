//! The hostcall that calls host functions by name.

use crate::abi::property::PropertyValue;
use crate::abi::protobuf::{bytes_field, fields, varint_field};
use crate::abi::status::Status;
use crate::hostcalls::context::{HostcallContext, HostcallError, HostcallResult};
use crate::limits::MAX_NAME;
use crate::vm_state::VmState;

/// `proxy_call_foreign_function(name, arguments, &result pointer, &result size)`, the first two a pointer and a size
/// each. A guest passes 0 for the last two addresses to ignore the result. The result is written whatever the status.
pub(super) fn call_function(call: &mut HostcallContext<'_>, arguments: [u32; 6]) -> HostcallResult {
    let [name_at, name_size, input_at, input_size, result_at, size_at] = arguments;
    if name_size as usize > MAX_NAME {
        return Err(Status::NotFound.into());
    }
    let outcome = of_the_vm(call, [name_at, name_size, input_at, input_size])?;
    if let Some(outcome) = outcome {
        let is_wanted = result_at != 0 && size_at != 0;
        match outcome {
            Ok(()) if is_wanted => call.return_scratch([result_at, size_at])?,
            // A rejected call returns an empty result.
            _ if is_wanted => call.return_bytes(&[], [result_at, size_at])?,
            _ => {}
        }
        return outcome;
    }
    let args = call.borrow()?;
    let name = args.memory.bytes(name_at, name_size)?;
    let input = args.memory.bytes(input_at, input_size)?;
    let outcome = args.host.foreign_function(args.context, name, input, args.out);
    // The function does not exist: nothing is written.
    if outcome == Err(Status::NotFound) && args.out.is_empty() {
        return Err(Status::NotFound.into());
    }
    if result_at != 0 && size_at != 0 {
        call.return_scratch([result_at, size_at])?;
    }
    Ok(outcome?)
}

/// Calls a function on the VM's own state; `None` for other functions. The result is in the scratch buffer.
fn of_the_vm(call: &mut HostcallContext<'_>, arguments: [u32; 4]) -> Result<Option<HostcallResult>, HostcallError> {
    let [name_at, name_size, input_at, input_size] = arguments;
    let (memory, state) = call.borrow_state()?;
    let name = memory.bytes(name_at, name_size)?;
    let input = memory.bytes(input_at, input_size)?;
    state.scratch.clear();
    let token = || input.try_into().map(u32::from_le_bytes).map_err(|_| HostcallError::from(Status::BadArgument));
    Ok(Some(match name {
        b"declare_property" => declare(state, input),
        // Guests cannot create host objects.
        b"set_envoy_filter_state" => Err(Status::NotFound.into()),
        b"expr_create" => match state.expressions.create(input) {
            Ok(token) => {
                state.scratch.extend_from_slice(&token.to_le_bytes());
                Ok(())
            }
            Err(reason) => {
                Err(HostcallError::StatusWithReason(Status::BadArgument.number(), format!("expr_create: {reason}")))
            }
        },
        b"expr_evaluate" => token().and_then(|token| evaluate(state, token)),
        b"expr_delete" => token().map(|token| state.expressions.delete(token)),
        _ => return Ok(None),
    }))
}

/// Decodes Envoy's `DeclarePropertyArguments` (field 1: name, field 3: type, 1 for text) and declares the property.
fn declare(state: &mut VmState, input: &[u8]) -> HostcallResult {
    let declared = fields(input).ok_or(Status::BadArgument)?;
    let name = bytes_field(&declared, 1).unwrap_or_default();
    Ok(state.declare(name, varint_field(&declared, 3) == 1)?)
}

fn evaluate(state: &mut VmState, token: u32) -> HostcallResult {
    let VmState { expressions, declared, host, contexts, scratch, .. } = state;
    let (host, context) = (host.host()?, contexts.effective());
    let mut look = |path: &[u8], visit: &mut dyn FnMut(PropertyValue<'_>)| {
        // A missing property has no value in the expression.
        let _found = host.property(context, path, &mut |value| match value {
            PropertyValue::Bytes(text) if declared.get(path) == Some(&true) => visit(PropertyValue::Text(text)),
            value => visit(value),
        });
    };
    Ok(expressions.evaluate(token, &mut look, scratch)?)
}
