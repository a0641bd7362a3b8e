//! Target: property paths. A guest sets and reads properties under any paths; a table of what was set says what it must
//! be told.

use std::collections::HashMap;

use weir_host_abi::abi::property::{Dotted, path_bytes, segments};

use crate::calls::place;
use crate::choices::Choices;
use crate::puppet::{Allocator, MAX_MEMORY, MEMORY, Puppet};
use crate::run::{Sights, fuzz};

/// Where the guest's answers are written, and values are read from.
const ANSWER_AT: u32 = 16;
const VALUE_AT: u32 = 1_024;

/// Paths that mean something, to begin with.
const PATHS: [&[u8]; 8] =
    [b"request\0path", b"request.path", b"plugin_name", b"xds\0route_name", b"wasm.x", b"metadata\0a.b", b"", b"x"];

#[test]
fn property_paths() {
    fuzz("properties", |input| {
        let mut choices = Choices::new(input);
        let mut puppet = Puppet::start();
        let mut known: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
        let mut sights = Sights::new();
        while !choices.is_empty() {
            let path = path(&mut choices);
            check_segments(&path);
            let key = path.strip_suffix(&[0]).unwrap_or(&path).to_vec();
            let size = u32::try_from(path.len()).unwrap();
            puppet.poke(MEMORY - size, &path);
            let path_at = [u64::from(MEMORY - size), u64::from(size)];
            let kind = choices.byte();
            if kind < 128 {
                let value = choices.bytes();
                set(&mut puppet, path_at, value);
                known.insert(key, value.to_vec());
            } else {
                let is_full = puppet.vm.memory_bytes() >= MAX_MEMORY as usize;
                let allocator = if is_full || kind < 192 { Allocator::GivesEnd } else { Allocator::Grows };
                puppet.set_allocator(allocator, 0);
                let found = read(&mut puppet, path_at);
                // The path without a segment is none, also where a guest has written something there.
                assert_eq!(found.as_ref(), known.get(&key).filter(|_| !key.is_empty()));
                let length = found.map_or(255, |value| value.len().min(9)).try_into().unwrap();
                let parts = segments(&path, Dotted::Split).len().min(9).try_into().unwrap();
                sights.insert([allocator as u8, length, parts, 0]);
            }
            // The guest shows things as the property without a name, which is then gone.
            puppet
                .host
                .properties
                .extend(known.get_key_value(&b""[..]).map(|(name, value)| (name.clone(), value.clone())));
        }
        sights
    });
}

fn path(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut path = Vec::new();
    if choices.byte() < 128 {
        path.extend_from_slice(choices.pick(&PATHS));
    }
    path.extend_from_slice(choices.bytes());
    path
}

/// Segments are what lies between separators: joined again they are the path.
fn check_segments(path: &[u8]) {
    let bare = path_bytes(path);
    assert!(path.starts_with(bare) && path.len() - bare.len() <= 1);
    let has_nul = bare.contains(&0);
    for (dotted, separator) in [(Dotted::Keep, 0), (Dotted::Split, if has_nul { 0 } else { b'.' })] {
        let parts = segments(path, dotted);
        assert_eq!(parts.join(&separator), bare);
        assert!(parts.iter().all(|part| !part.contains(&separator)));
        assert_eq!(parts.is_empty(), bare.is_empty());
    }
}

fn set(puppet: &mut Puppet, [path, size]: [u64; 2], value: &[u8]) {
    puppet.poke(VALUE_AT, value);
    let arguments = [path, size, u64::from(VALUE_AT), value.len() as u64];
    let outcome = puppet.call(place("proxy_set_property"), &arguments).unwrap();
    assert_eq!((outcome.answer, outcome.allocations), (Some(0), 0));
}

/// What the guest is told, as it finds it in its memory.
fn read(puppet: &mut Puppet, [path, size]: [u64; 2]) -> Option<Vec<u8>> {
    let arguments = [path, size, u64::from(ANSWER_AT), u64::from(ANSWER_AT + 4)];
    let outcome = puppet.call(place("proxy_get_property"), &arguments).unwrap();
    let memory = puppet.memory();
    match outcome.answer {
        Some(0) => {
            let number = |at: usize| u32::from_le_bytes(memory[at..at + 4].try_into().unwrap()) as usize;
            let (pointer, size) = (number(ANSWER_AT as usize), number(ANSWER_AT as usize + 4));
            assert_eq!(outcome.allocations, u32::from(size > 0), "what is empty is not allocated");
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
