//! The origin of random exchanges: parses each request strictly, and responds with the planned response of its token.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use harness::spawn_background;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::exchange::{Exchange, OriginEnd, PlannedResponse, Token};
use super::strict::{self, Message, Progress};

/// The response to a request without the token of a running exchange.
const UNPLANNED: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

/// The exchanges that run, by the tokens of their requests, and the first fault that the origin has found.
#[derive(Default)]
pub(super) struct RunningExchanges {
    by_token: Mutex<HashMap<Token, Arc<Exchange>>>,
    fault: Mutex<Option<OriginFault>>,
}

/// A request that is not valid, or has more than one reading.
#[derive(Debug, Clone)]
pub(super) struct OriginFault {
    pub(super) reason: String,
    /// The bytes from the beginning of the request.
    pub(super) bytes: Vec<u8>,
    /// The exchange of the first known token in the bytes.
    pub(super) exchange: Option<Arc<Exchange>>,
}

impl RunningExchanges {
    /// Adds an exchange.
    pub(super) fn begin(&self, exchange: &Arc<Exchange>) {
        let mut running = self.by_token.lock();
        for response in &exchange.responses {
            running.insert(response.token, Arc::clone(exchange));
        }
    }

    /// Removes an exchange.
    pub(super) fn end(&self, exchange: &Exchange) {
        let mut running = self.by_token.lock();
        for response in &exchange.responses {
            running.remove(&response.token);
        }
    }

    /// Returns the first fault.
    pub(super) fn fault(&self) -> Option<OriginFault> {
        self.fault.lock().clone()
    }

    fn find(&self, text: &[u8]) -> Option<Arc<Exchange>> {
        let running = self.by_token.lock();
        Token::all_in(text).iter().find_map(|token| running.get(token).cloned())
    }

    /// Returns the planned response of a request.
    fn planned(&self, request: &Message) -> Option<PlannedResponse> {
        let running = self.by_token.lock();
        let tokens = Token::all_in(request.target().as_bytes());
        tokens.into_iter().find_map(|token| {
            let exchange = running.get(&token)?;
            exchange.responses.iter().find(|response| response.token == token).cloned()
        })
    }

    fn report(&self, reason: String, bytes: &[u8]) {
        let exchange = self.find(bytes);
        self.fault.lock().get_or_insert(OriginFault { reason, bytes: bytes.to_vec(), exchange });
    }
}

/// Starts an origin, and returns its address.
pub(super) async fn start(running: Arc<RunningExchanges>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_background(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            socket.set_nodelay(true).unwrap();
            connections.spawn(serve(socket, Arc::clone(&running)));
            while connections.try_join_next().is_some() {}
        }
    });
    address
}

/// Serves one request after another.
async fn serve(mut socket: TcpStream, running: Arc<RunningExchanges>) {
    let mut received = Vec::new();
    loop {
        let Some(end) = serve_request(&mut socket, &mut received, &running).await else { return };
        match end {
            OriginEnd::Open => {}
            OriginEnd::Closed => return drop(socket.shutdown().await),
            OriginEnd::Reset => return drop(socket.set_zero_linger()),
        }
    }
}

/// Reads a request from the front of `received`, and responds. Returns `None` when the connection has ended.
async fn serve_request(
    socket: &mut TcpStream,
    received: &mut Vec<u8>,
    running: &RunningExchanges,
) -> Option<OriginEnd> {
    let mut end = None;
    loop {
        match strict::request(received) {
            Err(reason) => {
                running.report(reason, received);
                return None;
            }
            Ok(Progress::Complete(request)) => {
                received.drain(..request.bytes.len());
                return match end {
                    Some(end) => Some(end),
                    None => respond(socket, running.planned(&request)).await,
                };
            }
            Ok(Progress::InBody(request)) if end.is_none() => {
                if let Some(planned) = running.planned(&request).filter(|planned| planned.is_early) {
                    end = Some(respond(socket, Some(planned)).await?);
                }
            }
            Ok(Progress::InBody(_) | Progress::InHead) => {}
        }
        if !socket.read_buf(received).await.is_ok_and(|count| count > 0) {
            return None;
        }
    }
}

/// Writes a response. Returns `None` when the connection has ended.
async fn respond(socket: &mut TcpStream, planned: Option<PlannedResponse>) -> Option<OriginEnd> {
    let Some(PlannedResponse { bytes, cut, end, .. }) = planned else {
        return socket.write_all(UNPLANNED).await.ok().map(|()| OriginEnd::Open);
    };
    let (first, second) = bytes.split_at(cut.unwrap_or(bytes.len()));
    socket.write_all(first).await.ok()?;
    if !second.is_empty() {
        tokio::task::yield_now().await;
        socket.write_all(second).await.ok()?;
    }
    Some(end)
}
