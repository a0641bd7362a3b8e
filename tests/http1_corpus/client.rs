//! The client of one case: sends its bytes to a proxy from an address of its own, and reads until the proxy is silent
//! or closes.
//!
//! The times are part of the corpus's notation: what a proxy does not do is only seen by waiting for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::case::{Case, Kind, Write};
use crate::origin::PAUSE;
use crate::replies::{Received, Reply};

/// The pause before the client ends its side.
const BEFORE_SHUT: Duration = Duration::from_millis(100);

/// The silence after which a connection counts as open.
const SILENCE: Duration = Duration::from_millis(350);

/// The longest wait for the second response.
const SECOND_SILENCE: Duration = Duration::from_millis(600);

/// The time between the first response and the second request.
const AFTER_RESPONSE: Duration = Duration::from_millis(50);

/// The longest time of one write. A proxy may stop reading.
const LONGEST_WRITE: Duration = Duration::from_secs(2);

/// The interval between two checks for silence.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The time for bytes that are already there.
const INSTANT: Duration = Duration::from_millis(2);

const SECOND_REQUEST: &[u8] = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n";

/// The client's side of a case.
pub(crate) struct ClientView {
    /// The responses to the requests of the case.
    pub(crate) replies: Vec<Reply>,
    /// True if the proxy has ended the connection.
    pub(crate) is_closed: bool,
    /// For a case of responses, the events after the first response.
    pub(crate) then: String,
}

impl ClientView {
    /// Returns the view of a client that was stopped.
    pub(crate) fn timed_out() -> Self {
        Self { replies: Vec::new(), is_closed: false, then: "timeout".to_owned() }
    }
}

/// Runs the client of a case against a proxy.
pub(crate) async fn run(case: &Case, proxy: SocketAddr) -> ClientView {
    let socket = connect(case.client(), proxy).await;
    match case.kind {
        Kind::Requests => send_requests(case, socket).await,
        Kind::Responses => ResponseReader::new(socket).run(case).await,
    }
}

async fn connect(client: Ipv4Addr, proxy: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((client, 0).into()).expect("an address of loopback");
    let stream = socket.connect(proxy).await.unwrap_or_else(|error| panic!("connect to {proxy}: {error}"));
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// Bytes that a task reads in the background.
struct Incoming {
    bytes: Vec<u8>,
    is_closed: bool,
    last: Instant,
}

async fn send_requests(case: &Case, socket: TcpStream) -> ClientView {
    let (reader, mut writer) = socket.into_split();
    let incoming = Arc::new(Mutex::new(Incoming { bytes: Vec::new(), is_closed: false, last: Instant::now() }));
    let mut reading = JoinSet::new();
    reading.spawn(read_all(reader, Arc::clone(&incoming)));
    for (index, write) in case.writes.iter().enumerate() {
        if index > 0 {
            sleep(if *write == Write::Shut { BEFORE_SHUT } else { PAUSE }).await;
        }
        let written = match write {
            Write::Bytes(bytes) => timeout(LONGEST_WRITE, writer.write_all(bytes)).await,
            Write::Shut => timeout(LONGEST_WRITE, writer.shutdown()).await,
        };
        if !matches!(written, Ok(Ok(()))) {
            break;
        }
    }
    let sent = Instant::now();
    loop {
        let (is_closed, last) = {
            let incoming = incoming.lock();
            (incoming.is_closed, incoming.last.max(sent))
        };
        if is_closed || last.elapsed() >= SILENCE {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    reading.shutdown().await;
    drop(writer);
    let incoming = incoming.lock();
    let received = Received { bytes: &incoming.bytes, methods: &case.methods, is_closed: incoming.is_closed };
    ClientView { replies: received.replies(), is_closed: incoming.is_closed, then: String::new() }
}

async fn read_all(mut reader: OwnedReadHalf, incoming: Arc<Mutex<Incoming>>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        let mut incoming = incoming.lock();
        incoming.bytes.extend_from_slice(&buffer[..length]);
        incoming.last = Instant::now();
    }
    incoming.lock().is_closed = true;
}

/// The state of the proxy's side of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Open,
    Closed,
    Reset,
}

/// A client that reads one response after the other.
struct ResponseReader {
    socket: TcpStream,
    bytes: Vec<u8>,
    side: Side,
}

impl ResponseReader {
    fn new(socket: TcpStream) -> Self {
        Self { socket, bytes: Vec::new(), side: Side::Open }
    }

    async fn run(mut self, case: &Case) -> ClientView {
        for (index, bytes) in case.request.iter().enumerate() {
            if index > 0 {
                sleep(PAUSE).await;
            }
            if self.socket.write_all(bytes).await.is_err() {
                break;
            }
        }
        while !is_done(&self.replies(0, &case.methods)) && self.read_within(SILENCE).await {}
        sleep(AFTER_RESPONSE).await;
        if self.side == Side::Open {
            self.read_within(INSTANT).await;
        }
        let replies = self.replies(0, &case.methods);
        let finals = replies.iter().filter(|reply| reply.status.final_code().is_some()).count();
        let extra = if finals > 1 { "EXTRA " } else { "" };
        let is_closed = self.side != Side::Open;
        let then = match self.side {
            Side::Closed => "closed".to_owned(),
            Side::Reset => "reset".to_owned(),
            Side::Open if !is_done(&replies) => "open".to_owned(),
            Side::Open => self.send_second().await,
        };
        ClientView { replies, is_closed, then: format!("{extra}{then}") }
    }

    /// Sends the second request, and returns its response in the notation.
    async fn send_second(&mut self) -> String {
        let before = self.bytes.len();
        if self.socket.write_all(SECOND_REQUEST).await.is_err() {
            self.side = Side::Closed;
        }
        while !is_done(&self.replies(before, &["GET"])) && self.read_within(SECOND_SILENCE).await {}
        let replies = self.replies(before, &["GET"]);
        match replies.as_slice() {
            [reply] if reply.status.final_code() == Some(200) && reply.text == b"second" => "200 ok".to_owned(),
            [] if self.side != Side::Open => "closed".to_owned(),
            [] => "open".to_owned(),
            _ => {
                let statuses: Vec<String> = replies.iter().map(|reply| reply.status.to_string()).collect();
                format!("WRONG {}", statuses.join(" "))
            }
        }
    }

    fn replies(&self, start: usize, methods: &[&str]) -> Vec<Reply> {
        Received { bytes: &self.bytes[start..], methods, is_closed: self.side != Side::Open }.replies()
    }

    /// Reads once. Returns false after silence and at the end of the connection.
    async fn read_within(&mut self, silence: Duration) -> bool {
        if self.side != Side::Open {
            return false;
        }
        let mut buffer = vec![0; 64 * 1024];
        match timeout(silence, self.socket.read(&mut buffer)).await {
            Err(_) => return false,
            Ok(Ok(0)) => self.side = Side::Closed,
            Ok(Err(_)) => self.side = Side::Reset,
            Ok(Ok(length)) => self.bytes.extend_from_slice(&buffer[..length]),
        }
        self.side == Side::Open
    }
}

/// Returns true after a final response whose end needs no end of the connection.
fn is_done(replies: &[Reply]) -> bool {
    let is_end = |reply: &Reply| reply.is_complete && reply.status.final_code().is_some() && !reply.is_until_close;
    replies.last().is_some_and(is_end)
}
