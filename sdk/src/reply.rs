//! Local replies: responses that the filter sends itself.
//!
//! ```
//! use weir_sdk::{Action, Reply};
//!
//! let action: Action = Reply::new(403).details("quota_exceeded").text("come back tomorrow\n").into();
//! ```

/// A local reply: status, headers, body, and details for the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    details: String,
    /// `None` leaves the gRPC status to the host, which derives it from the status.
    grpc_status: Option<i32>,
}

impl Reply {
    /// Creates an empty reply with this status (200 to 599).
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), details: String::new(), grpc_status: None }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body. It is plain text unless a `content-type` header is set.
    pub fn text(mut self, text: &str) -> Self {
        self.body = text.as_bytes().to_vec();
        self
    }

    /// Sets the body and its `content-type`.
    pub fn body(mut self, content_type: &str, bytes: &[u8]) -> Self {
        self.body = bytes.to_vec();
        self.header("content-type", content_type)
    }

    /// Sets the gRPC status (0 to 16, like 14 for `UNAVAILABLE`) of the reply to a gRPC request; the body becomes its
    /// `grpc-message`. The reply to any other request has the HTTP status and no gRPC status. Without this, and for a
    /// number out of that range, the host derives the gRPC status from the HTTP status.
    pub fn grpc_status(mut self, status: i32) -> Self {
        self.grpc_status = (0..=16).contains(&status).then_some(status);
        self
    }

    /// Sets the reason, one `snake_case` word. The access log shows it (`details`).
    pub fn details(mut self, details: &str) -> Self {
        details.clone_into(&mut self.details);
        self
    }

    /// Returns the status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the body as text, for tests.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the gRPC status that [`Reply::grpc_status`] has set, for tests.
    pub fn grpc_status_code(&self) -> Option<i32> {
        self.grpc_status
    }

    /// Returns the details, for tests.
    pub fn details_text(&self) -> &str {
        &self.details
    }

    /// Returns the first value of a header that this reply sets, for tests.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Passes the reply to the host (`proxy_send_local_response`), which sends it after the callback returns.
    pub(crate) fn send(&self) {
        let headers = encode_pairs(&self.headers);
        let result = hostcall::send(self, &headers);
        if result != 0 {
            log::error!("the host did not send the local reply: status {result}");
        }
    }
}

/// Encodes pairs as Proxy-Wasm does: the count, the sizes, then each text with a NUL after it.
fn encode_pairs(pairs: &[(String, String)]) -> Vec<u8> {
    let size = |text: &str| u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut wire = Vec::new();
    wire.extend_from_slice(&u32::try_from(pairs.len()).unwrap_or(u32::MAX).to_le_bytes());
    for (name, value) in pairs {
        wire.extend_from_slice(&size(name));
        wire.extend_from_slice(&size(value));
    }
    for (name, value) in pairs {
        for text in [name, value] {
            wire.extend_from_slice(text.as_bytes());
            wire.push(0);
        }
    }
    wire
}

/// The hostcall. The `proxy_wasm` crate cannot pass details, so it is declared here.
#[cfg(target_arch = "wasm32")]
mod hostcall {
    #![expect(unsafe_code, reason = "a hostcall is a foreign function")]

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        #[expect(clippy::too_many_arguments, reason = "the signature is that of Proxy-Wasm")]
        fn proxy_send_local_response(
            status: u32,
            details: *const u8,
            details_size: usize,
            body: *const u8,
            body_size: usize,
            headers: *const u8,
            headers_size: usize,
            grpc_status: i32,
        ) -> u32;
    }

    /// Stands for no gRPC status.
    const NO_GRPC_STATUS: i32 = -1;

    pub(super) fn send(reply: &super::Reply, headers: &[u8]) -> u32 {
        // SAFETY: each pointer is valid for the size beside it until the call returns, and the host only reads.
        unsafe {
            proxy_send_local_response(
                u32::from(reply.status),
                reply.details.as_ptr(),
                reply.details.len(),
                reply.body.as_ptr(),
                reply.body.len(),
                headers.as_ptr(),
                headers.len(),
                reply.grpc_status.unwrap_or(NO_GRPC_STATUS),
            )
        }
    }
}

/// The hostcall outside wasm32, which does nothing.
#[cfg(not(target_arch = "wasm32"))]
mod hostcall {
    pub(super) fn send(_reply: &super::Reply, _headers: &[u8]) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::{Reply, encode_pairs};

    #[test]
    fn encode_pairs_writes_count_sizes_and_terminated_texts() {
        let pairs = [("a".to_owned(), "bc".to_owned()), ("d".to_owned(), String::new())];
        let wire = encode_pairs(&pairs);
        assert_eq!(wire, b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0a\0bc\0d\0\0");
        assert_eq!(encode_pairs(&[]), [0, 0, 0, 0]);
    }

    #[test]
    fn grpc_status_out_of_range_is_ignored() {
        for (status, expected) in [(0, Some(0)), (16, Some(16)), (17, None), (-1, None), (i32::MIN, None)] {
            assert_eq!(Reply::new(503).grpc_status(status).grpc_status_code(), expected, "{status}");
        }
    }
}
