//! The files of the corpus: definitions, and cases with their recorded outcomes. The head of each file documents its
//! keys.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::draft::Draft;

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

    fn path(self) -> PathBuf {
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

/// One file of the corpus.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) kind: Kind,
    pub(crate) reasons: Vec<Definition>,
    pub(crate) findings: Vec<Definition>,
    pub(crate) cases: Vec<Arc<Case>>,
    lines: Vec<String>,
}

/// A line of the file that a run replaces.
#[derive(Debug)]
pub(crate) struct NewLine {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Corpus {
    /// Reads a file. Panics if it is not valid.
    pub(crate) fn read(kind: Kind) -> Self {
        let path = kind.path();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(kind, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Parses a file. The error has the number of a line.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        let lines = text.lines().map(str::to_owned).collect();
        let mut corpus = Self { kind, reasons: Vec::new(), findings: Vec::new(), cases: Vec::new(), lines };
        let mut draft: Option<Draft> = None;
        for (index, line) in text.lines().enumerate() {
            let at_line = |error: String| format!("line {}: {error}", index + 1);
            if line.is_empty() {
                corpus.finish(draft.take()).map_err(at_line)?;
            } else if !line.starts_with('#') {
                corpus.read_line(&mut draft, index).map_err(at_line)?;
            }
        }
        corpus.finish(draft)?;
        Ok(corpus)
    }

    fn read_line(&mut self, draft: &mut Option<Draft>, index: usize) -> Result<(), String> {
        let line = self.lines[index].as_str();
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        match (key, draft.as_mut()) {
            ("reason", None) => self.reasons.push(definition(value)?),
            ("finding", None) => self.findings.push(definition(value)?),
            ("case", None) => *draft = Some(Draft::new(value)),
            (_, Some(draft)) => draft.read_line(key, value, index)?,
            _ => return Err(format!("{key} outside a case")),
        }
        Ok(())
    }

    fn finish(&mut self, draft: Option<Draft>) -> Result<(), String> {
        let Some(draft) = draft else { return Ok(()) };
        if self.cases.iter().any(|case| case.name == draft.name) {
            return Err(format!("{} exists twice", draft.name));
        }
        let number = u16::try_from(self.cases.len() + 1).map_err(|error| error.to_string())?;
        self.cases.push(Arc::new(draft.finish(self.kind, number)?));
        Ok(())
    }

    /// Replaces lines of the file.
    pub(crate) fn rewrite(mut self, replaced: Vec<NewLine>) {
        for NewLine { line, text } in replaced {
            self.lines[line] = text;
        }
        let path = self.kind.path();
        fs::write(&path, self.lines.join("\n") + "\n").unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn definition(value: &str) -> Result<Definition, String> {
    let (key, text) = value.split_once(' ').ok_or_else(|| format!("{value} has no text"))?;
    Ok(Definition { key: key.to_owned(), text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: &str = "# A comment.\n\nreason bare-lf Weir rejects it.\nfinding via No Via.\n\n# A section\n\n\
         case one\nref RFC\nsend HEAD / HTTP/1.1\\r\\n\nmore \\r\\n\nshut\nsend {2*a}\nshow host via\n\
         weir 400 [detail: a cause] closed\nenvoy 400 closed\nnginx 200 | HEAD / 0 open\nwhy bare-lf\n\n\
         case two\nref RFC\nsend x\nweir 400 [a] closed\nenvoy 400 closed\nnginx 400 closed\n";

    #[test]
    fn file_of_requests_has_definitions_and_cases() {
        let corpus = Corpus::parse(Kind::Requests, REQUESTS).unwrap();
        let definition = |key: &str, text: &str| Definition { key: key.to_owned(), text: text.to_owned() };
        assert_eq!(corpus.reasons, [definition("bare-lf", "Weir rejects it.")]);
        assert_eq!(corpus.findings, [definition("via", "No Via.")]);
        let [one, two] = corpus.cases.as_slice() else { panic!("{:?}", corpus.cases) };
        let head = Write::Bytes(b"HEAD / HTTP/1.1\r\n\r\n".to_vec());
        assert_eq!(one.writes, [head, Write::Shut, Write::Bytes(b"aa".to_vec())]);
        assert_eq!(
            (one.methods.as_slice(), one.show.as_slice()),
            (&["HEAD", "GET"][..], &["host".to_owned(), "via".to_owned()][..])
        );
        assert_eq!(one.outcomes[1].text, "400 closed");
        assert_eq!(corpus.lines[one.outcomes[1].line], "envoy 400 closed");
        assert_eq!((one.judgment == Judgment::Why("bare-lf".to_owned()), one.differs()), (true, true));
        assert_eq!((two.judgment == Judgment::Agree, two.differs(), two.number), (true, false, 2));
        assert_eq!(two.client(), Ipv4Addr::new(127, 1, 0, 2));
    }

    #[test]
    fn file_of_responses_has_the_request_of_each_case() {
        let text = "case one\nref RFC\nrequest POST HTTP/1.0 +12\nearly\nsend HTTP/1.1 200 OK\\r\\n\\r\\n\nreset\n\
                    weir - then open\nenvoy - then open\nnginx - then open\ntodo via\n";
        let corpus = Corpus::parse(Kind::Responses, text).unwrap();
        let case = &corpus.cases[0];
        let head = "POST /first HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 12\r\n\r\nxxxxxxxxxx";
        assert_eq!(case.request, [head.as_bytes(), b"xx"]);
        assert_eq!((case.is_early, case.ending, case.methods.as_slice()), (true, Ending::Reset, &["POST"][..]));
        assert_eq!(case.judgment, Judgment::Finding("via".to_owned()));
        assert_eq!(case.client(), Ipv4Addr::new(127, 2, 0, 1));
    }

    #[test]
    fn invalid_file_is_rejected_with_its_line() {
        let rows = [
            ("send x", "line 1: send outside a case"),
            ("case a\nref r\ncolor red\n", "line 3: there is no key color"),
            ("case a\nref r\nsend x\nweir 1\nenvoy 1\n\n", "line 6: a has no outcome of nginx"),
            ("case a\nref r\nsend {x\nweir 1\nenvoy 1\nnginx 1\n\n", "line 7: neither an escape"),
            ("reason a", "line 1: a has no text"),
        ];
        for (text, expected) in rows {
            let error = Corpus::parse(Kind::Requests, text).unwrap_err();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn brackets_are_removed_with_their_space() {
        assert_eq!(without_brackets("400 [a: b] [c] closed"), "400 closed");
        assert_eq!(without_brackets("200 | GET / 0 host=[::1] open"), "200 | GET / 0 host=[::1] open");
    }
}
