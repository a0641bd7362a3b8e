//! W3C Trace Context: parsing, propagation, sampling, and distinct ids.

use std::collections::HashSet;

use weir_plugin_telemetry::ids::IdSource;
use weir_plugin_telemetry::trace::{Sampler, TraceParent, next_span, parse, trace_id_text};

const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;

/// Returns the flags of a `traceparent`, or `None` if it is invalid.
fn flags(value: &str) -> Option<u8> {
    parse(value.as_bytes()).map(|TraceParent { trace_id, flags }| {
        assert_eq!(trace_id, TRACE, "{value}");
        flags
    })
}

#[test]
fn traceparent_is_parsed() {
    let rows = [
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some(1)),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(0)),
        // Flags of level 2 are propagated, unknown ones are not.
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02", Some(2)),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03", Some(3)),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff", Some(3)),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fc", Some(0)),
        // Higher versions: the same beginning, then nothing or a dash and anything.
        ("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some(1)),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-the-future", Some(1)),
        ("fe-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", Some(1)),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.what", None),
        ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0", None),
        ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        // Version 00 ends after its flags.
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-010", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ", None),
        // All zero.
        ("00-00000000000000000000000000000000-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None),
        // Digits: lower case only, hexadecimal only, in each part.
        ("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-B7AD6B7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333+-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0G", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0A", None),
        ("0g-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("FE-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        // Dashes and lengths.
        ("00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331_01", None),
        ("00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c0-b7ad6b716920333-01", None),
        ("0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-001", None),
        (" 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
        ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None),
        ("0af7651916cd43dd8448eb211c80319c", None),
        ("00", None),
        ("", None),
        // Two values, joined.
        (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01,\
             00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            None,
        ),
        (
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x,\
             00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            None,
        ),
    ];
    for (value, expected) in rows {
        assert_eq!(flags(value), expected, "{value}");
    }
    assert_eq!(parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-\xff1"), None);
}

#[test]
fn trace_continues_with_a_new_parent() {
    let mut ids = IdSource::default();
    for (flags, sampler) in [("00", Sampler::with_ratio(1.0)), ("01", Sampler::with_ratio(0.0))] {
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let mut seen = HashSet::from([parent.clone()]);
        for _ in 0..100 {
            let span = next_span(Some(parent.as_bytes()), sampler, &mut ids);
            assert!(!span.is_new_trace);
            let traceparent = span.traceparent();
            assert_eq!(trace_id_text(&traceparent), b"0af7651916cd43dd8448eb211c80319c");
            let text = String::from_utf8(traceparent.to_vec()).unwrap();
            assert!(text.ends_with(&format!("-{flags}")) && parse(&traceparent).is_some(), "{text}");
            assert!(seen.insert(text), "each hop has an id of its own");
        }
    }
}

#[test]
fn trace_begins_without_a_parent() {
    let mut ids = IdSource::default();
    for (parent, ratio, flags) in [(None, 1.0, 1), (None, 0.0, 0), (Some(b"00-x".as_slice()), 1.0, 1)] {
        let span = next_span(parent, Sampler::with_ratio(ratio), &mut ids);
        assert_eq!((span.is_new_trace, span.flags), (true, flags));
        assert_eq!(parse(&span.traceparent()), Some(TraceParent { trace_id: span.trace_id, flags }));
    }
}

#[test]
fn sampling_depends_on_the_trace_id_only() {
    let half = Sampler::with_ratio(0.5);
    assert!(half.samples(0x0080_0000_0000_0000) && !half.samples(0x007f_ffff_ffff_ffff));
    assert!(half.samples(0x0180_0000_0000_0000), "bits above the last 56 do not count");
    for (ratio, expected) in [(-1.0, 0), (0.0, 0), (0.01, 100), (0.25, 2_500), (1.0, 10_000), (7.0, 10_000)] {
        let (mut ids, sampler) = (IdSource::default(), Sampler::with_ratio(ratio));
        ids.absorb(b"4bf92f35-77b3-4da6-a3ce-929d0e0e4736", 1);
        let sampled = (0..10_000).filter(|_| sampler.samples(ids.trace_id())).count();
        assert!(sampled.abs_diff(expected) <= expected.min(10_000 - expected) / 5, "{ratio}: {sampled}");
    }
    assert!(!Sampler::with_ratio(0.0).samples(u128::MAX) && Sampler::with_ratio(1.0).samples(0));
}

#[test]
fn ids_are_distinct() {
    let mut seen = HashSet::new();
    // VMs that differ in one bit of the time, or in the id of one request.
    for (id, time) in [(b"a".as_slice(), 1), (b"a", 2), (b"b", 1), (b"", 1), (b"a\0", 1), (b"aaaaaaaaaaaaaaaa", 1)] {
        let mut ids = IdSource::default();
        ids.absorb(id, time);
        for _ in 0..10_000 {
            let trace_id = ids.trace_id();
            assert!(seen.insert(trace_id), "{id:?} {time}");
            assert!(seen.insert(u128::from(ids.span_id())), "{id:?} {time}");
            assert!((30..=98).contains(&trace_id.count_ones()), "{trace_id:032x}");
        }
    }
    let mut ids = IdSource::default();
    let absorbed = (0..1_000).take_while(|_| ids.needs_seed()).map(|time| ids_absorb(&mut IdSource::default(), time));
    assert_eq!(absorbed.count(), 1_000, "reading changes nothing");
    let mut count = 0;
    while ids.needs_seed() {
        count = ids_absorb(&mut ids, count);
    }
    assert_eq!(count, 16);
}

fn ids_absorb(ids: &mut IdSource, time: u64) -> u64 {
    ids.absorb(b"", time);
    time + 1
}
