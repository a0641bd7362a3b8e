//! Header names that filters use: always the same few, so that each is checked and copied once and then known by its
//! bytes. A worker's thread keeps its own; a name that is pushed out by others is made again.

use std::cell::RefCell;
use std::hash::Hasher;

use http::HeaderName;

use crate::hashing::FastHasher;

/// How many names are known at once: four filters use about twenty.
const PLACES: usize = 128;

/// Longer names are made each time.
const MAX_NAME_BYTES: usize = 64;

thread_local! {
    static KNOWN: RefCell<[Option<HeaderName>; PLACES]> = const { RefCell::new([const { None }; PLACES]) };
}

/// Does something with the header name that the bytes are; `None` when they are none.
pub(super) fn with<T>(name: &[u8], act: impl FnOnce(&HeaderName) -> T) -> Option<T> {
    if name.len() > MAX_NAME_BYTES {
        return HeaderName::from_bytes(name).ok().as_ref().map(act);
    }
    let place = learn(name)?;
    KNOWN.with_borrow(|known| known[place].as_ref().map(act))
}

/// Where the name is known from now on. Apart from [`with`], which is compiled anew for each thing that is done with a name.
#[inline(never)]
fn learn(name: &[u8]) -> Option<usize> {
    KNOWN.with_borrow_mut(|known| {
        let place = place_of(name);
        if known[place].as_ref().is_none_or(|known| known.as_str().as_bytes() != name) {
            known[place] = Some(HeaderName::from_bytes(name).ok()?);
        }
        Some(place)
    })
}

fn place_of(name: &[u8]) -> usize {
    let mut hasher = FastHasher::default();
    hasher.write(name);
    usize::try_from(hasher.finish() >> 32).unwrap_or_default() % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_and_wrong_ones_are_none() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for _ in 0..2 {
            for name in ["host", "x-a", "X-A", "x-b", &long] {
                let found = with(name.as_bytes(), HeaderName::clone);
                assert_eq!(found.unwrap().as_str(), name.to_ascii_lowercase());
            }
            for wrong in [&b""[..], b"x a", b"x\xff", b":path", b"x\n"] {
                assert_eq!(with(wrong, HeaderName::clone), None, "{wrong:?}");
            }
        }
    }

    #[test]
    fn names_that_share_a_place_do_not_stand_for_each_other() {
        for round in 0..2 {
            for number in 0..PLACES * 4 {
                let name = format!("x-{number}");
                assert_eq!(with(name.as_bytes(), HeaderName::clone).unwrap().as_str(), name, "{round}");
            }
        }
    }
}
