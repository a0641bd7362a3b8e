//! gRPC requests and gRPC status codes.

/// The status codes by number (gRPC's `statuscodes.md`).
pub const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Returns the number of a status code, in capital letters.
pub fn code(name: &str) -> Option<i32> {
    (0..).zip(CODES).find(|(_, code)| *code == name).map(|(number, _)| number)
}

/// Returns whether a request with this `content-type` is gRPC: `application/grpc` or one of its subtypes. gRPC-Web is
/// not.
pub fn is_grpc(content_type: &[u8]) -> bool {
    let rest = content_type.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
}
