//! What a callback wants done next. The VM reads the guest's number; the proxy acts on the enum.
//!
//! The specification knows 0 (continue) and 1 (pause); guests built with the C++ SDK return more, and all of them are
//! accepted.

/// What "pause" in a headers callback means for a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HeaderPause {
    /// Hold headers, body and trailers, as the specification says.
    #[default]
    HoldAll,
    /// Hold the headers but keep giving body to the plugin (Envoy's `allow_on_headers_stop_iteration`).
    HoldHeaders,
}

/// What to do after `proxy_on_request_headers` or `proxy_on_response_headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadersAction {
    /// Go on with the next filter.
    Continue,
    /// Hold headers, body and trailers, with back-pressure; no further callbacks of this direction until continued.
    HoldAll,
    /// Hold the headers only; body callbacks go on.
    HoldHeaders,
}

impl HeadersAction {
    /// Reads the guest's number; a plain pause (1) means what the plugin was configured to mean.
    #[must_use]
    pub const fn from_guest(number: u32, pause: HeaderPause) -> Self {
        match (number, pause) {
            (0 | 2, _) => Self::Continue,
            (1, HeaderPause::HoldHeaders) => Self::HoldHeaders,
            _ => Self::HoldAll,
        }
    }
}

/// What to do after a body callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyAction {
    /// Everything visible moves on.
    Continue,
    /// Keep everything; the next callback sees the whole of it.
    Buffer,
    /// Keep everything with back-pressure; the next callback sees only what is new.
    Hold,
    /// Drop the visible bytes; the next callback sees only what is new.
    Discard,
}

impl BodyAction {
    /// Reads the guest's number.
    #[must_use]
    pub const fn from_guest(number: u32) -> Self {
        match number {
            0 => Self::Continue,
            1 => Self::Buffer,
            2 => Self::Hold,
            _ => Self::Discard,
        }
    }
}

/// What to do after a trailers callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrailersAction {
    /// Go on with the next filter.
    Continue,
    /// Hold the trailers and what is still buffered.
    Pause,
}

impl TrailersAction {
    /// Reads the guest's number.
    #[must_use]
    pub const fn from_guest(number: u32) -> Self {
        match number {
            0 => Self::Continue,
            _ => Self::Pause,
        }
    }
}

/// What to do after a callback on a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionAction {
    /// The bytes move on.
    Continue,
    /// Hold this direction; the next callback sees everything held.
    Pause,
}

impl ConnectionAction {
    /// Reads the guest's number.
    #[must_use]
    pub const fn from_guest(number: u32) -> Self {
        match number {
            0 => Self::Continue,
            _ => Self::Pause,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_guest_number_has_its_meaning() {
        use HeaderPause as Pause;
        let headers = [
            (0, Pause::HoldAll, HeadersAction::Continue),
            (1, Pause::HoldAll, HeadersAction::HoldAll),
            (1, Pause::HoldHeaders, HeadersAction::HoldHeaders),
            (2, Pause::HoldHeaders, HeadersAction::Continue),
            (3, Pause::HoldHeaders, HeadersAction::HoldAll),
            (4, Pause::HoldHeaders, HeadersAction::HoldAll),
            (u32::MAX, Pause::HoldHeaders, HeadersAction::HoldAll),
        ];
        for (number, pause, expected) in headers {
            assert_eq!(HeadersAction::from_guest(number, pause), expected, "{number} {pause:?}");
        }
        let bodies = [
            (0, BodyAction::Continue),
            (1, BodyAction::Buffer),
            (2, BodyAction::Hold),
            (3, BodyAction::Discard),
            (9, BodyAction::Discard),
        ];
        for (number, expected) in bodies {
            assert_eq!(BodyAction::from_guest(number), expected, "{number}");
        }
        assert_eq!(TrailersAction::from_guest(7), TrailersAction::Pause);
        assert_eq!(ConnectionAction::from_guest(0), ConnectionAction::Continue);
    }
}
