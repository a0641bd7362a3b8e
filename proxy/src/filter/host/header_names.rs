//! Cache of interned header names. Filters use the same few names, so each is validated and copied once and found by
//! its bytes later. Each worker thread has its own cache, and a name that was evicted is created again.

use std::cell::RefCell;
use std::hash::Hasher;

use http::HeaderName;

use crate::fast_hash::FastHasher;

/// Number of cache entries. Four filters use about twenty names.
const CACHE_ENTRIES: usize = 128;

/// Longest cached name. A longer one is created for each use.
const MAX_NAME_BYTES: usize = 64;

thread_local! {
    static CACHE: RefCell<[Option<HeaderName>; CACHE_ENTRIES]> = const { RefCell::new([const { None }; CACHE_ENTRIES]) };
}

/// Runs `act` on the header name with these bytes. `None` if the bytes are no valid name.
pub(crate) fn with_header_name<T>(name: &[u8], act: impl FnOnce(&HeaderName) -> T) -> Option<T> {
    if name.len() > MAX_NAME_BYTES {
        return HeaderName::from_bytes(name).ok().as_ref().map(act);
    }
    let index = intern(name)?;
    CACHE.with_borrow(|cache| cache[index].as_ref().map(act))
}

/// Returns the cache index of a name, after storing the name there. Not generic like [`with_header_name`], so that it
/// is compiled once.
#[inline(never)]
fn intern(name: &[u8]) -> Option<usize> {
    CACHE.with_borrow_mut(|cache| {
        let index = cache_index(name);
        if cache[index].as_ref().is_none_or(|cached| cached.as_str().as_bytes() != name) {
            cache[index] = Some(HeaderName::from_bytes(name).ok()?);
        }
        Some(index)
    })
}

fn cache_index(name: &[u8]) -> usize {
    let mut hasher = FastHasher::default();
    hasher.write(name);
    usize::try_from(hasher.finish() >> 32).unwrap_or_default() % CACHE_ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_name_is_found_and_invalid_name_is_none() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for _ in 0..2 {
            for name in ["host", "x-a", "X-A", "x-b", &long] {
                let found = with_header_name(name.as_bytes(), HeaderName::clone);
                assert_eq!(found.unwrap().as_str(), name.to_ascii_lowercase());
            }
            for wrong in [&b""[..], b"x a", b"x\xff", b":path", b"x\n"] {
                assert_eq!(with_header_name(wrong, HeaderName::clone), None, "{wrong:?}");
            }
        }
    }

    #[test]
    fn names_of_one_cache_entry_are_not_confused() {
        for round in 0..2 {
            for number in 0..CACHE_ENTRIES * 4 {
                let name = format!("x-{number}");
                assert_eq!(with_header_name(name.as_bytes(), HeaderName::clone).unwrap().as_str(), name, "{round}");
            }
        }
    }
}
