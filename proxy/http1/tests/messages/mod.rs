//! Messages as the codec decodes them, and settings of a run: for the tests that compare the codec with another parser.

use bytes::BytesMut;
use http::{HeaderMap, Method, Version};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir_http1::{BodyDecoder, BodyEvent, HeadDecoder, Limits, Rejection};

/// Fields with names in lower case, in the order of a header map: those of one name stand together.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// The side of a connection that sends the bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sender<'a> {
    /// Requests.
    Client,
    /// Responses to requests with these methods, in turn. The last method stands for every later request.
    Server(&'a [Method]),
}

/// The first line of a message without its version (RFC 9112 §2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StartLine {
    Request { method: String, target: Vec<u8> },
    Response { status: u16, reason: Vec<u8> },
}

/// A complete message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) start: StartLine,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    pub(crate) keep_alive: bool,
}

impl Message {
    /// Returns true for a response with a 1xx status, after which another response to the same request follows.
    pub(crate) fn is_informational(&self) -> bool {
        matches!(self.start, StartLine::Response { status: 100..=199, .. })
    }
}

/// The complete messages on a connection, and the rejection that ended it; `Incomplete` if it ended within a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) messages: Vec<Message>,
    pub(crate) rejection: Option<Rejection>,
    /// The message that was rejected after its head.
    pub(crate) unfinished: Option<Message>,
}

/// Returns the fields of a header map, in its order.
pub(crate) fn fields(headers: &HeaderMap) -> Fields {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Returns fields in the order of a header map: each beside the first one of its name.
pub(crate) fn grouped(fields: Fields) -> Fields {
    let mut grouped = Fields::with_capacity(fields.len());
    for field in fields {
        let last = grouped.iter().rposition(|(name, _)| *name == field.0);
        grouped.insert(last.map_or(grouped.len(), |last| last + 1), field);
    }
    grouped
}

/// Returns the fields of a head as the codec has them: `host` of a request first, then those that do not concern the
/// connection (RFC 9110 §7.6.1), in the order of a header map.
pub(crate) fn end_to_end(start: &StartLine, mut fields: Fields) -> Fields {
    const CONNECTION: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "http2-settings"];
    let options = connection_options(&fields);
    let is_named = |name: &String| options.contains(name);
    let upgrades = is_named(&"upgrade".to_owned());
    fields.retain(|(name, _)| match name.as_str() {
        "upgrade" => upgrades,
        name if CONNECTION.contains(&name) => false,
        name => is_protected(name) || !is_named(&name.to_owned()),
    });
    let host = match start {
        StartLine::Request { .. } => fields.iter().position(|(name, _)| name == "host"),
        StartLine::Response { .. } => None,
    };
    let host = host.map(|host| fields.remove(host));
    host.into_iter().chain(grouped(fields)).collect()
}

/// Returns the elements of every `connection`, in lower case.
pub(crate) fn connection_options(fields: &Fields) -> Vec<String> {
    let values = fields.iter().filter(|(name, _)| name == "connection").map(|(_, value)| value);
    let elements = values.flat_map(|value| value.split(|byte| *byte == b','));
    elements.map(|element| String::from_utf8_lossy(element).trim_matches([' ', '\t']).to_ascii_lowercase()).collect()
}

/// Returns true for fields that `connection` cannot remove (`docs/http1.md`).
pub(crate) fn is_protected(name: &str) -> bool {
    const PROTECTED: [&str; 9] =
        ["host", "te", "expect", "forwarded", "via", "x-real-ip", "x-request-id", "authorization", "cookie"];
    name.starts_with("x-forwarded-") || name.starts_with("content-") || PROTECTED.contains(&name)
}

/// Decodes a connection whose bytes arrive in these pieces, and which then ends.
pub(crate) fn decode<'b>(sender: Sender<'_>, limits: Limits, pieces: impl IntoIterator<Item = &'b [u8]>) -> Decoded {
    let mut connection = Connection::new(sender, limits);
    let mut pieces = pieces.into_iter();
    let decoded = pieces.try_for_each(|piece| {
        connection.input.extend_from_slice(piece);
        connection.advance()
    });
    let rejection = decoded.and_then(|()| connection.end()).err();
    let unfinished = connection.current.map(|(message, _)| message);
    Decoded { messages: connection.messages, rejection, unfinished }
}

/// One direction of a connection, decoded as far as bytes are there.
struct Connection<'a> {
    sender: Sender<'a>,
    limits: Limits,
    input: BytesMut,
    heads: HeadDecoder,
    /// The message whose body is decoded.
    current: Option<(Message, BodyDecoder)>,
    messages: Vec<Message>,
    /// Number of final responses.
    answered: usize,
}

impl<'a> Connection<'a> {
    fn new(sender: Sender<'a>, limits: Limits) -> Self {
        let (input, heads) = (BytesMut::new(), HeadDecoder::new(limits));
        Self { sender, limits, input, heads, current: None, messages: Vec::new(), answered: 0 }
    }

    /// Decodes what is there.
    fn advance(&mut self) -> Result<(), Rejection> {
        loop {
            match &mut self.current {
                Some((message, body)) => match body.decode(&mut self.input)? {
                    Some(BodyEvent::Data(data)) => message.body.extend_from_slice(&data),
                    Some(BodyEvent::Trailers(trailers)) => message.trailers = fields(&trailers),
                    Some(BodyEvent::End) => self.complete(),
                    None => return Ok(()),
                },
                None => match self.decode_head()? {
                    Some(started) => self.current = Some(started),
                    None => return Ok(()),
                },
            }
        }
    }

    fn decode_head(&mut self) -> Result<Option<(Message, BodyDecoder)>, Rejection> {
        let (start, version, fields, body, keep_alive) = match self.sender {
            Sender::Client => {
                let Some(head) = self.heads.decode_request(&mut self.input)? else { return Ok(None) };
                let start = StartLine::Request { method: head.method.to_string(), target: head.target.to_vec() };
                let host = head.host.map(|host| ("host".to_owned(), host.as_bytes().to_vec()));
                let fields = host.into_iter().chain(fields(&head.headers)).collect();
                let body = BodyDecoder::new(head.body, self.limits).without_trailers(head.connection_fields);
                (start, head.version, fields, body, head.keep_alive)
            }
            Sender::Server(methods) => {
                let method = methods.get(self.answered).or(methods.last()).unwrap_or(&Method::GET);
                let Some(head) = self.heads.decode_response(&mut self.input, method)? else { return Ok(None) };
                let start = StartLine::Response { status: head.status.as_u16(), reason: head.reason.to_vec() };
                let body = BodyDecoder::new(head.body, self.limits).without_trailers(head.connection_fields);
                (start, head.version, fields(&head.headers), body, head.keep_alive)
            }
        };
        let message = Message { start, version, fields, body: Vec::new(), trailers: Fields::new(), keep_alive };
        Ok(Some((message, body)))
    }

    /// Ends the connection.
    fn end(&mut self) -> Result<(), Rejection> {
        match &mut self.current {
            Some((_, body)) => {
                body.decode_eof()?;
                self.complete();
                Ok(())
            }
            None if self.input.is_empty() => Ok(()),
            None => Err(Rejection::Incomplete),
        }
    }

    fn complete(&mut self) {
        let Some((message, _)) = self.current.take() else { return };
        self.answered += usize::from(!message.is_informational());
        self.messages.push(message);
    }
}

/// Returns the number of executions: `WEIR_FUZZ_EXECUTIONS`, or `default`.
pub(crate) fn executions(default: u64) -> u64 {
    setting("WEIR_FUZZ_EXECUTIONS").unwrap_or(default)
}

/// Returns the seed of a run, and prints it: `WEIR_SEED`, or a new one.
pub(crate) fn seed() -> u64 {
    let seed = setting("WEIR_SEED").unwrap_or_else(|| SmallRng::from_os_rng().random());
    println!("WEIR_SEED={seed}");
    seed
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
