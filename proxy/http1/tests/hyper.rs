//! Valid messages as hyper reads them, in comparison with the codec and with what the generator meant: hyper's server for
//! requests, its client for responses. Both find heads with `httparse`, but frame and persist by code of their own.
//!
//! `WEIR_FUZZ_EXECUTIONS` is ten times the number of connections, which cost more than executions of `fuzz.rs`.
//! `WEIR_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod generator;
mod messages;

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::mpsc::sync_channel;

use generator::{Generator, Response};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::ext::{ReasonPhrase, on_informational};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use messages::{Decoded, Fields, Message, Sender, StartLine, decode, end_to_end, executions, fields, seed};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::join;
use weir_http1::Limits;

/// Executions of a test in a normal run.
const EXECUTIONS: u64 = 50_000;

/// Executions that cost as much as a connection.
const EXECUTIONS_OF_A_CONNECTION: u64 = 10;

#[test]
fn hyper_reads_valid_requests_as_the_codec_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut random = SmallRng::seed_from_u64(seed());
    for _ in 0..executions(EXECUTIONS) / EXECUTIONS_OF_A_CONNECTION {
        let (bytes, expected) = Generator { random: &mut random }.requests();
        let text = bytes.escape_ascii();
        check_codec(Sender::Client, &bytes, &expected, &mut random);

        let mut seen = runtime.block_on(serve(&bytes, random.random_range(1..600)));
        let used = expected.iter().take_while(|message| message.keep_alive).count() + 1;
        let expected: Vec<Message> = expected.into_iter().take(used).map(as_hyper_serves).collect();
        // Where hyper differs: it keeps a connection after CONNECT for another protocol.
        for (seen, expected) in seen.iter_mut().zip(&expected) {
            if matches!(&seen.start, StartLine::Request { method, .. } if method == "CONNECT") {
                seen.keep_alive = expected.keep_alive;
            }
        }
        assert_eq!(seen, expected, "{text}");
    }
}

#[test]
fn hyper_reads_valid_responses_as_the_codec_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut random = SmallRng::seed_from_u64(seed());
    for _ in 0..executions(EXECUTIONS) / EXECUTIONS_OF_A_CONNECTION {
        let responses = responses(&mut random);
        let bytes: Vec<u8> = responses.iter().flat_map(|response| response.bytes.iter().copied()).collect();
        let methods: Vec<Method> = responses.iter().map(|response| response.method.clone()).collect();
        let expected: Vec<Message> = responses.iter().flat_map(|response| response.messages.clone()).collect();
        check_codec(Sender::Server(&methods), &bytes, &expected, &mut random);

        let seen = runtime.block_on(receive(&responses, random.random_range(1..600)));
        let expected: Vec<Message> = expected.into_iter().map(as_hyper_receives).collect();
        assert_eq!(seen, expected, "{methods:?} {}", bytes.escape_ascii());
    }
}

/// Returns responses for one connection: the last one, and no other, ends it or may end it.
fn responses(random: &mut SmallRng) -> Vec<Response> {
    let mut responses = Vec::new();
    for _ in 0..random.random_range(1..=5) {
        let response = Generator { random }.response();
        let keep_alive = response.messages.last().is_some_and(|message| message.keep_alive);
        responses.push(response);
        if !keep_alive {
            break;
        }
    }
    responses
}

/// Checks that the codec reads the expected messages from bytes in random pieces.
fn check_codec(sender: Sender<'_>, bytes: &[u8], expected: &[Message], random: &mut SmallRng) {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(random.random_range(1..=rest.len().min(600)));
        pieces.push(piece);
        rest = after;
    }
    let decoded = decode(sender, Limits::default(), pieces);
    let expected = Decoded { messages: expected.to_vec(), rejection: None, unfinished: None };
    assert_eq!(decoded, expected, "{sender:?} {}", bytes.escape_ascii());
}

/// Returns a request as hyper serves it: without a repeated `content-length`.
fn as_hyper_serves(mut message: Message) -> Message {
    let mut lengths = 0;
    message.fields.retain(|(name, _)| {
        lengths += usize::from(name == CONTENT_LENGTH.as_str());
        name != CONTENT_LENGTH.as_str() || lengths == 1
    });
    message
}

/// Returns a response as hyper receives it: an informational one without reason and persistence.
fn as_hyper_receives(mut message: Message) -> Message {
    if let StartLine::Response { status: 100..=199, reason } = &mut message.start {
        reason.clear();
        message.keep_alive = true;
    }
    message
}

/// Sends bytes to hyper's server. Returns the requests that it serves.
async fn serve(bytes: &[u8], buffer: usize) -> Vec<Message> {
    let (near, far) = duplex(buffer);
    let served = RefCell::new(Vec::new());
    let service = service_fn(|request: Request<Incoming>| async {
        let (head, body) = request.into_parts();
        let start = StartLine::Request { method: head.method.to_string(), target: head.uri.to_string().into_bytes() };
        let message = message(start, head.version, &head.headers, body).await;
        served.borrow_mut().push(message);
        Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let connection = builder.half_close(true).auto_date_header(false).serve_connection(TokioIo::new(near), service);
    let (mut reader, mut writer) = split(far);
    let send = async {
        // hyper reads nothing after a request that ends the connection.
        drop(writer.write_all(bytes).await);
        drop(writer.shutdown().await);
    };
    let mut output = Vec::new();
    let (ended, (), received) = join!(connection, send, reader.read_to_end(&mut output));
    assert!(ended.is_ok() && received.is_ok(), "{ended:?} {received:?} {}", bytes.escape_ascii());
    let mut served = served.into_inner();
    let persistent = persistence(&output);
    assert_eq!(persistent.len(), served.len(), "{} for {}", output.escape_ascii(), bytes.escape_ascii());
    served.iter_mut().zip(persistent).for_each(|(message, keep_alive)| message.keep_alive = keep_alive);
    served
}

/// Returns whether the connection persists after each final response of hyper's server. None of them has a body.
fn persistence(output: &[u8]) -> Vec<bool> {
    let text = String::from_utf8_lossy(output);
    let heads = text.split_terminator("\r\n\r\n").filter(|head| !head.starts_with("HTTP/1.1 100 "));
    let persists = |head: &str| match head.starts_with("HTTP/1.0") {
        true => head.contains("\r\nconnection: keep-alive"),
        false => !head.contains("\r\nconnection: close"),
    };
    heads.map(persists).collect()
}

/// Sends responses to hyper's client, each to a request of its method. Returns the messages that it receives.
async fn receive(responses: &[Response], buffer: usize) -> Vec<Message> {
    let (near, mut far) = duplex(buffer);
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    let exchanges = async move {
        let mut received = Vec::new();
        for response in responses {
            received.extend(exchange(&mut requests, &mut far, response).await);
            let keep_alive = requests.ready().await.is_ok();
            received.last_mut().unwrap().keep_alive = keep_alive;
            if !keep_alive {
                break;
            }
        }
        received
    };
    let (ended, received) = join!(connection, exchanges);
    assert!(ended.is_ok(), "{ended:?}");
    received
}

/// Returns the messages that hyper's client receives for one request.
async fn exchange(
    requests: &mut SendRequest<Empty<Bytes>>,
    far: &mut DuplexStream,
    response: &Response,
) -> Vec<Message> {
    let (informational, received) = sync_channel(8);
    let mut request = Request::new(Empty::new());
    *request.method_mut() = response.method.clone();
    on_informational(&mut request, move |response| {
        let start = StartLine::Response { status: response.status().as_u16(), reason: Vec::new() };
        let (version, fields) = (response.version(), end_to_end(&start, fields(response.headers())));
        let (body, trailers) = (Vec::new(), Fields::new());
        informational.try_send(Message { start, version, fields, body, trailers, keep_alive: true }).unwrap();
    });
    let respond = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(far.read_u8().await.unwrap());
        }
        far.write_all(&response.bytes).await.unwrap();
        if response.is_until_close {
            far.shutdown().await.unwrap();
        }
    };
    let receive = async {
        let (head, body) = requests.send_request(request).await.unwrap().into_parts();
        let usual = head.status.canonical_reason().unwrap_or_default().as_bytes();
        let reason = head.extensions.get::<ReasonPhrase>().map_or(usual, ReasonPhrase::as_bytes).to_vec();
        let start = StartLine::Response { status: StatusCode::as_u16(&head.status), reason };
        message(start, head.version, &head.headers, body).await
    };
    let ((), last) = join!(respond, receive);
    received.try_iter().chain([last]).collect()
}

/// Reads a body. Returns its message, which does not show yet whether the connection persists.
async fn message(start: StartLine, version: Version, headers: &HeaderMap, body: Incoming) -> Message {
    let fields = end_to_end(&start, fields(headers));
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().map(messages::fields).unwrap_or_default();
    Message { start, version, fields, body: body.to_bytes().to_vec(), trailers, keep_alive: false }
}
