//! Target: pointers and lengths. Every hostcall with pointers at and around both ends of the memory, with lengths that
//! do not fit, with input and output that overlap, from a guest whose memory grows while it allocates. What is written
//! lies where the call may write, and nowhere else.

use std::sync::Arc;

use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::calls::HOSTCALLS;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::metric::MetricKind;
use weir_host_abi::abi::pairs::encode;
use weir_host_abi::{ContextId, FailureKind, Host};

use crate::calls::{Shape, hostcall, place};
use crate::choices::Choices;
use crate::puppet::{Allocator, MAX_MEMORY, MEMORY, Outcome, PAGE, Puppet};
use crate::run::{Sights, fuzz};

/// Where the guest keeps a header list and a name that mean something.
const PAIRS_AT: u32 = 1_024;
const NAME_AT: u32 = 2_048;

#[test]
fn pointers_and_lengths() {
    fuzz("pointers", |input| {
        let mut choices = Choices::new(input);
        let mut puppet = Puppet::start();
        furnish(&mut puppet);
        let mut sights = Sights::new();
        while !choices.is_empty() && !puppet.vm.is_dead() {
            let at = choices.below(HOSTCALLS.len());
            let (allocator, given) = (choices.pick(&Allocator::ALL), near(&mut choices));
            puppet.set_allocator(allocator, given);
            let arguments = arguments(hostcall(at).1, &mut choices);
            let kind = check(&mut puppet, at, &arguments);
            sights.insert([at.try_into().unwrap(), kind, allocator as u8, 0]);
        }
        sights
    });
}

/// Gives the host something to answer with, and the guest something to ask with.
fn furnish(puppet: &mut Puppet) {
    let host = &mut puppet.host;
    for map in MapKind::ALL {
        host.set_map(ContextId::ROOT, *map, &[("x", "y"), ("content-type", "text/plain")]);
    }
    for buffer in BufferKind::ALL {
        host.buffers.insert((ContextId::ROOT, *buffer), b"what is in the buffer".to_vec());
    }
    host.properties.insert(b"x".to_vec(), b"value".to_vec());
    host.upstreams.push(b"x".to_vec());
    host.call_status = (7, b"why".to_vec());
    let namespace = host.namespace();
    namespace.data().set(b"x", b"shared", 0).unwrap();
    let queue = namespace.queues().register("vm", b"x", Arc::new(|_| {}));
    namespace.queues().enqueue("vm", queue, b"first").unwrap();
    for kind in MetricKind::ALL {
        host.define_metric(*kind, b"x").unwrap();
    }
    let request = [(":method", "GET"), (":path", "/"), (":authority", "a")];
    puppet.poke(PAIRS_AT, &encode(request.map(|(name, value)| (name.as_bytes(), value.as_bytes()))));
    puppet.poke(NAME_AT, b"x");
    puppet.poke(MEMORY - 1, b"x");
}

/// A pointer at or beside something that matters.
fn near(choices: &mut Choices<'_>) -> u32 {
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

fn length(choices: &mut Choices<'_>, pointer: u32) -> u32 {
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

/// The length of the list at [`PAIRS_AT`]: 4, three times 8, and the texts with their NULs.
const PAIRS_SIZE: u32 = 4 + 24 + 7 + 3 + 5 + 1 + 10 + 1 + 6;

/// Arguments that are right, or not quite; some are what an earlier one was, so that ranges overlap.
fn arguments(shape: &Shape, choices: &mut Choices<'_>) -> Vec<u64> {
    let mut arguments: Vec<u64> = Vec::new();
    for letter in shape.arguments.chars() {
        let style = choices.byte();
        let pointer = match arguments.len() {
            0 => near(choices),
            earlier if style.is_multiple_of(4) => {
                u32::try_from(arguments[choices.below(earlier)] & 0xffff_ffff).unwrap()
            }
            _ => near(choices),
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

/// Makes the call and compares the memory before and after. A number for what became of it.
fn check(puppet: &mut Puppet, at: usize, arguments: &[u64]) -> u8 {
    let (row, shape) = hostcall(at);
    let before = puppet.memory();
    let shown = puppet.host.properties.clone();
    match puppet.call(at, arguments) {
        Ok(outcome) => {
            if let Some(answer) = outcome.answer {
                assert!(shape.allows(row, answer), "{} {arguments:?} answered {answer}", row.name);
            }
            // What is shown would be taken for what was set.
            puppet.host.properties = shown;
            check_memory(puppet, (&before, &outcome), (shape, arguments));
            outcome.answer.unwrap_or(99).try_into().unwrap()
        }
        Err(failure) => {
            assert!(puppet.vm.is_dead(), "{failure}");
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

fn check_memory(puppet: &mut Puppet, (before, outcome): (&[u8], &Outcome), (shape, arguments): (&Shape, &[u64])) {
    assert!(outcome.allocations <= 1, "{}: one allocation is enough", shape.name);
    let after = puppet.memory();
    assert!(before.len() <= after.len() && after.len() <= MAX_MEMORY as usize);
    let mut ranges = shape.writes(arguments);
    if outcome.allocations > 0 {
        ranges.push(u64::from(outcome.pointer)..u64::from(outcome.pointer) + u64::from(outcome.size));
    }
    // Memory that has grown is zero until somebody writes there.
    let mut expected = before.to_vec();
    expected.resize(after.len(), 0);
    for range in ranges {
        let [start, end] = [range.start, range.end].map(|at| usize::try_from(at).unwrap().min(after.len()));
        expected[start..end].copy_from_slice(&after[start..end]);
    }
    let changed = || expected.iter().zip(&after).position(|(old, new)| old != new);
    assert!(expected == after, "{} {arguments:?} changed the byte at {:?}", shape.name, changed());
}

#[test]
fn what_wasi_zeroes_is_as_long_as_its_type() {
    let rows: [(&str, &[u64], std::ops::Range<usize>); 4] = [
        ("fd_seek", &[1, 0, 0, 64], 64..72),
        ("fd_tell", &[1, 64], 64..72),
        ("sock_recv", &[3, 0, 0, 0, 64, 68], 64..70),
        ("poll_oneoff", &[0, 0, 0, 64], 64..68),
    ];
    for (name, arguments, zeroed) in rows {
        let mut puppet = Puppet::start();
        let mut expected = puppet.memory();
        expected[zeroed].fill(0);
        puppet.call(place(name), arguments).unwrap();
        assert_eq!(puppet.memory()[..128], expected[..128], "{name}");
    }
}
