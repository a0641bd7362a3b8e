//! Fuzz target: pointers and lengths. Every hostcall gets pointers at and around both ends of the memory, lengths that
//! do not fit, and overlapping input and output, from a guest whose memory grows while it allocates. The host may write
//! only into the ranges of the call.

use std::sync::Arc;

use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::calls::HOSTCALLS;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::metric::MetricKind;
use weir_host_abi::abi::pairs::encode;
use weir_host_abi::{ContextId, FailureKind, Host};

use crate::calls::{HostcallSignature, hostcall, hostcall_index};
use crate::fuzz_input::FuzzInput;
use crate::run::{Coverage, fuzz};
use crate::test_guest::{Allocator, MAX_MEMORY, MEMORY, Outcome, PAGE, TestGuest};

/// Addresses of a valid header list and a valid name in the guest.
const PAIRS_AT: u32 = 1_024;
const NAME_AT: u32 = 2_048;

#[test]
fn pointers_and_lengths() {
    fuzz("pointers", |input| {
        let mut choices = FuzzInput::new(input);
        let mut guest = TestGuest::start();
        fill_host(&mut guest);
        let mut coverage = Coverage::new();
        while !choices.is_empty() && !guest.vm.is_dead() {
            let at = choices.below(HOSTCALLS.len());
            let (allocator, pointer) = (choices.pick(&Allocator::ALL), pointer(&mut choices));
            guest.set_allocator(allocator, pointer);
            let arguments = arguments(hostcall(at).1, &mut choices);
            let kind = check(&mut guest, at, &arguments);
            coverage.insert([at.try_into().unwrap(), kind, allocator as u8, 0]);
        }
        coverage
    });
}

/// Fills the host with data, and the guest's memory with valid arguments.
fn fill_host(guest: &mut TestGuest) {
    let host = &mut guest.host;
    for map in MapKind::ALL {
        host.set_map(ContextId::ROOT, *map, &[("x", "y"), ("content-type", "text/plain")]);
    }
    for buffer in BufferKind::ALL {
        host.buffers.insert((ContextId::ROOT, *buffer), b"content of the buffer".to_vec());
    }
    host.properties.insert(b"x".to_vec(), b"value".to_vec());
    host.upstreams.push(b"x".to_vec());
    host.call_status = (7, b"reason".to_vec());
    let namespace = host.namespace();
    namespace.data().set(b"x", b"shared", 0).unwrap();
    let queue = namespace.queues().register("vm", b"x", Arc::new(|_| {}));
    namespace.queues().enqueue("vm", queue, b"first").unwrap();
    for kind in MetricKind::ALL {
        host.define_metric(*kind, b"x").unwrap();
    }
    let request = [(":method", "GET"), (":path", "/"), (":authority", "a")];
    guest.poke(PAIRS_AT, &encode(request.map(|(name, value)| (name.as_bytes(), value.as_bytes()))));
    guest.poke(NAME_AT, b"x");
    guest.poke(MEMORY - 1, b"x");
}

/// Returns a pointer at or next to a relevant address.
fn pointer(choices: &mut FuzzInput<'_>) -> u32 {
    const PLACES: [u32; 12] =
        [0, 16, 64, NAME_AT, PAIRS_AT, PAGE, MEMORY, MEMORY + PAGE, MAX_MEMORY, 1 << 31, u32::MAX, u32::MAX - 64];
    let place = choices.pick(&PLACES);
    let beside = choices.byte();
    match beside {
        0..128 => place.wrapping_add(u32::from(beside % 9)).wrapping_sub(4),
        128..240 => place,
        _ => choices.number(),
    }
}

fn length(choices: &mut FuzzInput<'_>, pointer: u32) -> u32 {
    match choices.below(12) {
        0 => 0,
        1 | 2 => 1,
        3 => 4,
        4 => MEMORY.wrapping_sub(pointer),
        5 => MEMORY.wrapping_sub(pointer).wrapping_add(1),
        6 => MEMORY,
        7 => u32::MAX,
        8 => 0_u32.wrapping_sub(pointer),
        9 => 1 << 31,
        10 => u32::from(choices.byte()),
        _ => choices.number(),
    }
}

/// Size of the list at [`PAIRS_AT`]: 4, three times 8, and the strings with their NULs.
const PAIRS_SIZE: u32 = 4 + 24 + 7 + 3 + 5 + 1 + 10 + 1 + 6;

/// Returns arguments that are valid or nearly valid. Some repeat an earlier one, so that ranges overlap.
fn arguments(signature: &HostcallSignature, choices: &mut FuzzInput<'_>) -> Vec<u64> {
    let mut arguments: Vec<u64> = Vec::new();
    for letter in signature.arguments.chars() {
        let style = choices.byte();
        let pointer = match arguments.len() {
            0 => pointer(choices),
            earlier if style.is_multiple_of(4) => {
                u32::try_from(arguments[choices.below(earlier)] & 0xffff_ffff).unwrap()
            }
            _ => pointer(choices),
        };
        match letter {
            'b' if style < 100 => arguments.extend([u64::from(NAME_AT), 1]),
            'm' if style < 150 => arguments.extend([u64::from(PAIRS_AT), u64::from(PAIRS_SIZE)]),
            'b' | 'm' => arguments.extend([pointer, length(choices, pointer)].map(u64::from)),
            'e' => arguments.push(u64::from(style % 10)),
            'n' if style < 160 => arguments.push(u64::from(style % 16)),
            'n' => arguments.push(u64::from(pointer)),
            'w' => arguments.push(u64::from(choices.number()).wrapping_sub(u64::from(style))),
            _ => arguments.push(u64::from(pointer)),
        }
    }
    arguments
}

/// Makes the call and compares the memory before and after. Returns a number for its outcome.
fn check(guest: &mut TestGuest, at: usize, arguments: &[u64]) -> u8 {
    let (row, signature) = hostcall(at);
    let before = guest.memory();
    let shown = guest.host.properties.clone();
    match guest.call(at, arguments) {
        Ok(outcome) => {
            if let Some(answer) = outcome.answer {
                assert!(signature.allows(row, answer), "{} {arguments:?} returned {answer}", row.name);
            }
            // The reported memory must not count as properties set by the call.
            guest.host.properties = shown;
            check_memory(guest, &before, &FinishedCall { signature, arguments, outcome });
            outcome.answer.unwrap_or(99).try_into().unwrap()
        }
        Err(failure) => {
            assert!(guest.vm.is_dead(), "{failure}");
            let expected = match row.name {
                "abort" => &[FailureKind::Trap][..],
                "proc_exit" => &[FailureKind::Exit],
                _ => &[FailureKind::Trap, FailureKind::AbiViolation, FailureKind::OutOfMemory],
            };
            assert!(expected.contains(&failure.kind), "{} {arguments:?}: {failure}", row.name);
            100 + failure.kind as u8
        }
    }
}

/// A hostcall that returned.
struct FinishedCall<'a> {
    signature: &'a HostcallSignature,
    arguments: &'a [u64],
    outcome: Outcome,
}

fn check_memory(guest: &mut TestGuest, before: &[u8], call: &FinishedCall<'_>) {
    let FinishedCall { signature, arguments, outcome } = call;
    assert!(outcome.allocations <= 1, "{}: one allocation is enough", signature.name);
    let after = guest.memory();
    assert!(before.len() <= after.len() && after.len() <= MAX_MEMORY as usize);
    let mut ranges = signature.writes(arguments);
    if outcome.allocations > 0 {
        ranges.push(u64::from(outcome.pointer)..u64::from(outcome.pointer) + u64::from(outcome.size));
    }
    // New memory is zero until it is written.
    let mut expected = before.to_vec();
    expected.resize(after.len(), 0);
    for range in ranges {
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap().min(after.len()));
        expected[start..end].copy_from_slice(&after[start..end]);
    }
    let changed = || expected.iter().zip(&after).position(|(old, new)| old != new);
    assert!(expected == after, "{} {arguments:?} changed the byte at {:?}", signature.name, changed());
}

#[test]
fn wasi_zeroes_exactly_the_result_type() {
    let rows: [(&str, &[u64], std::ops::Range<usize>); 4] = [
        ("fd_seek", &[1, 0, 0, 64], 64..72),
        ("fd_tell", &[1, 64], 64..72),
        ("sock_recv", &[3, 0, 0, 0, 64, 68], 64..70),
        ("poll_oneoff", &[0, 0, 0, 64], 64..68),
    ];
    for (name, arguments, zeroed) in rows {
        let mut guest = TestGuest::start();
        let mut expected = guest.memory();
        expected[zeroed].fill(0);
        guest.call(hostcall_index(name), arguments).unwrap();
        assert_eq!(guest.memory()[..128], expected[..128], "{name}");
    }
}
