//! Fuzz test of whole exchanges through one worker: random requests of many clients, and random responses of the origin
//! to them. Each request at the origin has one reading. A client gets complete responses to its own requests, or a closed
//! connection. The access log has a line for each answered request, and memory is flat.
//!
//! `WEIR_FUZZ_EXECUTIONS=1000000` or `WEIR_FUZZ_SECONDS=600` is the long form; `WEIR_SEED` repeats a run, whose seed is
//! printed. A failed run prints the file for `tests/under_load/exchange_corpus/`, which `recorded_exchanges_are_right`
//! replays.

mod corpus; // Seeds, and recorded exchanges.
mod exchange; // Random exchanges.
mod origin; // The origin.
mod strict; // The parser.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::{Proxy, Resources, wait_until};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use self::corpus::RecordedExchange;
use self::exchange::{ClientEnd, Exchange, Seeds, Token, escaped};
use self::origin::RunningExchanges;
use self::strict::Message;
use crate::budget::{Budget, run_clients, seconds_from_env, seed_from_env};
use crate::{lock_machine, number_from_env};

/// Exchanges of a run of the suite.
const EXECUTIONS: usize = 4_000;

/// Clients at the same time.
const CLIENTS: usize = 64;

/// Time in which an exchange ends. Every timeout of [`resources`] is shorter, so that a longer one hangs.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(20);

/// Bytes that the proxy may grow by after the first fifth of a run.
const MAX_GROWTH: u64 = 8 << 20;

/// Replays of a recorded exchange.
const REPLAYS: usize = 8;

/// Returns resources that forward everything to the origin, with timeouts that end each incomplete exchange.
fn resources(origin: SocketAddr) -> Resources {
    let route = "rules: [{timeouts: {request: 2s}, backendRefs: [{name: origin, port: 80}]}]";
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: clients}\nspec: {timeouts: \
                  {requestHead: 500ms, streamIdle: 1s, connectionIdle: 500ms}}\n";
    Resources::new().service("origin", &[origin]).route("everything", route).yaml(policy)
}

/// Counts of a request's token.
#[derive(Debug, Default)]
struct TokenCounts {
    /// Occurrences in the bytes of the client: at most as many requests have the token.
    sent: u32,
    /// Responses with the token that the client has received.
    answered: u32,
}

/// The state of a run that its clients share.
struct Run {
    address: SocketAddr,
    running: Arc<RunningExchanges>,
    counts: Mutex<HashMap<Token, TokenCounts>>,
    /// Final responses that clients have received.
    answered: AtomicU64,
}

impl Run {
    /// Runs an exchange. Panics with its bytes if one of them is wrong.
    async fn run(&self, name: &str, exchange: Exchange) {
        let exchange = Arc::new(exchange);
        // A token that a mutation has made belongs to no exchange.
        let own = |token: &Token| exchange.position(*token).is_some();
        for token in Token::all_in(&exchange.request).into_iter().filter(own) {
            self.counts.lock().entry(token).or_default().sent += 1;
        }
        self.running.begin(&exchange);
        let mut received = Vec::new();
        let ended = tokio::time::timeout(LONGEST_EXCHANGE, self.receive(&exchange, &mut received)).await;
        self.running.end(&exchange);
        let fault = match ended {
            Err(_) => Some("the connection is left open".to_owned()),
            Ok(()) => self.check(&exchange, &received).err(),
        };
        if let Some(fault) = fault {
            fail(name, &fault, &exchange, &received);
        }
        if let Some(fault) = self.running.fault() {
            let culprit = fault.exchange.unwrap_or(exchange);
            fail(name, &format!("at the origin: {}", fault.reason), &culprit, &fault.bytes);
        }
    }

    /// Sends the bytes of an exchange, and reads to the end of the connection.
    async fn receive(&self, exchange: &Exchange, received: &mut Vec<u8>) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (first, second) = exchange.request.split_at(exchange.cut.unwrap_or(exchange.request.len()));
        // The proxy may have rejected the first bytes and closed the connection.
        let is_sent = socket.write_all(first).await.is_ok();
        tokio::task::yield_now().await;
        if is_sent && !second.is_empty() {
            drop(socket.write_all(second).await);
        }
        match exchange.end {
            ClientEnd::Finish => drop(socket.shutdown().await),
            ClientEnd::Wait => {}
            ClientEnd::Reset => return drop(socket.set_zero_linger()),
        }
        while socket.read_buf(received).await.is_ok_and(|count| count > 0) {}
    }

    /// Checks the responses that a client has received: one of their readings is right.
    fn check(&self, exchange: &Exchange, received: &[u8]) -> Result<(), String> {
        let mut fault = Ok(());
        for responses in strict::readings(received, exchange.sent())? {
            match self.answered_tokens(exchange, &responses) {
                Ok(tokens) => {
                    let mut counts = self.counts.lock();
                    for token in tokens {
                        counts.entry(token).or_default().answered += 1;
                    }
                    let answered = responses.iter().filter(|response| !response.is_informational()).count();
                    self.answered.fetch_add(answered as u64, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => fault = Err(error),
            }
        }
        fault
    }

    /// Returns the tokens of the final responses, which must be those of this exchange, in their order.
    fn answered_tokens(&self, exchange: &Exchange, responses: &[Message]) -> Result<Vec<Token>, String> {
        let counts = self.counts.lock();
        let (mut next, mut answered) = (0, Vec::new());
        for response in responses {
            let tokens: HashSet<Token> = Token::all_in(&response.bytes).into_iter().collect();
            // A token that no client has sent is one that a mutation has changed.
            let known: Vec<Token> = tokens.into_iter().filter(|token| counts.contains_key(token)).collect();
            if known.len() > 1 {
                return Err("two responses in one".to_owned());
            }
            let Some(token) = known.first() else { continue };
            let position = exchange.position(*token).ok_or("the response of another exchange")?;
            if position < next {
                return Err("responses out of order".to_owned());
            }
            next = position;
            if !response.is_informational() {
                next += 1;
                answered.push(*token);
            }
        }
        Ok(answered)
    }
}

/// Panics with the bytes of an exchange, and the file that replays it.
fn fail(name: &str, fault: &str, exchange: &Exchange, received: &[u8]) -> ! {
    println!("exchange {name}: {fault}");
    println!("{:?}, request in two parts at {:?}", exchange.end, exchange.cut);
    for response in &exchange.responses {
        let Token(number) = response.token;
        println!("{number:016x}: early {}, cut {:?}, {:?}", response.is_early, response.cut, response.end);
    }
    println!("received {}", escaped(received));
    println!("to add it to the corpus, with a name for its fault in place of NAME:");
    println!("cat > tests/under_load/exchange_corpus/NAME.exchange <<'END'\n{}END", exchange.file());
    panic!("exchange {name}: {fault}");
}

/// Runs random exchanges until the budget is spent. Returns the number of the next one.
async fn run_all(run: &Arc<Run>, seeds: &Arc<Seeds>, seed: u64, budget: Budget) -> u64 {
    let budget = Arc::new(budget);
    run_clients(CLIENTS, || {
        let (run, seeds, budget) = (Arc::clone(run), Arc::clone(seeds), Arc::clone(&budget));
        async move {
            while let Some(number) = budget.take() {
                let mut random = SmallRng::seed_from_u64(seed.wrapping_add(number));
                let exchange = Exchange::random(&seeds, &mut random);
                run.run(&number.to_string(), exchange).await;
            }
        }
    })
    .await;
    budget.next()
}

/// The lines of the access log, read while it grows.
struct LogCounts {
    reader: BufReader<File>,
    partial: Vec<u8>,
    lines: u64,
    by_token: HashMap<Token, u32>,
}

impl LogCounts {
    fn of(proxy: &Proxy) -> Self {
        let path = proxy.config().parent().unwrap().join("access.log");
        let reader = BufReader::new(File::open(path).unwrap());
        Self { reader, partial: Vec::new(), lines: 0, by_token: HashMap::new() }
    }

    /// Counts the lines that were added.
    fn read(&mut self) {
        while self.reader.read_until(b'\n', &mut self.partial).unwrap() > 0 {
            if !self.partial.ends_with(b"\n") {
                return; // The rest of the line is not written yet.
            }
            let line = String::from_utf8_lossy(&self.partial).into_owned();
            self.partial.clear();
            self.lines += 1;
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            let path = line["path"].as_str().unwrap_or_default();
            let tokens: HashSet<Token> = Token::all_in(path.as_bytes()).into_iter().collect();
            for token in tokens {
                *self.by_token.entry(token).or_default() += 1;
            }
        }
    }

    fn of_token(&self, token: Token) -> u32 {
        self.by_token.get(&token).copied().unwrap_or(0)
    }
}

/// Panics unless each answered request has a line of its own in the access log.
async fn check_access_log(proxy: &Proxy, run: &Run) {
    let mut log = LogCounts::of(proxy);
    let answered = run.answered.load(Ordering::Relaxed);
    let counts = std::mem::take(&mut *run.counts.lock());
    wait_until("a line of each answered request", async || {
        log.read();
        let is_complete = counts.iter().all(|(token, counts)| log.of_token(*token) >= counts.answered);
        (is_complete && log.lines >= answered).then_some(())
    })
    .await;
    for (token, TokenCounts { sent, .. }) in counts {
        let lines = log.of_token(token);
        assert!(lines <= sent, "{} has {lines} lines, and was sent {sent} times", token.text());
    }
}

async fn start() -> (Proxy, Arc<Run>) {
    let running = Arc::new(RunningExchanges::default());
    let origin = origin::start(Arc::clone(&running)).await;
    let proxy = Proxy::start(&resources(origin)).await;
    let (address, counts) = (proxy.address().await, Mutex::default());
    (proxy, Arc::new(Run { address, running, counts, answered: AtomicU64::new(0) }))
}

/// Panics unless the proxy still serves, and has not panicked.
async fn assert_alive(proxy: &Proxy) {
    assert_eq!(proxy.get("/alive").await.status, 404, "the origin's own response");
    assert!(!proxy.log().contains("panicked"), "see the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_exchanges_are_right_or_rejected() {
    let _machine = lock_machine().await;
    let (seed, time) = (seed_from_env(), seconds_from_env("WEIR_FUZZ_SECONDS"));
    let executions = number_from_env("WEIR_FUZZ_EXECUTIONS", EXECUTIONS) as u64;
    let (proxy, run) = start().await;
    let seeds = Arc::new(corpus::seeds());
    let (start, first) = (Instant::now(), executions / 5);
    let next = run_all(&run, &seeds, seed, Budget::new(0, first, time.map(|time| time / 5))).await;
    let warm = proxy.memory("VmRSS");
    let rest = Budget::new(next, executions - first, time.map(|time| time * 4 / 5));
    let total = run_all(&run, &seeds, seed, rest).await;
    let answered = run.answered.load(Ordering::Relaxed);
    let grown = proxy.memory("VmRSS").saturating_sub(warm);
    println!("{total} exchanges in {:?}, {answered} responses, {} KiB more memory", start.elapsed(), grown >> 10);
    assert_alive(&proxy).await;
    check_access_log(&proxy, &run).await;
    let open = "weir_downstream_connections{listener=\"default/edge/http\"}";
    proxy.wait_for_metric(open, |open| open <= 0.0).await;
    assert!(grown < MAX_GROWTH, "memory grew by {grown} bytes");
    assert!(answered > total / 4, "most exchanges are answered: {answered} of {total}");
}

#[tokio::test]
async fn recorded_exchanges_are_right() {
    let _machine = lock_machine().await;
    let (proxy, run) = start().await;
    let recorded = corpus::recorded();
    assert!(!recorded.is_empty());
    for RecordedExchange { name, exchange } in recorded {
        for replay in 0..REPLAYS {
            let mut exchange = exchange.clone();
            exchange.cut = (replay % 2 == 1).then_some(exchange.request.len() / 2);
            for response in &mut exchange.responses {
                response.is_early = replay % 4 >= 2;
            }
            run.run(&format!("{name}, replay {replay}"), exchange).await;
        }
    }
    assert_alive(&proxy).await;
    check_access_log(&proxy, &run).await;
}
