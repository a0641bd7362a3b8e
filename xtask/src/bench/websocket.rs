//! Echo over WebSockets: clients that send a message, wait for its echo, and send the next. A proxy forwards the bytes of
//! frames as they are, so the message is one frame, made once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use super::load::{Sample, count_by};
use super::process::BenchProcess;
use super::websocket_origin::read_head;

/// Clients, each with a connection.
const CLIENTS: usize = 8;

/// Time for opening connections before the measurement.
const OPENING: Duration = Duration::from_millis(200);

/// Bound of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// The request of RFC 6455 §1.3.
const REQUEST: &str = "GET / HTTP/1.1\r\nhost: bench\r\nx-api-key: bench-key\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A text message of 64 bytes, masked with zeros (RFC 6455 §5.2).
const MESSAGE: [u8; 70] = {
    let mut frame = [b'x'; 70];
    (frame[0], frame[1]) = (0x81, 0x80 | 64);
    (frame[2], frame[3], frame[4], frame[5]) = (0, 0, 0, 0);
    frame
};

/// Sends messages for some time, and counts CPU time for each echo.
pub(super) fn run(running: &BenchProcess, time: Duration) -> Result<Sample> {
    let (is_done, echoes) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| exchange(running.address(), &is_done, &echoes))).collect();
        thread::sleep(OPENING);
        let measured = count_by(running, time, || Ok(echoes.load(Ordering::Relaxed)));
        is_done.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().map_err(|_| anyhow!("a client panicked"))?.context("a client of WebSockets")?;
        }
        measured
    })
}

fn exchange(address: SocketAddr, is_done: &AtomicBool, echoes: &AtomicU64) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, IO_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    stream.write_all(REQUEST.as_bytes())?;
    let head = read_head(&mut stream)?;
    ensure!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut echo = [0; MESSAGE.len()];
    while !is_done.load(Ordering::Relaxed) {
        stream.write_all(&MESSAGE)?;
        stream.read_exact(&mut echo)?;
        ensure!(echo == MESSAGE, "another message came back");
        echoes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
