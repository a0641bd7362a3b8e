//! The driver against random guests: whatever they do, bytes come out once and in order, nothing follows an end,
//! nothing hangs, and what is held is bounded.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use proptest::prelude::*;

use bytes::Bytes;

use super::*;
use crate::filter::chain::Chain;
use crate::filter::facts::Facts;
use crate::head::RequestHead;
use crate::head::ResponseHead;

/// What each filter may hold back.
const MAX_HELD_BODY_BYTES: usize = 1024 * 1024;

fn exchange(filters: usize) -> Exchange {
    exchange_through(Chain::new(filters, |_| MAX_HELD_BODY_BYTES))
}

fn exchange_through(chain: Chain) -> Exchange {
    let request = RequestHead {
        method: Method::POST,
        scheme: "http",
        authority: HeaderValue::from_static("shop.example"),
        path: http::uri::PathAndQuery::from_static("/"),
        headers: HeaderMap::new(),
        version: Version::HTTP_11,
    };
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    Exchange::new(request, chain, Facts::new(nowhere, nowhere, 1))
}

fn head(status: u16) -> ResponseHead {
    ResponseHead { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new() }
}

fn reply(body: &'static str) -> LocalReply {
    LocalReply { head: head(418), body: Bytes::from_static(body.as_bytes()) }
}

fn failed(policy: FailurePolicy) -> Failed {
    Failed { policy, error: ProxyError::FilterFailed { plugin: "a/b".to_owned(), detail: "filter_trap" } }
}

/// What one guest call does: it asks, then it answers or fails.
#[derive(Debug, Clone)]
struct Move {
    asks: Vec<Ask>,
    ends: Result<Action, FailurePolicy>,
}

impl Move {
    fn answer(action: Action) -> Self {
        Self { asks: Vec::new(), ends: Ok(action) }
    }
}

/// Guests that play their moves one after another and then always continue.
#[derive(Default)]
struct Players {
    moves: VecDeque<Move>,
    absent: Vec<Callback>,
    contexts: Vec<bool>,
    calls: Vec<(usize, Callback)>,
    dropped: [usize; 2],
    /// What the first filter asks for before the response comes, and is not told yet.
    waiting: Option<Ask>,
    answered_at: Option<usize>,
}

fn fits(callback: Callback, action: Action) -> Action {
    match (callback, action) {
        (Callback::Head(..), Action::Pause(Hold::Head)) => action,
        (Callback::Head(..), Action::Pause(_)) => Action::Pause(Hold::All),
        (Callback::Body(..), Action::Pause(Hold::All | Hold::Head | Hold::Trailers)) => Action::Pause(Hold::Buffer),
        (Callback::Trailers(_), Action::Pause(_)) => Action::Pause(Hold::Trailers),
        (Callback::Body(..), Action::Pause(_)) | (_, Action::Continue) => action,
    }
}

fn same_kind(one: Callback, other: Callback) -> bool {
    use Callback::{Body, Head, Trailers};
    match (one, other) {
        (Head(a, _), Head(b, _)) | (Body(a, ..), Body(b, ..)) | (Trailers(a), Trailers(b)) => a == b,
        _ => false,
    }
}

impl Guests for Players {
    fn wants(&self, filter: usize, callback: Callback) -> bool {
        let side = match callback {
            Callback::Head(side, _) | Callback::Body(side, ..) | Callback::Trailers(side) => side,
        };
        (side == Side::Request || self.contexts[filter]) && !self.absent.iter().any(|it| same_kind(*it, callback))
    }

    fn call(&mut self, filter: usize, callback: Callback, exchange: &mut Exchange) -> Result<Action, Failed> {
        self.calls.push((filter, callback));
        if exchange.chain.answered && self.answered_at.is_none() {
            self.answered_at = Some(self.calls.len() - 1);
        }
        self.contexts[filter] = true;
        let Move { asks, ends } = self.moves.pop_front().unwrap_or_else(|| Move::answer(Action::Continue));
        asks.into_iter().for_each(|ask| exchange.chain.ask(filter, ask));
        let action = fits(callback, ends.map_err(failed)?);
        if let (Callback::Body(side, size, _), Action::Pause(Hold::Drop)) = (callback, action) {
            self.dropped[side as usize] += size;
        }
        Ok(action)
    }
}

fn drive(exchange: &mut Exchange, guests: &mut Players, event: Event) {
    ChainDriver { exchange, guests }.on_event(event);
}

/// Reads all that is at an outlet now.
fn read(exchange: &mut Exchange, side: Side, bytes: &mut Vec<u8>) -> Option<Piece> {
    let context = Context::from_waker(Waker::noop());
    exchange.chain.outlet(side).take_head();
    loop {
        match exchange.chain.outlet(side).poll(&context) {
            Poll::Ready(Piece::Data(data)) => bytes.extend_from_slice(&data),
            Poll::Ready(last) => return Some(last),
            Poll::Pending => return None,
        }
    }
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Continue),
        1 => Just(Action::Pause(Hold::All)),
        1 => Just(Action::Pause(Hold::Head)),
        2 => Just(Action::Pause(Hold::Buffer)),
        1 => Just(Action::Pause(Hold::Watermark)),
        1 => Just(Action::Pause(Hold::Drop)),
    ]
}

fn ask() -> impl Strategy<Value = Ask> {
    prop_oneof![
        4 => Just(Ask::Continue(Side::Request)),
        4 => Just(Ask::Continue(Side::Response)),
        1 => Just(Ask::Reply(reply("no"))),
        1 => Just(Ask::Refuse(ProxyError::FilterOutput { plugin: "a/b".to_owned() })),
        1 => Just(Ask::Close(ProxyError::FilterClosed { plugin: "a/b".to_owned() })),
    ]
}

fn guest_move() -> impl Strategy<Value = Move> {
    let asks = prop_oneof![5 => Just(Vec::new()), 1 => proptest::collection::vec(ask(), 1..4)];
    let ends = prop_oneof![
        19 => action().prop_map(Ok),
        1 => Just(Err(FailurePolicy::Open)),
        1 => Just(Err(FailurePolicy::Closed)),
    ];
    (asks, ends).prop_map(|(asks, ends)| Move { asks, ends })
}

fn calm_move() -> impl Strategy<Value = Move> {
    action().prop_map(Move::answer)
}

/// A message: chunks, and whether trailers end it.
fn message() -> impl Strategy<Value = (Vec<Vec<u8>>, bool)> {
    (proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6), any::<bool>())
}

fn absent() -> impl Strategy<Value = Vec<Callback>> {
    let all = vec![
        Callback::Head(Side::Request, MessageEnd::Later),
        Callback::Body(Side::Request, 0, MessageEnd::Later),
        Callback::Trailers(Side::Request),
        Callback::Head(Side::Response, MessageEnd::Later),
        Callback::Body(Side::Response, 0, MessageEnd::Later),
        Callback::Trailers(Side::Response),
    ];
    proptest::sample::subsequence(all, 0..=6)
}

struct Outcome {
    bytes: [Vec<u8>; 2],
    last: [Option<Piece>; 2],
}

fn resume_all(exchange: &mut Exchange, guests: &mut Players, filters: usize, side: Side) {
    for filter in 0..filters {
        exchange.chain.ask(filter, Ask::Continue(side));
    }
    drive(exchange, guests, Event::Asked);
}

/// Plays a whole stream: the request, then the response once the request's head is out (or an answer exists).
fn play(exchange: &mut Exchange, guests: &mut Players, messages: [(Vec<Vec<u8>>, bool); 2], nudges: &[u8]) -> Outcome {
    let filters = guests.contexts.len();
    let mut outcome = Outcome { bytes: [Vec::new(), Vec::new()], last: [None, None] };
    let mut nudges = nudges.iter().copied().cycle();
    for (side, (chunks, trailers)) in [Side::Request, Side::Response].into_iter().zip(messages) {
        let alone = chunks.is_empty() && !trailers;
        let end = if alone { MessageEnd::Here } else { MessageEnd::Later };
        match side {
            Side::Request => drive(exchange, guests, Event::Request(end)),
            Side::Response => {
                if let Some(ask) = guests.waiting.take() {
                    exchange.chain.ask(0, ask);
                }
                drive(exchange, guests, Event::Response(head(200), end));
            }
        }
        let count = chunks.len();
        let mut has_ended = alone;
        for (number, chunk) in chunks.into_iter().enumerate() {
            if nudges.next().is_some_and(|nudge| nudge % 4 == 0) {
                resume_all(exchange, guests, filters, side);
            }
            let is_last = number + 1 == count && !trailers && nudges.next().is_some_and(|nudge| nudge % 2 == 0);
            has_ended |= is_last;
            let (event, bytes) = (if is_last { Event::LastData } else { Event::Data }, Bytes::from(chunk));
            drive(exchange, guests, event(side, bytes));
        }
        if trailers {
            drive(exchange, guests, Event::Trailers(side, HeaderMap::new()));
        } else if !has_ended {
            drive(exchange, guests, Event::End(side));
        }
        // Each round at least one filter that has moves left plays one; then all continue.
        for _ in 0..200 {
            resume_all(exchange, guests, filters, side);
        }
        for side in [Side::Request, Side::Response] {
            let index = side as usize;
            outcome.last[index] = read(exchange, side, &mut outcome.bytes[index]);
        }
    }
    outcome
}

fn players(filters: usize, moves: Vec<Move>, absent: Vec<Callback>) -> Players {
    Players { moves: moves.into(), absent, contexts: vec![false; filters], ..Players::default() }
}

fn check_order(calls: &[(usize, Callback)], filters: usize) -> Result<(), TestCaseError> {
    for filter in 0..filters {
        for side in [Side::Request, Side::Response] {
            let (mut heads, mut ended, mut trailers) = (0, false, 0);
            for (_, callback) in calls.iter().filter(|(of, _)| *of == filter) {
                match *callback {
                    Callback::Head(of, end) if of == side => {
                        heads += 1;
                        ended |= end == MessageEnd::Here;
                    }
                    Callback::Body(of, _, end) if of == side => {
                        prop_assert!(!ended && trailers == 0, "body after the end: {calls:?}");
                        ended |= end == MessageEnd::Here;
                    }
                    Callback::Trailers(of) if of == side => {
                        prop_assert!(!ended, "trailers after the end: {calls:?}");
                        trailers += 1;
                    }
                    _ => {}
                }
            }
            prop_assert!(heads <= 1 && trailers <= 1, "{calls:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn bytes_come_out_once_and_in_order(
        filters in 0usize..5,
        moves in proptest::collection::vec(calm_move(), 0..30),
        absent in absent(),
        request in message(),
        response in message(),
        nudges in proptest::collection::vec(any::<u8>(), 1..8),
    ) {
        let mut exchange = exchange(filters);
        let mut guests = players(filters, moves, absent);
        let expected = [request.0.concat(), response.0.concat()];
        let ends = [&request, &response].map(|(_, trailers)| if *trailers { Piece::Trailers } else { Piece::End });
        let outcome = play(&mut exchange, &mut guests, [request, response], &nudges);
        for side in 0..2 {
            if guests.dropped[side] == 0 {
                prop_assert_eq!(&outcome.bytes[side], &expected[side]);
            } else {
                prop_assert!(outcome.bytes[side].len() <= expected[side].len());
            }
            prop_assert_eq!(outcome.last[side].as_ref(), Some(&ends[side]));
        }
        check_order(&guests.calls, filters)?;
    }

    #[test]
    fn whatever_guests_do_a_stream_ends(
        filters in 1usize..5,
        moves in proptest::collection::vec(guest_move(), 0..30),
        absent in absent(),
        request in message(),
        response in message(),
        nudges in proptest::collection::vec(any::<u8>(), 1..8),
        death in proptest::option::of((0usize..5, any::<bool>())),
    ) {
        let mut exchange = exchange(filters);
        let mut guests = players(filters, moves, absent);
        let expected = [request.0.concat(), response.0.concat()];
        if let Some((filter, open)) = death {
            drive(&mut exchange, &mut guests, Event::Request(MessageEnd::Later));
            let policy = if open { FailurePolicy::Open } else { FailurePolicy::Closed };
            drive(&mut exchange, &mut guests, Event::Died(filter % filters, failed(policy)));
            drive(&mut exchange, &mut guests, Event::End(Side::Request));
            for _ in 0..200 {
                resume_all(&mut exchange, &mut guests, filters, Side::Request);
            }
            let last = read(&mut exchange, Side::Request, &mut Vec::new());
            prop_assert!(last.is_some(), "the request hangs");
            return Ok(());
        }
        let outcome = play(&mut exchange, &mut guests, [request, response], &nudges);
        let [to_upstream, to_downstream] = outcome.last;
        prop_assert!(to_upstream.is_some() && to_downstream.is_some(), "a side hangs: {:?}", guests.calls);
        if exchange.chain.answered && to_downstream != Some(Piece::Reset) {
            let status = exchange.response.as_ref().map(|head| head.status.as_u16());
            prop_assert!(matches!(status, Some(418 | 500 | 503)), "{status:?}");
        } else if to_downstream != Some(Piece::Reset) && guests.dropped[1] == 0 {
            prop_assert_eq!(&outcome.bytes[1], &expected[1]);
        }
        if let Some(from) = guests.answered_at {
            let late = guests.calls[from..].iter().find(|(_, callback)| {
                matches!(callback, Callback::Head(Side::Request, _) | Callback::Body(Side::Request, ..))
            });
            prop_assert!(late.is_none(), "request callback after the answer: {late:?}");
        }
        check_order(&guests.calls, filters)?;
    }

    #[test]
    fn a_response_that_nobody_looks_at_needs_no_stations(
        filters in 1usize..5,
        moves in proptest::collection::vec(guest_move(), 0..30),
        mut absent in absent(),
        request in message(),
        response in message(),
        nudges in proptest::collection::vec(any::<u8>(), 1..8),
        waiting in proptest::option::of(ask()),
    ) {
        absent.push(Callback::Head(Side::Response, MessageEnd::Later));
        absent.push(Callback::Body(Side::Response, 0, MessageEnd::Later));
        absent.push(Callback::Trailers(Side::Response));
        let played = |chain| {
            let mut exchange = exchange_through(chain);
            let mut guests = players(filters, moves.clone(), absent.clone());
            guests.waiting.clone_from(&waiting);
            let Outcome { bytes, last } =
                play(&mut exchange, &mut guests, [request.clone(), response.clone()], &nudges);
            let status = exchange.response.map(|head| head.status);
            (bytes, last, guests.calls, exchange.chain.answered, status)
        };
        let room = |_| MAX_HELD_BODY_BYTES;
        prop_assert_eq!(played(Chain::of_requests(filters, room)), played(Chain::new(filters, room)));
    }
}

/// A paused filter that buffers is shown all of the body each time.
#[test]
fn buffering_shows_the_whole_body() {
    let mut exchange = exchange(1);
    let pause = || Move::answer(Action::Pause(Hold::Buffer));
    let mut guests = players(1, vec![Move::answer(Action::Continue), pause(), pause()], vec![]);
    drive(&mut exchange, &mut guests, Event::Request(MessageEnd::Later));
    for chunk in ["ab", "cde", "f"] {
        drive(&mut exchange, &mut guests, Event::Data(Side::Request, Bytes::from_static(chunk.as_bytes())));
    }
    drive(&mut exchange, &mut guests, Event::End(Side::Request));
    let sizes: Vec<_> = guests
        .calls
        .iter()
        .filter_map(|(_, callback)| match callback {
            Callback::Body(_, size, end) => Some((*size, *end)),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [(2, MessageEnd::Later), (5, MessageEnd::Later), (6, MessageEnd::Later), (0, MessageEnd::Here)]);
    let mut bytes = Vec::new();
    assert_eq!(read(&mut exchange, Side::Request, &mut bytes), Some(Piece::End));
    assert_eq!(bytes, b"abcdef");
}

/// What is buffered on a filter's wish overflows into a 413; what merely waits is held back at its source.
#[test]
fn held_bodies_are_bounded() {
    let mut exchange = exchange(1);
    let mut guests = players(1, vec![Move::answer(Action::Continue)], vec![]);
    guests.moves.extend(std::iter::repeat_n(Move::answer(Action::Pause(Hold::Buffer)), 100));
    drive(&mut exchange, &mut guests, Event::Request(MessageEnd::Later));
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    let mut sent = 0;
    while !exchange.chain.answered {
        assert!(exchange.chain.accepts(Side::Request));
        drive(&mut exchange, &mut guests, Event::Data(Side::Request, chunk.clone()));
        sent += chunk.len();
        assert!(sent <= MAX_HELD_BODY_BYTES + chunk.len());
    }
    assert_eq!(exchange.response.as_ref().map(|head| head.status), Some(StatusCode::PAYLOAD_TOO_LARGE));

    let mut exchange = self::exchange(1);
    let mut guests = players(1, vec![Move::answer(Action::Pause(Hold::All))], vec![]);
    drive(&mut exchange, &mut guests, Event::Request(MessageEnd::Later));
    let mut sent = 0;
    while exchange.chain.accepts(Side::Request) {
        drive(&mut exchange, &mut guests, Event::Data(Side::Request, chunk.clone()));
        sent += chunk.len();
        assert!(sent <= MAX_HELD_BODY_BYTES);
    }
    assert!(!exchange.chain.answered);
}

/// A reply before the upstream's response passes the response filters that have seen the request, in reverse order.
#[test]
fn a_reply_passes_the_started_filters() {
    let mut exchange = exchange(3);
    let mut guests = players(3, vec![Move::answer(Action::Continue)], vec![]);
    guests.moves.push_back(Move { asks: vec![Ask::Reply(reply("no"))], ends: Ok(Action::Continue) });
    drive(&mut exchange, &mut guests, Event::Request(MessageEnd::Here));
    let heads: Vec<_> = guests
        .calls
        .iter()
        .map(|(filter, callback)| (*filter, matches!(callback, Callback::Head(Side::Response, _))))
        .collect();
    assert_eq!(heads[..4], [(0, false), (1, false), (1, true), (1, false)]);
    assert_eq!(heads[4..], [(0, true), (0, false)]);
    let mut bytes = Vec::new();
    assert_eq!(read(&mut exchange, Side::Response, &mut bytes), Some(Piece::End));
    assert_eq!(bytes, b"no");
}

/// A filter may ask for several answers in one callback: the last one goes out, since nobody has seen those before it.
#[test]
fn an_answer_that_nobody_has_seen_gives_way_to_the_next() {
    let room = |_| MAX_HELD_BODY_BYTES;
    for chain in [Chain::new(1, room), Chain::of_requests(1, room)] {
        let mut exchange = exchange_through(chain);
        let refuse = || Ask::Refuse(ProxyError::FilterOutput { plugin: "a/b".to_owned() });
        let asks = vec![refuse(), refuse(), refuse(), Ask::Reply(reply("no"))];
        let mut guests = players(1, vec![Move { asks, ends: Err(FailurePolicy::Closed) }], vec![]);
        drive(&mut exchange, &mut guests, Event::Request(MessageEnd::Here));
        assert_eq!(exchange.response.as_ref().map(|head| head.status.as_u16()), Some(418));
        let mut bytes = Vec::new();
        assert_eq!(read(&mut exchange, Side::Response, &mut bytes), Some(Piece::End));
        assert_eq!(bytes, b"no");
    }
}
