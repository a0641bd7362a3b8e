//! The actions that callbacks return. The VM converts the guest's number; the proxy acts on the enum.
//!
//! The specification defines 0 (continue) and 1 (pause). Guests built with the C++ SDK return further numbers, and all
//! of them are accepted.

/// The meaning of action 1 (pause) in a headers callback of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HeaderPause {
    /// Pause headers, body and trailers, as in the specification.
    #[default]
    All,
    /// Pause the headers, but continue the plugin's body callbacks (Envoy's `allow_on_headers_stop_iteration`).
    HeadersOnly,
}

/// The action of `proxy_on_request_headers` or `proxy_on_response_headers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadersAction {
    /// Continue with the next filter.
    Continue,
    /// Pause headers, body and trailers, with backpressure. This direction has no further callbacks until resumed.
    PauseAll,
    /// Pause the headers only; body callbacks continue.
    PauseHeaders,
}

impl HeadersAction {
    /// Converts the guest's number. 1 has the meaning that the plugin is configured with.
    #[must_use]
    pub const fn from_guest(number: u32, pause: HeaderPause) -> Self {
        match (number, pause) {
            (0 | 2, _) => Self::Continue,
            (1, HeaderPause::HeadersOnly) => Self::PauseHeaders,
            _ => Self::PauseAll,
        }
    }
}

/// The action of a body callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyAction {
    /// Forward the visible data.
    Continue,
    /// Buffer the visible data. The next callback sees all of it.
    Buffer,
    /// Buffer the visible data with backpressure. The next callback sees only new data (Envoy's
    /// `StopIterationAndWatermark`).
    Watermark,
    /// Drop the visible data. The next callback sees only new data.
    Discard,
}

impl BodyAction {
    /// Converts the guest's number.
    #[must_use]
    pub const fn from_guest(number: u32) -> Self {
        match number {
            0 => Self::Continue,
            1 => Self::Buffer,
            2 => Self::Watermark,
            _ => Self::Discard,
        }
    }
}

/// The action of a trailers callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrailersAction {
    /// Continue with the next filter.
    Continue,
    /// Pause the trailers and the buffered data.
    Pause,
}

impl TrailersAction {
    /// Converts the guest's number.
    #[must_use]
    pub const fn from_guest(number: u32) -> Self {
        match number {
            0 => Self::Continue,
            _ => Self::Pause,
        }
    }
}

/// The action of a callback on a TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionAction {
    /// Forward the data.
    Continue,
    /// Pause this direction. The next callback sees all buffered data.
    Pause,
}

impl ConnectionAction {
    /// Converts the guest's number.
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
    fn guest_numbers_map_to_actions() {
        use HeaderPause as Pause;
        let headers = [
            (0, Pause::All, HeadersAction::Continue),
            (1, Pause::All, HeadersAction::PauseAll),
            (1, Pause::HeadersOnly, HeadersAction::PauseHeaders),
            (2, Pause::HeadersOnly, HeadersAction::Continue),
            (3, Pause::HeadersOnly, HeadersAction::PauseAll),
            (4, Pause::HeadersOnly, HeadersAction::PauseAll),
            (u32::MAX, Pause::HeadersOnly, HeadersAction::PauseAll),
        ];
        for (number, pause, expected) in headers {
            assert_eq!(HeadersAction::from_guest(number, pause), expected, "{number} {pause:?}");
        }
        let bodies = [
            (0, BodyAction::Continue),
            (1, BodyAction::Buffer),
            (2, BodyAction::Watermark),
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
