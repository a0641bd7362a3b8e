//! W3C Trace Context: parses the `traceparent` of the downstream, and computes the one for the upstream.
//!
//! ```text
//!  00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
//!  version      trace id                 parent id     flags
//! ```
//!
//! References are to the recommendation of 23 November 2021 (<https://www.w3.org/TR/trace-context-1/>).

use crate::ids::IdSource;

/// The flag of a trace that the caller has recorded, or requests to record.
const SAMPLED: u8 = 0b01;

/// The flag of level 2: the last seven bytes of the trace id are random. It is propagated with the id.
const RANDOM: u8 = 0b10;

/// The number of bits of a trace id that sampling uses: the last seven bytes, as in level 2 and OpenTelemetry.
const SAMPLED_BITS: u32 = 56;

/// The length of a `traceparent` of version 00.
pub const LENGTH: usize = 55;

/// A parsed `traceparent`, without the parent id, which is not propagated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace id, which is not zero.
    pub trace_id: u128,
    /// The known flags.
    pub flags: u8,
}

/// Parses a header's value. Returns `None` if it is invalid, or has several values joined by commas.
pub fn parse(value: &[u8]) -> Option<TraceParent> {
    // §3.2.4: a higher version adds fields after the flags, which begin with a dash.
    let (known, more) = value.split_at_checked(LENGTH)?;
    let [b0, b1, b'-', rest @ ..] = known else { return None };
    let version = hex(&[*b0, *b1])?;
    let is_higher = (1..=254).contains(&version);
    let is_tail_legal = more.is_empty() || (is_higher && more[0] == b'-' && !more.contains(&b','));
    if version == 255 || !is_tail_legal {
        return None;
    }
    let (trace_id, rest) = rest.split_at_checked(32)?;
    let (parent_id, rest) = rest.strip_prefix(b"-")?.split_at_checked(16)?;
    let flags = rest.strip_prefix(b"-")?;
    // §3.2.2.3 and §3.2.2.4: all zeroes are invalid.
    let trace_id = hex(trace_id).filter(|id| *id != 0)?;
    hex(parent_id).filter(|id| *id != 0)?;
    let [.., flags] = hex(flags)?.to_be_bytes();
    Some(TraceParent { trace_id, flags: flags & (SAMPLED | RANDOM) })
}

/// Parses hexadecimal digits in lower case only (§3.2.2, HEXDIGLC).
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// The sampler of new traces. Proxies with the same ratio sample the same traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampler {
    /// The smallest value of the last 56 bits of a trace id that is sampled.
    threshold: u64,
}

impl Sampler {
    /// Creates a sampler of this ratio, limited to the range from 0 to 1.
    #[expect(clippy::cast_possible_truncation, reason = "from 0 to 2^56, which both kinds of number hold")]
    pub fn with_ratio(ratio: f64) -> Self {
        let all = (1_u64 << SAMPLED_BITS) as f64;
        Self { threshold: ((1.0 - ratio.clamp(0.0, 1.0)) * all) as u64 }
    }

    /// Returns whether a trace is sampled.
    pub fn samples(self, trace_id: u128) -> bool {
        let [_, _, _, _, _, _, _, _, _, last @ ..] = trace_id.to_be_bytes();
        let random = last.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        random >= self.threshold
    }
}

/// The trace context for the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The trace id.
    pub trace_id: u128,
    /// The id of this hop, which is the parent id of the upstream.
    pub span_id: u64,
    /// The flags.
    pub flags: u8,
    /// True if the trace begins here. A `tracestate` of the downstream then belongs to another trace.
    pub is_new_trace: bool,
}

/// Continues the trace of a `traceparent`. Begins a new trace if it is absent or invalid.
pub fn next_span(traceparent: Option<&[u8]>, sampler: Sampler, ids: &mut IdSource) -> Span {
    match traceparent.and_then(parse) {
        Some(TraceParent { trace_id, flags }) => Span { trace_id, span_id: ids.span_id(), flags, is_new_trace: false },
        None => {
            let trace_id = ids.trace_id();
            let flags = if sampler.samples(trace_id) { SAMPLED } else { 0 };
            Span { trace_id, span_id: ids.span_id(), flags, is_new_trace: true }
        }
    }
}

impl Span {
    /// Returns the header's value in version 00.
    pub fn traceparent(&self) -> [u8; LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace_id.to_be_bytes(), &mut text[3..35]);
        write_hex(&self.span_id.to_be_bytes(), &mut text[36..52]);
        write_hex(&[self.flags], &mut text[53..]);
        text
    }
}

/// Returns the trace id in a [`Span::traceparent`].
pub fn trace_id_text(traceparent: &[u8; LENGTH]) -> &[u8] {
    &traceparent[3..35]
}

fn write_hex(bytes: &[u8], to: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, digits) in bytes.iter().zip(to.chunks_exact_mut(2)) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 0xf)];
    }
}
