//! The files of the corpus: definitions, and cases with their recorded outcomes. The head of each file documents its
//! keys.

use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::case::{Case, Definition, Kind};
use crate::draft::Draft;

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
    use crate::case::{Ending, Judgment, Write, without_brackets};

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
