//! A case while its lines are read. Keys with text are parsed when the case is complete, because `more` continues the
//! text of `send`.

use crate::case::{Case, Ending, Judgment, Kind, Outcome, PEERS, Write};
use crate::notation::unescape;

/// The number of bytes of a request's body that are in one write with its head.
const BODY_IN_FIRST_WRITE: usize = 10;

/// The methods that requests of a case have.
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "PUT"];

/// The lines of one case so far.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) name: String,
    /// The texts of writes; `None` for the end of the client's side.
    writes: Vec<Option<String>>,
    request: Option<String>,
    is_early: bool,
    ending: Option<Ending>,
    show: Vec<String>,
    outcomes: [Option<Outcome>; 3],
    judgment: Option<Judgment>,
}

impl Draft {
    /// Returns a case without lines.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Reads one line; `index` is its place in the file.
    pub(crate) fn read_line(&mut self, key: &str, value: &str, index: usize) -> Result<(), String> {
        match key {
            "ref" => {}
            "send" => self.writes.push(Some(value.to_owned())),
            "more" => match self.writes.last_mut() {
                Some(Some(text)) => text.push_str(value),
                _ => return Err("more without a send above".to_owned()),
            },
            "shut" => self.writes.push(None),
            "request" => self.request = Some(value.to_owned()),
            "early" => self.is_early = true,
            "close" => self.ending = Some(Ending::Close),
            "reset" => self.ending = Some(Ending::Reset),
            "show" => self.show = value.split(' ').map(str::to_owned).collect(),
            "why" => self.judgment = Some(Judgment::Why(value.to_owned())),
            "todo" => self.judgment = Some(Judgment::Finding(value.to_owned())),
            _ => {
                let peer = PEERS.iter().position(|peer| *peer == key);
                let peer = peer.ok_or_else(|| format!("there is no key {key}"))?;
                self.outcomes[peer] = Some(Outcome { line: index, text: value.to_owned() });
            }
        }
        Ok(())
    }

    /// Returns the case. Errors when a line is missing or not valid.
    pub(crate) fn finish(self, kind: Kind, number: u16) -> Result<Case, String> {
        let write = |text: Option<String>| match text {
            Some(text) => unescape(&text).map(Write::Bytes),
            None => Ok(Write::Shut),
        };
        let writes: Vec<Write> = self.writes.into_iter().map(write).collect::<Result<_, _>>()?;
        let [weir, envoy, nginx] = self.outcomes;
        let (name, missing) = (&self.name, |peer: &str| format!("{} has no outcome of {peer}", self.name));
        let outcomes = [
            weir.ok_or_else(|| missing("weir"))?,
            envoy.ok_or_else(|| missing("envoy"))?,
            nginx.ok_or_else(|| missing("nginx"))?,
        ];
        let (request, methods) = match kind {
            Kind::Requests => (Vec::new(), sent_methods(&writes)),
            Kind::Responses => {
                let spec = RequestSpec::parse(self.request.as_deref().unwrap_or("GET"))?;
                (spec.writes(), vec![spec.method])
            }
        };
        Ok(Case {
            kind,
            number,
            name: name.clone(),
            writes,
            request,
            methods,
            is_early: self.is_early,
            ending: self.ending.unwrap_or(Ending::Open),
            show: self.show,
            outcomes,
            judgment: self.judgment.unwrap_or(Judgment::Agree),
        })
    }
}

/// Returns the methods of a client's requests, as far as they change the responses: only `HEAD` does.
fn sent_methods(writes: &[Write]) -> Vec<&'static str> {
    let first = match writes.first() {
        Some(Write::Bytes(bytes)) => bytes.as_slice(),
        _ => b"",
    };
    let start = first.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(first.len());
    if first[start..].starts_with(b"HEAD ") { vec!["HEAD", "GET"] } else { vec!["GET"] }
}

/// The request of a case of responses: `METHOD [HTTP/1.0] [+BYTES]`.
struct RequestSpec {
    method: &'static str,
    is_http10: bool,
    body: Option<usize>,
}

impl RequestSpec {
    fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split(' ');
        let first = words.next().unwrap_or_default();
        let method = METHODS.into_iter().find(|method| *method == first);
        let method = method.ok_or_else(|| format!("the method of {text} is not one of {METHODS:?}"))?;
        let mut spec = Self { method, is_http10: false, body: None };
        for word in words {
            match (word, word.strip_prefix('+').map(str::parse)) {
                ("HTTP/1.0", _) => spec.is_http10 = true,
                (_, Some(Ok(length))) => spec.body = Some(length),
                _ => return Err(format!("{word} is no part of a request")),
            }
        }
        Ok(spec)
    }

    fn writes(&self) -> Vec<Vec<u8>> {
        let (version, keep_alive) =
            if self.is_http10 { ("HTTP/1.0", "Connection: keep-alive\r\n") } else { ("HTTP/1.1", "") };
        let length = self.body.map(|length| format!("Content-Length: {length}\r\n")).unwrap_or_default();
        let mut first = format!("{} /first {version}\r\nHost: a\r\n{keep_alive}{length}\r\n", self.method).into_bytes();
        let body = self.body.unwrap_or(0);
        first.extend(b"x".repeat(body.min(BODY_IN_FIRST_WRITE)));
        let mut writes = vec![first];
        if body > BODY_IN_FIRST_WRITE {
            writes.push(b"x".repeat(body - BODY_IN_FIRST_WRITE));
        }
        writes
    }
}
