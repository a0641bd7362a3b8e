//! Host functions that guests call by name (`proxy_call_foreign_function`): stateless functions, and expressions, which
//! the VM stores. They work at any time, also while a guest starts. Names, arguments and results are Envoy's.

pub(crate) mod expression;
mod signature;
mod zlib;

use crate::abi::status::Status;

/// Calls a stateless function and appends its result.
///
/// # Errors
/// `NotFound` for an unknown name, else the status of Envoy's function.
pub fn call(name: &[u8], arguments: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    match name {
        b"compress" => zlib::compress(arguments, out),
        b"uncompress" => zlib::uncompress(arguments, out),
        b"verify_signature" => signature::verify(arguments, out),
        b"sign" => signature::sign(arguments, out),
        _ => Err(Status::NotFound),
    }
}
