//! Functions of the host that guests call by name (`proxy_call_foreign_function`): those that need nothing but their
//! arguments, and expressions, which the VM keeps. They work at any time, also while a guest starts. Names, arguments and
//! results are Envoy's.

pub(crate) mod expression;
mod signature;
mod zlib;

use crate::abi::status::Status;

/// Calls a function and appends its result.
///
/// # Errors
/// `NotFound` when there is none of that name, else what Envoy's function answers.
pub fn call(name: &[u8], arguments: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    match name {
        b"compress" => zlib::compress(arguments, out),
        b"uncompress" => zlib::uncompress(arguments, out),
        b"verify_signature" => signature::verify(arguments, out),
        b"sign" => signature::sign(arguments, out),
        _ => Err(Status::NotFound),
    }
}
