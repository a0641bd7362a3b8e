//! Replays the cases of a file in all proxies at the same time, and compares the outcomes with the recorded ones.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::access_log::{AccessLog, Filters, details, disagreements};
use crate::case::{Case, PEERS};
use crate::client::{self, ClientView};
use crate::corpus::{Corpus, NewLine};
use crate::outcome::Exchange;
use crate::peers::{Lane, Peer, Process};

/// The longest time of one case.
const LONGEST_CASE: Duration = Duration::from_secs(20);

/// The time after the last case until Weir has written each line of its access log. A request whose client is gone is
/// logged when the rest of its body has been drained, after at most one second.
const LOG_DELAY: Duration = Duration::from_millis(1_600);

/// Cases whose outcome with a filter is another one, although the filter changes nothing: a body that a filter reads waits
/// for no endpoint.
const CHANGED_BY_FILTER: [&str; 1] = ["expect-continue"];

/// The results of one proxy by the number of the case.
type Exchanges = BTreeMap<u16, Exchange>;

/// Everything that differs from the corpus.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// The case, the expected outcome and the one that was found, as readable lines.
    pub(crate) outcomes: Vec<String>,
    /// Disagreements between the access log, the client, the filter and the origin.
    pub(crate) disagreements: Vec<String>,
    /// The outcome lines of the file that would make the corpus agree.
    pub(crate) replaced: Vec<NewLine>,
}

/// Replays the cases of a file, and returns the differences.
pub(crate) async fn replay(corpus: &Corpus, peers: &[Peer]) -> Differences {
    let peers: Vec<&Peer> = peers.iter().filter(|peer| peer.runs(corpus.kind)).collect();
    let results = run_all(&corpus.cases, &peers).await;
    sleep(LOG_DELAY).await;
    let mut differences = Differences::default();
    for (peer, exchanges) in peers.iter().zip(results) {
        let Process::Weir(proxy, filters) = &peer.process else {
            let outcomes = corpus.cases.iter().map(|case| (case, exchanges[&case.number].outcome(case, &[])));
            outcomes.for_each(|(case, found)| differences.compare(case, peer.name, &found));
            continue;
        };
        let log = AccessLog::new(proxy.access_log());
        for case in &corpus.cases {
            let (exchange, lines) = (&exchanges[&case.number], log.lines(case));
            let found = exchange.outcome(case, &details(lines));
            match filters {
                Filters::Absent => differences.compare(case, peer.name, &found),
                Filters::Recording => differences.compare_with_filter(case, &found),
            }
            for disagreement in disagreements(case, exchange, lines, *filters) {
                differences.disagreements.push(format!("{} {}: {disagreement}", title(case), log_name(*filters)));
            }
        }
    }
    differences
}

impl Differences {
    fn compare(&mut self, case: &Case, peer: &'static str, found: &str) {
        let place = PEERS.iter().position(|name| *name == peer).expect("a proxy of the corpus");
        let recorded = &case.outcomes[place];
        if recorded.text != found {
            self.outcomes.push(format!("{} {peer}\n    expected {}\n    found    {found}", title(case), recorded.text));
            self.replaced.push(NewLine { line: recorded.line, text: format!("{peer} {found}") });
        }
    }

    /// Compares an outcome of Weir with a filter that changes nothing with the outcome without a filter.
    ///
    /// A filter reads the part of a body that has arrived before the head goes on. So an invalid body that has arrived is
    /// rejected before the origin receives anything of the request.
    fn compare_with_filter(&mut self, case: &Case, found: &str) {
        let (title, expected) = (title(case), &case.outcomes[0].text);
        let is_exception = CHANGED_BY_FILTER.contains(&case.name.as_str());
        let is_expected = expected == found || without_cut_request(expected).is_some_and(|rejected| rejected == found);
        if is_expected && is_exception {
            self.outcomes.push(format!("{title} a filter no longer changes the outcome"));
        }
        if !is_expected && !is_exception {
            self.outcomes.push(format!("{title} weir with a filter\n    expected {expected}\n    found    {found}"));
        }
    }
}

/// The outcome of a rejected request without the part that the origin received; `None` when the origin received no part or
/// a whole request. `400 [http1_chunk_size] | POST /x cut closed` becomes `400 [http1_chunk_size] closed`.
fn without_cut_request(outcome: &str) -> Option<String> {
    let (replies, received) = outcome.split_once(" | ")?;
    let (_, end) = received.split_once(" cut ")?;
    (!received.contains(" | ")).then(|| format!("{replies} {end}"))
}

fn title(case: &Case) -> String {
    format!("{}.corpus: {}:", case.kind.name(), case.name)
}

fn log_name(filters: Filters) -> &'static str {
    match filters {
        Filters::Absent => "access log",
        Filters::Recording => "access log with a filter",
    }
}

/// Runs all cases in each proxy.
async fn run_all(cases: &[Arc<Case>], peers: &[&Peer]) -> Vec<Exchanges> {
    let mut lanes = JoinSet::new();
    for (place, peer) in peers.iter().enumerate() {
        let queue = Arc::new(Mutex::new(VecDeque::from(cases.to_vec())));
        for lane in &peer.lanes {
            let (lane, queue) = (Arc::clone(lane), Arc::clone(&queue));
            lanes.spawn(async move { (place, run_lane(&lane, &queue).await) });
        }
    }
    let mut results: Vec<Exchanges> = peers.iter().map(|_| Exchanges::new()).collect();
    while let Some(ended) = lanes.join_next().await {
        let (place, exchanges) = ended.expect("a lane does not panic");
        results[place].extend(exchanges);
    }
    results
}

/// Runs cases one after another until the queue is empty.
async fn run_lane(lane: &Lane, queue: &Mutex<VecDeque<Arc<Case>>>) -> Exchanges {
    let mut exchanges = Exchanges::new();
    loop {
        let next = queue.lock().pop_front();
        let Some(case) = next else { return exchanges };
        exchanges.insert(case.number, run_case(lane, &case).await);
    }
}

async fn run_case(lane: &Lane, case: &Arc<Case>) -> Exchange {
    lane.origin.begin(case);
    let view = timeout(LONGEST_CASE, client::run(case, lane.listener)).await;
    let ClientView { replies, is_closed, then } = view.unwrap_or_else(|_| ClientView::timed_out());
    let messages = lane.origin.finish().await;
    Exchange { replies, is_closed, then, messages, lane: lane.number, origin: lane.origin.address() }
}
