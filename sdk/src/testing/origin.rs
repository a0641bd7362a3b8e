//! The upstream of a test: a thread that responds to every request and records it.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::Error;
use super::http::Message;

/// Limit of recorded requests that the test has not read. Further requests get a response and are not recorded.
const MAX_RECEIVED: usize = 1024;

type Responder = dyn Fn(&Message) -> Message + Send + Sync;

/// An HTTP/1.1 server on a free port of 127.0.0.1. Stops on drop.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    received: Receiver<Message>,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    /// Starts an origin that responds with `hello from the origin`.
    pub fn start() -> Result<Self, Error> {
        Self::answering(|_request| Message::response(200, "hello from the origin\n"))
    }

    /// Starts an origin that responds with the result of `answer`.
    pub fn answering(answer: impl Fn(&Message) -> Message + Send + Sync + 'static) -> Result<Self, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (sender, received) = sync_channel(MAX_RECEIVED);
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        let answer: Arc<Responder> = Arc::new(answer);
        thread::Builder::new().name("test-origin".to_owned()).spawn(move || {
            for connection in listener.incoming() {
                if is_stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                thread::spawn(move || serve(&connection, &sender, &*answer));
            }
        })?;
        Ok(Self { address, received, stopped })
    }

    /// Returns the address of the origin.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the oldest recorded request that was not read yet.
    pub fn received(&self) -> Option<Message> {
        self.received.try_recv().ok()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        TcpStream::connect(self.address).ok(); // Wakes the thread, which blocks in `accept`.
    }
}

/// Responds to the requests of one connection until the proxy closes it.
fn serve(connection: &TcpStream, received: &SyncSender<Message>, answer: &Responder) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    while let Some(request) = Message::read_request(&mut reader)? {
        let response = answer(&request);
        received.try_send(request).ok(); // Full: see MAX_RECEIVED.
        response.write(&mut &*connection)?;
    }
    Ok(())
}
