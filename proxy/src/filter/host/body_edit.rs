//! Replaces a range of a body in place (`proxy_set_buffer_bytes`).

use bytes::BytesMut;
use weir_host_abi::host::BufferRange;

/// Replaces a range of a body. Returns false if the body would grow beyond `limit_bytes`.
pub(crate) fn splice(body: &mut BytesMut, limit_bytes: usize, range: BufferRange, value: &[u8]) -> bool {
    let range = range.within(body.len());
    if body.len() - range.len() + value.len() > limit_bytes.max(body.len()) {
        return false;
    }
    if range.end == body.len() {
        body.truncate(range.start);
        body.extend_from_slice(value);
    } else {
        let tail = body.split_off(range.end);
        body.truncate(range.start);
        body.extend_from_slice(value);
        body.unsplit(tail);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_replaced_within_limit() {
        for (start, max, value, expected) in [
            (0, 0, "X", "Xabcdef"),
            (0, 3, "X", "Xdef"),
            (2, 2, "XYZ", "abXYZef"),
            (6, 0, "X", "abcdefX"),
            (usize::MAX, usize::MAX, "X", "abcdefX"),
            (0, usize::MAX, "", ""),
            (4, 100, "X", "abcdX"),
        ] {
            let mut body = BytesMut::from("abcdef");
            assert!(splice(&mut body, 100, BufferRange { start, max }, value.as_bytes()));
            assert_eq!(body, expected.as_bytes(), "{start} {max} {value}");
        }
        let mut body = BytesMut::from("abc");
        assert!(!splice(&mut body, 100, BufferRange { start: 0, max: 0 }, &[0; 98]));
        assert_eq!(body, b"abc"[..]);
    }
}
