//! Fuzz target: serialized maps. It compares the decoder with an independent one, encodes accepted maps back, and does
//! the same through a guest that sets a map and reads it again.

use std::collections::BTreeSet;

use crate::test_host::Headers;
use weir_host_abi::ContextId;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::pairs::{Pairs, encode};
use weir_host_abi::limits::{MAX_PAIRS, MAX_PAIRS_BYTES};

use crate::calls::hostcall_index;
use crate::fuzz_input::FuzzInput;
use crate::run::fuzz;
use crate::test_guest::{Allocator, MEMORY, TestGuest};

/// Address of the guest's results.
const ANSWER_AT: u32 = 16;

#[test]
fn serialized_maps() {
    fuzz("maps", |input| {
        let map = serialized(&mut FuzzInput::new(input));
        let expected = decode(&map);
        let decoded = Pairs::decode(&map);
        match (&decoded, &expected) {
            (Ok(pairs), Some(expected)) => {
                let owned: Headers = pairs.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
                assert_eq!((&owned, pairs.len(), pairs.is_empty()), (expected, expected.len(), expected.is_empty()));
                if map.len() > 1 {
                    assert_eq!(encode(pairs.iter()), map, "an accepted map encodes back");
                }
            }
            (Err(_), None) => {}
            _ => panic!("{decoded:?} instead of {expected:?}"),
        }
        if map.len() < MEMORY as usize / 2 {
            check_in_guest(&map, expected.as_ref());
        }
        let size = map.len().checked_ilog2().unwrap_or_default().try_into().unwrap();
        let count = expected.as_ref().map_or(0, Vec::len).min(9).try_into().unwrap();
        let error = decoded.err().map_or(0, |error| error.to_string().len().try_into().unwrap());
        BTreeSet::from([[size, count, error, 0]])
    });
}

/// Generates a map: a list, damaged or not, or arbitrary bytes.
fn serialized(choices: &mut FuzzInput<'_>) -> Vec<u8> {
    let kind = choices.byte();
    if kind < 32 {
        return choices.rest().to_vec();
    }
    let repeat = if kind > 250 { choices.number() % 3_000 } else { 1 };
    let damages = usize::from(kind % 4);
    let damages: Vec<_> = (0..damages).map(|_| (choices.number(), choices.byte())).collect();
    let mut pairs = Vec::new();
    while !choices.is_empty() {
        pairs.push((choices.bytes().to_vec(), choices.bytes().to_vec()));
    }
    let pairs = (0..repeat).flat_map(|_| pairs.iter().map(|(name, value)| (&name[..], &value[..])));
    let mut map = encode(pairs.take(MAX_PAIRS as usize + 2));
    for (at, by) in damages {
        let at = at as usize % map.len().clamp(1, 64);
        map[at] = map[at].wrapping_add(by);
    }
    map
}

/// Decodes a map as specified: count, lengths, then each string with a trailing NUL.
fn decode(map: &[u8]) -> Option<Headers> {
    let number = |at: usize| Some(u32::from_le_bytes(map.get(at..at + 4)?.try_into().ok()?) as usize);
    if map.is_empty() || map == [0] {
        return Some(Vec::new());
    }
    let count = number(0)?;
    if map.len() > MAX_PAIRS_BYTES || count > MAX_PAIRS as usize {
        return None;
    }
    let mut at = 4 + count * 8;
    let mut text = |length: usize| {
        let text = map.get(at..at + length)?.to_vec();
        at += length + 1;
        (map.get(at - 1) == Some(&0)).then_some(text)
    };
    let mut pairs = Vec::new();
    for entry in 0..count {
        let (name, value) = (number(4 + entry * 8)?, number(8 + entry * 8)?);
        pairs.push((text(name)?, text(value)?));
    }
    (at == map.len()).then_some(pairs)
}

/// Lets a guest set its request headers from the last bytes of its memory, and read them again.
fn check_in_guest(map: &[u8], expected: Option<&Headers>) {
    let mut guest = TestGuest::start();
    let before: Headers = vec![(b"x".to_vec(), b"y".to_vec())];
    let key = (ContextId::ROOT, MapKind::RequestHeaders);
    guest.host.maps.insert(key, before.clone());
    let size = u32::try_from(map.len()).unwrap();
    guest.poke(MEMORY - size, map);
    guest.set_allocator(Allocator::Grows, 0);
    let arguments = [0, u64::from(MEMORY - size), u64::from(size)];
    let answer = guest.call(hostcall_index("proxy_set_header_map_pairs"), &arguments).unwrap().answer;
    let lower = |pairs: &Headers| -> Headers {
        pairs.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    };
    let (status, headers) = expected.map_or((2, before), |pairs| (0, lower(pairs)));
    assert_eq!((answer, &guest.host.maps[&key]), (Some(status), &headers));

    let out = [0, u64::from(ANSWER_AT), u64::from(ANSWER_AT + 4)];
    let outcome = guest.call(hostcall_index("proxy_get_header_map_pairs"), &out).unwrap();
    let encoded = encode(headers.iter().map(|(name, value)| (&name[..], &value[..])));
    let encoded = if headers.is_empty() { &[][..] } else { &encoded[..] };
    assert_eq!((outcome.answer, outcome.allocations), (Some(0), u32::from(!headers.is_empty())));
    assert_eq!(returned_bytes(&mut guest), encoded);
}

/// Returns the bytes that the pointer and size at [`ANSWER_AT`] refer to.
fn returned_bytes(guest: &mut TestGuest) -> Vec<u8> {
    let memory = guest.memory();
    let number = |at: u32| {
        let at = at as usize;
        u32::from_le_bytes(memory[at..at + 4].try_into().unwrap()) as usize
    };
    let (pointer, size) = (number(ANSWER_AT), number(ANSWER_AT + 4));
    memory[pointer..pointer + size].to_vec()
}
