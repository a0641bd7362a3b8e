//! HTTP/1 connections that are cut at random byte positions, on both sides of the proxy. Every request whose head has
//! arrived leaves one line in the access log, no response belongs to another request, and memory stays flat.
//!
//! `WEIR_CUT_REQUESTS=1000000` is the long form.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{Proxy, RawConnection, RawOrigin, Resources, wait_until};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Clients at the same time.
const CLIENTS: u64 = 16;

/// Bytes that the proxy may grow by after the first tenth of the requests.
const MAX_GROWTH: u64 = 8 << 20;

fn requests() -> u64 {
    std::env::var("WEIR_CUT_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000)
}

/// The response of the origin to request `number`: its body repeats the number.
fn response(number: u64, length: usize, chunked: bool) -> Vec<u8> {
    let body: Vec<u8> = format!("{number};").bytes().cycle().take(length).collect();
    let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
    if chunked {
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        for chunk in body.chunks(777) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else {
        bytes.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
        bytes.extend_from_slice(&body);
    }
    bytes
}

/// Answers `/NUMBER/LENGTH/CHUNKED/CUT`: the response, up to the byte CUT of it, after which the connection closes.
async fn answer(mut wire: RawConnection) {
    loop {
        let Some(head) = wire.try_head().await else { return };
        let path = head.split(' ').nth(1).unwrap_or_default();
        let parts: Vec<u64> = path.split('/').skip(1).map(|part| part.parse().unwrap()).collect();
        let &[number, length, chunked, cut] = &parts[..] else { panic!("{path}") };
        let declared = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if wire.try_exactly(declared.unwrap_or(0)).await.is_none() {
            return;
        }
        let mut bytes = response(number, usize::try_from(length).unwrap(), chunked == 1);
        let is_cut = usize::try_from(cut).unwrap() < bytes.len();
        bytes.truncate(usize::try_from(cut).unwrap());
        if !wire.try_send(&bytes).await || is_cut {
            return;
        }
    }
}

/// The outcome of one exchange, as the client sees it.
enum Exchange {
    /// The whole response came: the connection can be used again.
    Complete,
    /// The connection has ended. True if the request's head was sent.
    Ended(bool),
}

/// Sends one request on a connection, cut or whole, and reads its response, cut or whole.
async fn exchange(wire: &mut TcpStream, number: u64, random: &mut SmallRng) -> Exchange {
    let length = random.random_range(0..20_000_usize);
    let chunked = u64::from(random.random_bool(0.5));
    let cut = if random.random_bool(0.2) { random.random_range(0..length + 60) } else { usize::MAX >> 8 };
    let body = if random.random_bool(0.5) { random.random_range(0..8_000_usize) } else { 0 };
    let head = format!("POST /{number}/{length}/{chunked}/{cut} HTTP/1.1\r\nhost: a\r\ncontent-length: {body}\r\n\r\n");
    let mut bytes = head.clone().into_bytes();
    bytes.resize(head.len() + body, b'x');
    if random.random_bool(0.15) {
        let sent = random.random_range(0..bytes.len());
        let written = wire.write_all(&bytes[..sent]).await.is_ok();
        // A reset may overtake what was sent before it, so that the proxy never reads the head.
        return Exchange::Ended(written && sent >= head.len() && wire.shutdown().await.is_ok());
    }
    if wire.write_all(&bytes).await.is_err() {
        return Exchange::Ended(false); // The proxy had closed the connection before.
    }
    let stop = if random.random_bool(0.1) { random.random_range(0..length + 100) } else { usize::MAX };
    let mut received = Vec::new();
    loop {
        if let Some(body) = whole_body(&received) {
            let expected: Vec<u8> = format!("{number};").bytes().cycle().take(length).collect();
            let is_reply = received.starts_with(b"HTTP/1.1 200 ");
            assert!(!is_reply || body == expected, "request {number} got the response of another one");
            return Exchange::Complete;
        }
        if received.len() > stop || !wire.read_buf(&mut received).await.is_ok_and(|count| count > 0) {
            return Exchange::Ended(!received.is_empty());
        }
    }
}

/// Returns the body of a complete response; `None` until it is complete.
fn whole_body(bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        return bytes[end..].get(..length.parse().unwrap()).map(<[u8]>::to_vec);
    }
    let (mut rest, mut body) = (&bytes[end..], Vec::new());
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = rest.get(line + 2..)?;
        if size == 0 {
            return rest.starts_with(b"\r\n").then_some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

async fn client(address: SocketAddr, numbers: Arc<AtomicU64>, last: u64, seed: u64) -> Vec<u64> {
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut wire, mut sent) = (None, Vec::new());
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        if number >= last {
            return sent;
        }
        let mut open = match wire.take() {
            Some(open) => open,
            None => TcpStream::connect(address).await.unwrap(),
        };
        match exchange(&mut open, number, &mut random).await {
            Exchange::Complete => {
                sent.push(number);
                wire = Some(open);
            }
            Exchange::Ended(true) => sent.push(number),
            Exchange::Ended(false) => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_leave_one_line_each_and_mix_no_responses() {
    let origin = RawOrigin::start(answer).await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let (address, total) = (proxy.address().await, requests());
    let numbers = Arc::new(AtomicU64::new(0));
    let mut sent = Vec::new();
    let mut warm = 0;
    for last in [total / 10, total] {
        let mut clients = JoinSet::new();
        for seed in 0..CLIENTS {
            clients.spawn(client(address, Arc::clone(&numbers), last, seed + last));
        }
        while let Some(numbers) = clients.join_next().await {
            sent.extend(numbers.unwrap());
        }
        numbers.store(last, Ordering::Relaxed);
        if warm == 0 {
            warm = proxy.memory("VmRSS");
        }
    }
    let grown = proxy.memory("VmRSS").saturating_sub(warm);
    assert!(grown < MAX_GROWTH, "{grown} bytes more after {total} requests than after a tenth of them");
    let lines = wait_until("a line of each request", async || {
        let mut lines: HashMap<u64, usize> = HashMap::new();
        for line in proxy.access_log() {
            let number = line["path"].as_str().and_then(|path| path.split('/').nth(1)?.parse().ok());
            *lines.entry(number.expect("a path of this test")).or_default() += 1;
        }
        sent.iter().all(|number| lines.contains_key(number)).then_some(lines)
    })
    .await;
    assert!(lines.values().all(|count| *count == 1), "no request has two lines");
    assert!(sent.len() as u64 > total / 2, "{} of {total} requests were sent", sent.len());
}
