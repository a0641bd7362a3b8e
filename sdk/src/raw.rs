//! Three hostcalls without the copies of `proxy_wasm`, which makes two allocations per header and per property path.
//! Filters make these calls on every request.

use proxy_wasm::types::MapType;

use crate::error::HostError;

/// The hostcalls. The host writes results to memory that it allocates in this module (`proxy_on_memory_allocate`).
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "hostcalls take pointers")]
mod host {
    use std::ptr::null_mut;

    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_get_property(path: *const u8, path_size: usize, value: *mut *mut u8, value_size: *mut usize) -> u32;
        fn proxy_set_property(path: *const u8, path_size: usize, value: *const u8, value_size: usize) -> u32;
        fn proxy_get_header_map_pairs(map: u32, pairs: *mut *mut u8, pairs_size: *mut usize) -> u32;
    }

    pub(super) fn property(path: &[u8]) -> Option<Vec<u8>> {
        let (mut value, mut size) = (null_mut(), 0);
        // SAFETY: the path lies in `path`, and the host writes through pointers to two locals of the right size.
        let status = unsafe { proxy_get_property(path.as_ptr(), path.len(), &raw mut value, &raw mut size) };
        (status == 0).then(|| owned(value, size))
    }

    pub(super) fn set_property(path: &[u8], value: &[u8]) -> u32 {
        // SAFETY: the host reads both while the call lasts.
        unsafe { proxy_set_property(path.as_ptr(), path.len(), value.as_ptr(), value.len()) }
    }

    pub(super) fn pairs(map: u32) -> Option<Vec<u8>> {
        let (mut pairs, mut size) = (null_mut(), 0);
        // SAFETY: the host writes through pointers to two locals of the right size.
        let status = unsafe { proxy_get_header_map_pairs(map, &raw mut pairs, &raw mut size) };
        (status == 0).then(|| owned(pairs, size))
    }

    fn owned(bytes: *mut u8, size: usize) -> Vec<u8> {
        if bytes.is_null() || size == 0 {
            return Vec::new();
        }
        // SAFETY: the memory is from `proxy_on_memory_allocate`, where `proxy_wasm` leaks a boxed slice of exactly this
        // size. The host retains no pointer to it.
        unsafe { Vec::from_raw_parts(bytes, size, size) }
    }
}

/// The hostcalls outside wasm32, where there is no host.
#[cfg(not(target_arch = "wasm32"))]
mod host {
    pub(super) fn property(_path: &[u8]) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn set_property(_path: &[u8], _value: &[u8]) -> u32 {
        super::INTERNAL_FAILURE
    }

    pub(super) fn pairs(_map: u32) -> Option<Vec<u8>> {
        None
    }
}

/// `INTERNAL_FAILURE` of Proxy-Wasm.
#[cfg(not(target_arch = "wasm32"))]
const INTERNAL_FAILURE: u32 = 10;

/// Returns the value of a property (`proxy_get_property`). The segments of its path are separated by NUL.
pub(crate) fn property(path: &[u8]) -> Option<Vec<u8>> {
    host::property(path)
}

/// Sets the value of a property (`proxy_set_property`).
pub(crate) fn set_property(path: &[u8], value: &[u8]) -> Result<(), HostError> {
    match host::set_property(path, value) {
        0 => Ok(()),
        status => Err(HostError::from_number(status)),
    }
}

/// Returns an encoded header map (`proxy_get_header_map_pairs`): the count, the sizes of each name and value, then each
/// name and value with a NUL after it. Numbers are four bytes, least significant first.
pub(crate) fn pairs(map: MapType) -> Vec<u8> {
    host::pairs(map as u32).unwrap_or_default()
}

/// Iterates over the pairs of an encoded header map. Stops at the first pair that does not lie within `bytes`.
pub(crate) fn read_pairs(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let number = |at: usize| {
        let four = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(four.try_into().ok()?) as usize)
    };
    let count = number(0).unwrap_or(0);
    let mut at = 4 + count.saturating_mul(8);
    let mut take = move |size: usize| {
        let text = bytes.get(at..at.checked_add(size)?)?;
        at += size + 1;
        Some(text)
    };
    (0..count).map_while(move |index| Some((take(number(4 + index * 8)?)?, take(number(8 + index * 8)?)?)))
}

#[cfg(test)]
mod tests {
    use super::read_pairs;

    #[test]
    fn read_pairs_stops_at_truncated_pair() {
        let mut bytes = vec![2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(b"a\0bc\0def\0\0");
        let read =
            |bytes: &[u8]| read_pairs(bytes).map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>();
        let whole = [(b"a".to_vec(), b"bc".to_vec()), (b"def".to_vec(), Vec::new())];
        assert_eq!(read(&bytes), whole);
        for end in 0..bytes.len() {
            assert!(whole.starts_with(&read(&bytes[..end])), "cut off after {end} bytes");
        }
        assert!(read(&[255; 64]).is_empty());
    }
}
