//! Fuzz target: property paths. A guest sets and reads properties under any paths, and a map of the set values gives
//! the expected results.

use std::collections::HashMap;

use weir_host_abi::abi::property::{DotSeparators, path_bytes, segments};

use crate::calls::hostcall_index;
use crate::fuzz_input::FuzzInput;
use crate::run::{Coverage, fuzz};
use crate::test_guest::{Allocator, MAX_MEMORY, MEMORY, TestGuest};

/// Addresses of the guest's results and of the values it sets.
const ANSWER_AT: u32 = 16;
const VALUE_AT: u32 = 1_024;

/// Valid paths to start with.
const PATHS: [&[u8]; 8] =
    [b"request\0path", b"request.path", b"plugin_name", b"xds\0route_name", b"wasm.x", b"metadata\0a.b", b"", b"x"];

#[test]
fn property_paths() {
    fuzz("properties", |input| {
        let mut choices = FuzzInput::new(input);
        let mut guest = TestGuest::start();
        let mut known: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut coverage = Coverage::new();
        while !choices.is_empty() {
            let path = path(&mut choices);
            check_segments(&path);
            let key = path.strip_suffix(&[0]).unwrap_or(&path).to_vec();
            let size = u32::try_from(path.len()).unwrap();
            guest.poke(MEMORY - size, &path);
            let path_at = [u64::from(MEMORY - size), u64::from(size)];
            let kind = choices.byte();
            if kind < 128 {
                let value = choices.bytes();
                set(&mut guest, path_at, value);
                known.insert(key, value.to_vec());
            } else {
                let is_full = guest.vm.memory_bytes() >= MAX_MEMORY as usize;
                let allocator = if is_full || kind < 192 { Allocator::ReturnsEnd } else { Allocator::Grows };
                guest.set_allocator(allocator, 0);
                let found = read(&mut guest, path_at);
                // The empty path is never found, even if the guest has set it.
                assert_eq!(found.as_ref(), known.get(&key).filter(|_| !key.is_empty()));
                let length = found.map_or(255, |value| value.len().min(9)).try_into().unwrap();
                let parts = segments(&path, DotSeparators::Split).len().min(9).try_into().unwrap();
                coverage.insert([allocator as u8, length, parts, 0]);
            }
            // The guest reports its memory as the property without a name, which is then removed.
            guest
                .host
                .properties
                .extend(known.get_key_value(&b""[..]).map(|(name, value)| (name.clone(), value.clone())));
        }
        coverage
    });
}

fn path(choices: &mut FuzzInput<'_>) -> Vec<u8> {
    let mut path = Vec::new();
    if choices.byte() < 128 {
        path.extend_from_slice(choices.pick(&PATHS));
    }
    path.extend_from_slice(choices.bytes());
    path
}

/// Checks that segments joined by the separator are the path.
fn check_segments(path: &[u8]) {
    let bare = path_bytes(path);
    assert!(path.starts_with(bare) && path.len() - bare.len() <= 1);
    let has_nul = bare.contains(&0);
    for (dotted, separator) in [(DotSeparators::Keep, 0), (DotSeparators::Split, if has_nul { 0 } else { b'.' })] {
        let parts = segments(path, dotted);
        assert_eq!(parts.join(&separator), bare);
        assert!(parts.iter().all(|part| !part.contains(&separator)));
        assert_eq!(parts.is_empty(), bare.is_empty());
    }
}

fn set(guest: &mut TestGuest, [path, size]: [u64; 2], value: &[u8]) {
    guest.poke(VALUE_AT, value);
    let arguments = [path, size, u64::from(VALUE_AT), value.len() as u64];
    let outcome = guest.call(hostcall_index("proxy_set_property"), &arguments).unwrap();
    assert_eq!((outcome.answer, outcome.allocations), (Some(0), 0));
}

/// Reads a property through the guest and returns the value in its memory.
fn read(guest: &mut TestGuest, [path, size]: [u64; 2]) -> Option<Vec<u8>> {
    let arguments = [path, size, u64::from(ANSWER_AT), u64::from(ANSWER_AT + 4)];
    let outcome = guest.call(hostcall_index("proxy_get_property"), &arguments).unwrap();
    let memory = guest.memory();
    match outcome.answer {
        Some(0) => {
            let number = |at: usize| u32::from_le_bytes(memory[at..at + 4].try_into().unwrap()) as usize;
            let (pointer, size) = (number(ANSWER_AT as usize), number(ANSWER_AT as usize + 4));
            assert_eq!(outcome.allocations, u32::from(size > 0), "an empty value is not allocated");
            Some(memory[pointer..pointer + size].to_vec())
        }
        answer => {
            let [path, size] = [path, size].map(|number| usize::try_from(number).unwrap());
            let is_empty = path_bytes(&memory[path..][..size]).is_empty();
            assert_eq!(answer, Some(if is_empty { 3 } else { 1 }));
            None
        }
    }
}
