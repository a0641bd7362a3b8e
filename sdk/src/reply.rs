//! An answer that the filter gives itself.
//!
//! ```
//! use weir_sdk::{Action, Reply};
//!
//! let action: Action = Reply::new(403).details("quota_exceeded").text("come back tomorrow\n").into();
//! ```

/// A local reply: status, headers, body, and for the access log a word on why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    details: String,
}

impl Reply {
    /// An empty answer with this status (200 to 599).
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), details: String::new() }
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body, as plain text unless a `content-type` header says otherwise.
    pub fn text(mut self, text: &str) -> Self {
        self.body = text.as_bytes().to_vec();
        self
    }

    /// The body, as bytes of `content_type`.
    pub fn body(mut self, content_type: &str, bytes: &[u8]) -> Self {
        self.body = bytes.to_vec();
        self.header("content-type", content_type)
    }

    /// Why, in one `snake_case` word: it stands in the access log beside the status.
    pub fn details(mut self, details: &str) -> Self {
        details.clone_into(&mut self.details);
        self
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The body as text, for tests.
    pub fn body_text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The word on why, for tests.
    pub fn details_text(&self) -> &str {
        &self.details
    }

    /// The first value of a header that this reply sets, for tests.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Hands the reply to the host, which sends it once the callback has returned.
    pub(crate) fn send(&self) {
        let headers = wire_pairs(&self.headers);
        let result = hostcall::send(self, &headers);
        if result != 0 {
            log::error!("the host did not send the local reply: status {result}");
        }
    }
}

/// Pairs as Proxy-Wasm passes them: a count, the sizes, then each text with a zero after it.
fn wire_pairs(pairs: &[(String, String)]) -> Vec<u8> {
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

/// The `proxy_wasm` crate cannot pass details, so this one hostcall is our own.
#[cfg(target_arch = "wasm32")]
mod hostcall {
    #![expect(unsafe_code, reason = "a hostcall is a foreign function")]

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        #[expect(clippy::too_many_arguments, reason = "the signature is the contract's")]
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

    /// No gRPC status: the host derives one for gRPC requests.
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
                NO_GRPC_STATUS,
            )
        }
    }
}

/// Outside wasm32 there is no host to send anything.
#[cfg(not(target_arch = "wasm32"))]
mod hostcall {
    pub(super) fn send(_reply: &super::Reply, _headers: &[u8]) -> u32 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::wire_pairs;

    #[test]
    fn pairs_are_counted_sized_and_ended_by_zeros() {
        let pairs = [("a".to_owned(), "bc".to_owned()), ("d".to_owned(), String::new())];
        let wire = wire_pairs(&pairs);
        assert_eq!(wire, b"\x02\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\0\0\0\0a\0bc\0d\0\0");
        assert_eq!(wire_pairs(&[]), [0, 0, 0, 0]);
    }
}
