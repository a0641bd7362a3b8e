//! The upstream of a test: a thread that answers every request and tells what it received.

use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::Error;
use super::http::Message;

/// How many received requests are kept until somebody asks for them; later ones are answered but forgotten.
const MAX_RECEIVED: usize = 1024;

type Answer = dyn Fn(&Message) -> Message + Send + Sync;

/// An HTTP/1.1 server on a free port of 127.0.0.1. It stops when it is dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    received: Receiver<Message>,
    stopped: Arc<AtomicBool>,
}

impl Origin {
    /// An origin that answers everything with `hello from the origin`.
    pub fn start() -> Result<Self, Error> {
        Self::answering(|_request| Message::response(200, "hello from the origin\n"))
    }

    /// An origin that answers what `answer` says.
    pub fn answering(answer: impl Fn(&Message) -> Message + Send + Sync + 'static) -> Result<Self, Error> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (sender, received) = sync_channel(MAX_RECEIVED);
        let stopped = Arc::new(AtomicBool::new(false));
        let is_stopped = Arc::clone(&stopped);
        let answer: Arc<Answer> = Arc::new(answer);
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

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The oldest request that was received and not yet asked for.
    pub fn received(&self) -> Option<Message> {
        self.received.try_recv().ok()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        TcpStream::connect(self.address).ok(); // Wakes the thread, which waits for a connection.
    }
}

/// Answers the requests of one connection until the proxy closes it.
fn serve(connection: &TcpStream, received: &SyncSender<Message>, answer: &Answer) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    while let Some(request) = Message::read_request(&mut reader)? {
        let response = answer(&request);
        received.try_send(request).ok(); // Full: see MAX_RECEIVED.
        response.write(&mut &*connection)?;
    }
    Ok(())
}
