//! Property tests of the driver with random guests: bytes leave once and in order, nothing follows an end, no stream
//! hangs, and buffers are bounded.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;

use super::super::chain_state::ChainState;
use super::testing::*;
use super::*;

fn status() -> impl Strategy<Value = FilterStatus> {
    prop_oneof![
        4 => Just(FilterStatus::Continue),
        1 => Just(FilterStatus::Pause(Pause::All)),
        1 => Just(FilterStatus::Pause(Pause::Headers)),
        2 => Just(FilterStatus::Pause(Pause::BufferBody)),
        1 => Just(FilterStatus::Pause(Pause::WatermarkBody)),
        1 => Just(FilterStatus::DropBody),
    ]
}

fn command() -> impl Strategy<Value = StreamCommand> {
    prop_oneof![
        4 => Just(StreamCommand::Continue(Direction::Request)),
        4 => Just(StreamCommand::Continue(Direction::Response)),
        1 => Just(StreamCommand::LocalReply(reply("no"))),
        1 => Just(StreamCommand::Fail(ProxyError::FilterOutput { plugin: "a/b".to_owned() })),
        1 => Just(StreamCommand::Close(ProxyError::FilterClosed { plugin: "a/b".to_owned() })),
    ]
}

fn scripted_call() -> impl Strategy<Value = ScriptedCall> {
    let commands = prop_oneof![5 => Just(Vec::new()), 1 => proptest::collection::vec(command(), 1..4)];
    let outcome = prop_oneof![
        19 => status().prop_map(Ok),
        1 => Just(Err(FailurePolicy::Open)),
        1 => Just(Err(FailurePolicy::Closed)),
    ];
    (commands, outcome).prop_map(|(commands, outcome)| ScriptedCall { commands, outcome })
}

fn successful_call() -> impl Strategy<Value = ScriptedCall> {
    status().prop_map(ScriptedCall::returning)
}

/// Generates a message: its chunks, and whether trailers end it.
fn message() -> impl Strategy<Value = (Vec<Vec<u8>>, bool)> {
    (proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6), any::<bool>())
}

fn absent() -> impl Strategy<Value = Vec<Callback>> {
    let all = vec![
        Callback::Headers(Direction::Request, EndOfStream::No),
        Callback::Body(Direction::Request, 0, EndOfStream::No),
        Callback::Trailers(Direction::Request),
        Callback::Headers(Direction::Response, EndOfStream::No),
        Callback::Body(Direction::Response, 0, EndOfStream::No),
        Callback::Trailers(Direction::Response),
    ];
    proptest::sample::subsequence(all, 0..=6)
}

struct StreamOutput {
    bytes: [Vec<u8>; 2],
    last: [Option<OutputFrame>; 2],
}

fn resume_all(exchange: &mut Exchange, scripted: &mut ScriptedFilters, filters: usize, direction: Direction) {
    for filter in 0..filters {
        exchange.chain.queue_command(filter, StreamCommand::Continue(direction));
    }
    drive(exchange, scripted, Event::Resume);
}

/// Runs a whole stream: the request, then the response once the request headers are out or a reply exists.
fn run_stream(
    exchange: &mut Exchange,
    scripted: &mut ScriptedFilters,
    messages: [(Vec<Vec<u8>>, bool); 2],
    random_steps: &[u8],
) -> StreamOutput {
    let filters = scripted.contexts.len();
    let mut outcome = StreamOutput { bytes: [Vec::new(), Vec::new()], last: [None, None] };
    let mut random_steps = random_steps.iter().copied().cycle();
    for (direction, (chunks, trailers)) in [Direction::Request, Direction::Response].into_iter().zip(messages) {
        let headers_only = chunks.is_empty() && !trailers;
        let end = EndOfStream::from(headers_only);
        match direction {
            Direction::Request => drive(exchange, scripted, Event::RequestHeaders(end)),
            Direction::Response => {
                if let Some(command) = scripted.waiting.take() {
                    exchange.chain.queue_command(0, command);
                }
                drive(exchange, scripted, Event::ResponseHeaders(head(200), end));
            }
        }
        let count = chunks.len();
        // The source of a body may report its end although the headers had it.
        let mut has_ended = headers_only && random_steps.next().is_some_and(|step| step % 2 == 0);
        for (number, chunk) in chunks.into_iter().enumerate() {
            if random_steps.next().is_some_and(|step| step % 4 == 0) {
                resume_all(exchange, scripted, filters, direction);
            }
            let is_last = number + 1 == count && !trailers && random_steps.next().is_some_and(|step| step % 2 == 0);
            has_ended |= is_last;
            let event = Event::Data(direction, Bytes::from(chunk), EndOfStream::from(is_last));
            drive(exchange, scripted, event);
        }
        if trailers {
            drive(exchange, scripted, Event::Trailers(direction, HeaderMap::new()));
        } else if !has_ended {
            drive(exchange, scripted, Event::EndOfStream(direction));
        }
        // Each round runs at least one scripted call if a filter has one left. Then all filters continue.
        for _ in 0..200 {
            resume_all(exchange, scripted, filters, direction);
        }
        for direction in [Direction::Request, Direction::Response] {
            let index = direction as usize;
            outcome.last[index] = read(exchange, direction, &mut outcome.bytes[index]);
        }
    }
    outcome
}

fn scripted_filters(filters: usize, script: Vec<ScriptedCall>, absent: Vec<Callback>) -> ScriptedFilters {
    ScriptedFilters { script: script.into(), absent, contexts: vec![false; filters], ..ScriptedFilters::default() }
}

fn check_order(calls: &[(usize, Callback)], filters: usize) -> Result<(), TestCaseError> {
    for filter in 0..filters {
        for direction in [Direction::Request, Direction::Response] {
            let (mut heads, mut ended, mut trailers) = (0, false, 0);
            for (_, callback) in calls.iter().filter(|(of, _)| *of == filter) {
                match *callback {
                    Callback::Headers(of, end) if of == direction => {
                        heads += 1;
                        ended |= end == EndOfStream::Yes;
                    }
                    Callback::Body(of, _, end) if of == direction => {
                        prop_assert!(!ended && trailers == 0, "body after the end: {calls:?}");
                        ended |= end == EndOfStream::Yes;
                    }
                    Callback::Trailers(of) if of == direction => {
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
    fn bytes_leave_once_and_in_order(
        filters in 0usize..5,
        script in proptest::collection::vec(successful_call(), 0..30),
        absent in absent(),
        request in message(),
        response in message(),
        random_steps in proptest::collection::vec(any::<u8>(), 1..8),
    ) {
        let mut exchange = exchange(filters);
        let mut scripted = scripted_filters(filters, script, absent);
        let expected = [request.0.concat(), response.0.concat()];
        let expected_ends = [&request, &response].map(|(_, trailers)| if *trailers { OutputFrame::Trailers } else { OutputFrame::End });
        let outcome = run_stream(&mut exchange, &mut scripted, [request, response], &random_steps);
        for direction in 0..2 {
            if scripted.dropped[direction] == 0 {
                prop_assert_eq!(&outcome.bytes[direction], &expected[direction]);
            } else {
                prop_assert!(outcome.bytes[direction].len() <= expected[direction].len());
            }
            prop_assert_eq!(outcome.last[direction].as_ref(), Some(&expected_ends[direction]));
        }
        check_order(&scripted.calls, filters)?;
    }

    #[test]
    fn stream_with_any_guests_ends(
        filters in 1usize..5,
        script in proptest::collection::vec(scripted_call(), 0..30),
        absent in absent(),
        request in message(),
        response in message(),
        random_steps in proptest::collection::vec(any::<u8>(), 1..8),
        death in proptest::option::of((0usize..5, any::<bool>())),
    ) {
        let mut exchange = exchange(filters);
        let mut scripted = scripted_filters(filters, script, absent);
        let expected = [request.0.concat(), response.0.concat()];
        if let Some((filter, open)) = death {
            drive(&mut exchange, &mut scripted, Event::RequestHeaders(EndOfStream::No));
            let policy = if open { FailurePolicy::Open } else { FailurePolicy::Closed };
            drive(&mut exchange, &mut scripted, Event::FilterFailed(filter % filters, failure(policy)));
            drive(&mut exchange, &mut scripted, Event::EndOfStream(Direction::Request));
            for _ in 0..200 {
                resume_all(&mut exchange, &mut scripted, filters, Direction::Request);
            }
            let last = read(&mut exchange, Direction::Request, &mut Vec::new());
            prop_assert!(last.is_some(), "the request hangs");
            return Ok(());
        }
        let outcome = run_stream(&mut exchange, &mut scripted, [request, response], &random_steps);
        let [to_upstream, to_downstream] = outcome.last;
        prop_assert!(to_upstream.is_some() && to_downstream.is_some(), "a direction hangs: {:?}", scripted.calls);
        if exchange.chain.has_reply && to_downstream != Some(OutputFrame::Reset) {
            let status = exchange.response.as_ref().map(|head| head.status.as_u16());
            prop_assert!(matches!(status, Some(418 | 500 | 503)), "{status:?}");
        } else if to_downstream != Some(OutputFrame::Reset) && scripted.dropped[1] == 0 {
            prop_assert_eq!(&outcome.bytes[1], &expected[1]);
        }
        if let Some(from) = scripted.replied_at {
            let late = scripted.calls[from..].iter().find(|(_, callback)| {
                matches!(callback, Callback::Headers(Direction::Request, _) | Callback::Body(Direction::Request, ..))
            });
            prop_assert!(late.is_none(), "request callback after the reply: {late:?}");
        }
        check_order(&scripted.calls, filters)?;
    }

    #[test]
    fn request_only_chain_equals_chain_without_response_callbacks(
        filters in 1usize..5,
        script in proptest::collection::vec(scripted_call(), 0..30),
        mut absent in absent(),
        request in message(),
        response in message(),
        random_steps in proptest::collection::vec(any::<u8>(), 1..8),
        waiting in proptest::option::of(command()),
    ) {
        absent.push(Callback::Headers(Direction::Response, EndOfStream::No));
        absent.push(Callback::Body(Direction::Response, 0, EndOfStream::No));
        absent.push(Callback::Trailers(Direction::Response));
        let run = |chain| {
            let mut exchange = exchange_through(chain);
            let mut scripted = scripted_filters(filters, script.clone(), absent.clone());
            scripted.waiting.clone_from(&waiting);
            let StreamOutput { bytes, last } =
                run_stream(&mut exchange, &mut scripted, [request.clone(), response.clone()], &random_steps);
            let status = exchange.response.map(|head| head.status);
            (bytes, last, scripted.calls, exchange.chain.has_reply, status)
        };
        let buffer_limit = |_| BODY_LIMIT_BYTES;
        prop_assert_eq!(run(ChainState::request_only(filters, buffer_limit)), run(ChainState::new(filters, buffer_limit)));
    }
}

/// A filter that buffers the body sees all of it in each callback.
#[test]
fn buffering_filter_sees_whole_body() {
    let mut exchange = exchange(1);
    let pause = || ScriptedCall::returning(FilterStatus::Pause(Pause::BufferBody));
    let mut scripted =
        scripted_filters(1, vec![ScriptedCall::returning(FilterStatus::Continue), pause(), pause()], vec![]);
    drive(&mut exchange, &mut scripted, Event::RequestHeaders(EndOfStream::No));
    for chunk in ["ab", "cde", "f"] {
        drive(
            &mut exchange,
            &mut scripted,
            Event::Data(Direction::Request, Bytes::from_static(chunk.as_bytes()), EndOfStream::No),
        );
    }
    drive(&mut exchange, &mut scripted, Event::EndOfStream(Direction::Request));
    let sizes: Vec<_> = scripted
        .calls
        .iter()
        .filter_map(|(_, callback)| match callback {
            Callback::Body(_, size, end) => Some((*size, *end)),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [(2, EndOfStream::No), (5, EndOfStream::No), (6, EndOfStream::No), (0, EndOfStream::Yes)]);
    let mut bytes = Vec::new();
    assert_eq!(read(&mut exchange, Direction::Request, &mut bytes), Some(OutputFrame::End));
    assert_eq!(bytes, b"abcdef");
}

/// A buffered body beyond the limit is rejected with 413. Other paused data stops its source.
#[test]
fn buffered_bodies_are_bounded() {
    let mut exchange = exchange(1);
    let mut scripted = scripted_filters(1, vec![ScriptedCall::returning(FilterStatus::Continue)], vec![]);
    scripted.script.extend(std::iter::repeat_n(ScriptedCall::returning(FilterStatus::Pause(Pause::BufferBody)), 100));
    drive(&mut exchange, &mut scripted, Event::RequestHeaders(EndOfStream::No));
    let chunk = Bytes::from(vec![7; 64 * 1024]);
    let mut sent = 0;
    while !exchange.chain.has_reply {
        assert!(exchange.chain.can_read(Direction::Request));
        drive(&mut exchange, &mut scripted, Event::Data(Direction::Request, chunk.clone(), EndOfStream::No));
        sent += chunk.len();
        assert!(sent <= BODY_LIMIT_BYTES + chunk.len());
    }
    assert_eq!(exchange.response.as_ref().map(|head| head.status), Some(StatusCode::PAYLOAD_TOO_LARGE));

    let mut exchange = self::exchange(1);
    let mut scripted = scripted_filters(1, vec![ScriptedCall::returning(FilterStatus::Pause(Pause::All))], vec![]);
    drive(&mut exchange, &mut scripted, Event::RequestHeaders(EndOfStream::No));
    let mut sent = 0;
    while exchange.chain.can_read(Direction::Request) {
        drive(&mut exchange, &mut scripted, Event::Data(Direction::Request, chunk.clone(), EndOfStream::No));
        sent += chunk.len();
        assert!(sent <= BODY_LIMIT_BYTES);
    }
    assert!(!exchange.chain.has_reply);
}

/// A reply before the upstream's response passes the filters that have seen the request, in reverse order.
#[test]
fn reply_passes_filters_that_saw_request() {
    let mut exchange = exchange(3);
    let mut scripted = scripted_filters(3, vec![ScriptedCall::returning(FilterStatus::Continue)], vec![]);
    scripted.script.push_back(ScriptedCall {
        commands: vec![StreamCommand::LocalReply(reply("no"))],
        outcome: Ok(FilterStatus::Continue),
    });
    drive(&mut exchange, &mut scripted, Event::RequestHeaders(EndOfStream::Yes));
    let heads: Vec<_> = scripted
        .calls
        .iter()
        .map(|(filter, callback)| (*filter, matches!(callback, Callback::Headers(Direction::Response, _))))
        .collect();
    assert_eq!(heads[..4], [(0, false), (1, false), (1, true), (1, false)]);
    assert_eq!(heads[4..], [(0, true), (0, false)]);
    let mut bytes = Vec::new();
    assert_eq!(read(&mut exchange, Direction::Response, &mut bytes), Some(OutputFrame::End));
    assert_eq!(bytes, b"no");
}

/// Of several replies in one callback the last one is sent, since nothing of the earlier ones was sent.
#[test]
fn unsent_reply_is_replaced_by_next() {
    let buffer_limit = |_| BODY_LIMIT_BYTES;
    for chain in [ChainState::new(1, buffer_limit), ChainState::request_only(1, buffer_limit)] {
        let mut exchange = exchange_through(chain);
        let refuse = || StreamCommand::Fail(ProxyError::FilterOutput { plugin: "a/b".to_owned() });
        let commands = vec![refuse(), refuse(), refuse(), StreamCommand::LocalReply(reply("no"))];
        let mut scripted =
            scripted_filters(1, vec![ScriptedCall { commands, outcome: Err(FailurePolicy::Closed) }], vec![]);
        drive(&mut exchange, &mut scripted, Event::RequestHeaders(EndOfStream::Yes));
        assert_eq!(exchange.response.as_ref().map(|head| head.status.as_u16()), Some(418));
        let mut bytes = Vec::new();
        assert_eq!(read(&mut exchange, Direction::Response, &mut bytes), Some(OutputFrame::End));
        assert_eq!(bytes, b"no");
    }
}

#[test]
fn end_behind_headers_that_ended_message_has_no_callback() {
    for direction in [Direction::Request, Direction::Response] {
        let mut scripted = ScriptedFilters { contexts: vec![true], ..ScriptedFilters::default() };
        scripted.script.push_back(ScriptedCall::returning(FilterStatus::Pause(Pause::Headers)));
        let mut exchange = exchange(1);
        drive(
            &mut exchange,
            &mut scripted,
            match direction {
                Direction::Request => Event::RequestHeaders(EndOfStream::Yes),
                Direction::Response => Event::ResponseHeaders(head(204), EndOfStream::Yes),
            },
        );
        drive(&mut exchange, &mut scripted, Event::EndOfStream(direction));
        assert_eq!(scripted.calls, [(0, Callback::Headers(direction, EndOfStream::Yes))]);
        assert_eq!(exchange.chain.output(direction).headers(), None, "the filter still pauses");
        resume_all(&mut exchange, &mut scripted, 1, direction);
        assert_eq!(exchange.chain.output(direction).headers(), Some(true), "the message ends with its headers");
        assert_eq!(scripted.calls.len(), 1);
    }
}
