//! The types of a case, as `corpus.rs` reads it and the other files use it.

use std::net::Ipv4Addr;
use std::path::PathBuf;

/// The two files of the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Odd requests of a client.
    Requests,
    /// Odd responses of an origin.
    Responses,
}

impl Kind {
    /// The name of the file, without its ending.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Responses => "responses",
        }
    }

    pub(crate) fn path(self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("http1_corpus").join(format!("{}.corpus", self.name()))
    }
}

/// The proxies whose outcomes a case has, in the order of their lines.
pub(crate) const PEERS: [&str; 3] = ["weir", "envoy", "nginx"];

/// A key of `why` or `todo`, and its text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) key: String,
    pub(crate) text: String,
}

/// One write of a client or an origin, or the end of its side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Bytes(Vec<u8>),
    Shut,
}

/// The origin's treatment of its connection after its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Open,
    Close,
    Reset,
}

/// The judgment of a case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judgment {
    /// No judgment: the outcomes agree.
    Agree,
    /// The key of the reason for outcomes that differ.
    Why(String),
    /// The key of the finding that makes Weir's outcome wrong.
    Finding(String),
}

/// A recorded outcome, and the index of its line in the file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// One case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) kind: Kind,
    /// The number of the case in its file, from 1.
    pub(crate) number: u16,
    pub(crate) name: String,
    /// The writes of the client, or of the origin.
    pub(crate) writes: Vec<Write>,
    /// The client's request, as writes. Empty for [`Kind::Requests`].
    pub(crate) request: Vec<Vec<u8>>,
    /// The methods of the client's requests, as far as they matter for the responses. The last one repeats.
    pub(crate) methods: Vec<&'static str>,
    pub(crate) is_early: bool,
    pub(crate) ending: Ending,
    /// Names of fields that the outcomes contain.
    pub(crate) show: Vec<String>,
    /// The outcomes of [`PEERS`].
    pub(crate) outcomes: [Outcome; 3],
    pub(crate) judgment: Judgment,
}

impl Case {
    /// The address from which the client of this case connects. The access log contains it.
    pub(crate) fn client(&self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        let network = if self.kind == Kind::Requests { 1 } else { 2 };
        Ipv4Addr::new(127, network, high, low)
    }

    /// Returns true if the outcomes differ, without their brackets.
    pub(crate) fn differs(&self) -> bool {
        let [weir, envoy, nginx] = &self.outcomes;
        let weir = without_brackets(&weir.text);
        weir != without_brackets(&envoy.text) || weir != without_brackets(&nginx.text)
    }
}

/// Removes ` [...]` from an outcome.
pub(crate) fn without_brackets(outcome: &str) -> String {
    let mut parts = outcome.split(" [");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((_, after)) => text.push_str(after),
            None => text.push_str(&format!(" [{part}")),
        }
    }
    text
}
