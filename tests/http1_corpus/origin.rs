//! The origin of one lane. It records every message with the strict parser, and answers as the current case wants.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::case::{Case, Ending, Kind, Write};
use crate::strict::{Message, OriginParser};

/// The pause between two writes, so that a peer reads them one by one.
pub(crate) const PAUSE: Duration = Duration::from_millis(15);

/// The time between the last write and a close, so that both are not in one segment.
const BEFORE_CLOSE: Duration = Duration::from_millis(2);

/// The time in which a proxy ends its connections to the origin after a downstream has closed.
const SETTLING: Duration = Duration::from_millis(40);

/// The longest wait for the end of a message that a proxy has begun.
const LONGEST_SETTLING: Duration = Duration::from_secs(1);

/// The time in which a proxy sees that the origin has closed its idle connections.
const AFTER_CLOSE: Duration = Duration::from_millis(20);

/// The target of the second request of a case of responses.
pub(crate) const SECOND: &[u8] = b"/second";

const FIXED: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const FIXED_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
const SECOND_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";

/// A recording origin. Dropping it closes its listener and its connections.
pub(crate) struct LaneOrigin {
    address: SocketAddr,
    recording: Arc<Mutex<Recording>>,
    _accepting: JoinSet<()>,
}

/// The current case, and its messages so far.
#[derive(Default)]
struct Recording {
    case: Option<Arc<Case>>,
    messages: Vec<Message>,
    /// The numbers of connections that are within a message.
    unfinished: BTreeSet<u64>,
    connections: JoinSet<()>,
    connection_count: u64,
}

impl LaneOrigin {
    /// Starts an origin on a free port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let recording = Arc::<Mutex<Recording>>::default();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&recording)));
        Self { address, recording, _accepting: accepting }
    }

    /// Returns its address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins a case.
    pub(crate) fn begin(&self, case: &Arc<Case>) {
        let mut recording = self.recording.lock();
        recording.case = Some(Arc::clone(case));
        recording.messages.clear();
        recording.unfinished.clear();
    }

    /// Ends the case, and closes all connections. Returns the messages of the case in the order of their ends.
    pub(crate) async fn finish(&self) -> Vec<Message> {
        sleep(SETTLING).await;
        let deadline = Instant::now() + LONGEST_SETTLING;
        while self.is_within_message() && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        let (messages, mut connections) = {
            let mut recording = self.recording.lock();
            recording.case = None;
            (std::mem::take(&mut recording.messages), std::mem::take(&mut recording.connections))
        };
        connections.shutdown().await;
        sleep(AFTER_CLOSE).await;
        messages
    }

    fn is_within_message(&self) -> bool {
        let recording = self.recording.lock();
        let is_request = recording.case.as_ref().is_some_and(|case| case.kind == Kind::Requests);
        is_request && !recording.unfinished.is_empty()
    }
}

async fn accept(listener: TcpListener, recording: Arc<Mutex<Recording>>) {
    while let Ok((socket, _)) = listener.accept().await {
        let mut current = recording.lock();
        current.connection_count += 1;
        let connection = Connection {
            id: current.connection_count,
            case: current.case.clone(),
            parser: OriginParser::default(),
            is_continued: false,
            recording: Arc::clone(&recording),
        };
        current.connections.spawn(connection.serve(socket));
    }
}

/// The further treatment of a connection.
#[derive(PartialEq, Eq)]
enum Next {
    Read,
    Close,
}

/// One connection of a proxy.
struct Connection {
    id: u64,
    /// The case in which the connection began.
    case: Option<Arc<Case>>,
    parser: OriginParser,
    /// True if the current message was sent `100 Continue`.
    is_continued: bool,
    recording: Arc<Mutex<Recording>>,
}

impl Connection {
    async fn serve(mut self, mut socket: TcpStream) {
        socket.set_nodelay(true).ok();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = socket.read(&mut buffer).await {
            self.parser.feed(&buffer[..length]);
            let next = self.answer_messages(&mut socket).await;
            if !matches!(next, Ok(Next::Read)) || self.send_continue(&mut socket).await.is_err() {
                break;
            }
            self.update_unfinished();
        }
        let id = self.id;
        let mut recording = self.recording.lock();
        recording.unfinished.remove(&id);
        let is_current = match (&recording.case, &self.case) {
            (Some(current), Some(own)) => Arc::ptr_eq(current, own),
            _ => false,
        };
        let is_recorded = is_current && self.case.as_ref().is_some_and(|case| case.kind == Kind::Requests);
        if let Some(mut message) = self.parser.finish().filter(|_| is_recorded) {
            message.connection = id;
            recording.messages.push(message);
        }
    }

    /// Asks for the body of a message that expects it.
    async fn send_continue(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        let is_request = self.case.as_ref().is_some_and(|case| case.kind == Kind::Requests);
        let expects = self.parser.begun().is_some_and(|message| !message.values("expect").is_empty());
        if expects && is_request && !self.is_continued {
            socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        self.is_continued = expects;
        Ok(())
    }

    fn update_unfinished(&self) {
        let mut recording = self.recording.lock();
        if self.parser.is_within_message() {
            recording.unfinished.insert(self.id);
        } else {
            recording.unfinished.remove(&self.id);
        }
    }

    fn record(&self, mut message: Message) {
        message.connection = self.id;
        self.recording.lock().messages.push(message);
    }

    async fn answer_messages(&mut self, socket: &mut TcpStream) -> io::Result<Next> {
        let case = self.case.clone();
        if let Some(case) = case.as_deref().filter(|case| case.is_early)
            && self.parser.begun().is_none()
        {
            return self.answer_early(case, socket).await;
        }
        while let Some(message) = self.parser.next_message() {
            let is_head = message.method == b"HEAD";
            let is_second = message.target == SECOND;
            self.record(message);
            match case.as_deref() {
                Some(case) if case.kind == Kind::Responses && !is_second => {
                    if answer(case, socket).await? == Next::Close {
                        return Ok(Next::Close);
                    }
                }
                Some(case) if case.kind == Kind::Responses => socket.write_all(SECOND_RESPONSE).await?,
                _ => socket.write_all(if is_head { FIXED_HEAD } else { FIXED }).await?,
            }
        }
        Ok(if self.parser.is_broken() { Next::Close } else { Next::Read })
    }

    /// Answers a message after its head, and does not read its body.
    async fn answer_early(&mut self, case: &Case, socket: &mut TcpStream) -> io::Result<Next> {
        let whole = self.parser.next_message();
        let is_whole = whole.is_some();
        let Some(message) = whole.or_else(|| self.parser.begun().cloned()) else { return Ok(Next::Read) };
        let is_second = message.target == SECOND;
        self.record(message);
        if is_second {
            socket.write_all(SECOND_RESPONSE).await?;
            return Ok(Next::Read);
        }
        if !is_whole {
            self.parser = OriginParser::ignoring();
        }
        answer(case, socket).await
    }
}

/// Sends the response of a case.
async fn answer(case: &Case, socket: &mut TcpStream) -> io::Result<Next> {
    for (index, write) in case.writes.iter().enumerate() {
        if index > 0 {
            sleep(PAUSE).await;
        }
        match write {
            Write::Bytes(bytes) => socket.write_all(bytes).await?,
            Write::Shut => socket.shutdown().await?,
        }
    }
    match case.ending {
        Ending::Open => return Ok(Next::Read),
        Ending::Close if case.writes.is_empty() => {}
        Ending::Close => sleep(BEFORE_CLOSE).await,
        Ending::Reset => {
            sleep(PAUSE).await;
            socket.set_zero_linger()?;
        }
    }
    Ok(Next::Close)
}
