//! Happy eyeballs (RFC 8305): a connection that is not open in time races with one to the next address of the name.
//! `attempt` and `tcp` open connections with it.
//!
//! Only addresses of one DNS name race: they are the same server, while listed endpoints share load by their weights.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};
use tracing::debug;
use weir_model::EndpointAddress;

use super::pool::Pool;
use super::worker::WorkerCluster;
use crate::error::ProxyError;
use crate::limits::{CONNECTION_ATTEMPT_DELAY, MAX_RACING_CONNECTIONS};

/// The outcome of a race.
pub(super) struct RaceOutcome<T> {
    /// The pool of the endpoint that has won, or that has failed last.
    pub(super) pool: Rc<Pool>,
    /// The connection, or the last failure.
    pub(super) result: Result<T, ProxyError>,
    /// The endpoints that have failed before.
    pub(super) failed: Vec<EndpointAddress>,
}

/// A connection that is being opened.
struct Contender<F> {
    pool: Rc<Pool>,
    opening: Pin<Box<F>>,
}

enum RaceEvent<T> {
    /// The contender at this index has opened a connection, or has failed.
    Finished(usize, Result<T, ProxyError>),
    /// No contender was fast enough.
    DelayPassed,
}

/// Opens a connection to the endpoint of `first`. For a cluster of one DNS name, every [`CONNECTION_ATTEMPT_DELAY`]
/// another address joins, and at once when one fails while others are open. Addresses that were `tried` do not join.
///
/// The slower connections are dropped.
pub(super) async fn open_first<T, F: Future<Output = Result<T, ProxyError>>>(
    cluster: &WorkerCluster,
    first: Rc<Pool>,
    tried: &[EndpointAddress],
    open: impl Fn(Rc<Pool>) -> F,
) -> RaceOutcome<T> {
    if !cluster.has_alternatives() {
        let result = open(Rc::clone(&first)).await;
        return RaceOutcome { pool: first, result, failed: Vec::new() };
    }
    let mut last = first.endpoint().address.clone();
    let mut excluded = [tried, std::slice::from_ref(&last)].concat();
    let mut contenders = vec![Contender { opening: Box::pin(open(Rc::clone(&first))), pool: first }];
    let mut failed = Vec::new();
    let mut delay = pin!(tokio::time::sleep(CONNECTION_ATTEMPT_DELAY));
    let mut has_next = true;
    loop {
        let timer = has_next.then_some(delay.as_mut());
        if let RaceEvent::Finished(index, result) = next_event(&mut contenders, timer).await {
            let Contender { pool, .. } = contenders.remove(index);
            match result {
                Err(error) if !contenders.is_empty() => {
                    cluster.record_failure(&pool, &error);
                    failed.push(pool.endpoint().address.clone());
                }
                result => return RaceOutcome { pool, result, failed },
            }
        }
        let next = cluster.pick_alternative(&last, &excluded).filter(|_| contenders.len() < MAX_RACING_CONNECTIONS);
        has_next = next.is_some();
        if let Some(pool) = next {
            let address = pool.endpoint().address.clone();
            debug!(slow = %last, next = %address, "no connection yet, another address joins");
            excluded.push(address.clone());
            last = address;
            contenders.push(Contender { opening: Box::pin(open(Rc::clone(&pool))), pool });
            delay.as_mut().reset(Instant::now() + CONNECTION_ATTEMPT_DELAY);
        }
    }
}

/// Waits until a contender has finished, or the time of the others has passed.
async fn next_event<T, F: Future<Output = Result<T, ProxyError>>>(
    contenders: &mut [Contender<F>],
    mut delay: Option<Pin<&mut Sleep>>,
) -> RaceEvent<T> {
    poll_fn(|context: &mut Context<'_>| {
        for (index, contender) in contenders.iter_mut().enumerate() {
            if let Poll::Ready(result) = contender.opening.as_mut().poll(context) {
                return Poll::Ready(RaceEvent::Finished(index, result));
            }
        }
        match &mut delay {
            Some(delay) => delay.as_mut().poll(context).map(|()| RaceEvent::DelayPassed),
            None => Poll::Pending,
        }
    })
    .await
}
