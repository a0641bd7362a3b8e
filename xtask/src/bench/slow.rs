//! Slow clients: connections that each send one request a second, with its head in three pieces.
//!
//! One client starts in each millisecond, so that the proxy sees as many of them at any time. A response is read long
//! after the proxy has written it, which costs the proxy nothing.
//!
//! ```text
//!  a client    1st piece   2nd piece   3rd piece   response    1st piece
//!                  ├───────────┼───────────┼───────────┼───────────┤
//!  time            0         250 ms      500 ms      750 ms       1 s
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::client::{Connection, REQUEST};
use super::process::BenchProcess;
use crate::progress::Stopwatch;

/// Time from one request of a client to its next.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// Duration of a slot. A client starts in each.
const SLOT: Duration = Duration::from_millis(1);

/// Number of clients: one for each slot of a period.
const CLIENTS: usize = 1_000;

/// Slots from one piece to the next, and from the last piece to the response.
const SLOTS_PER_STEP: usize = CLIENTS / (REQUEST.len() + 1);

/// Measures while the slow clients send requests, after each of them has sent one.
pub(super) fn beside<T>(proxy: &BenchProcess, measure: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut clients = SlowClients::open(proxy.address())?;
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| clients.send_until(&is_done));
        thread::sleep(PERIOD);
        let measured = measure();
        is_done.store(true, Ordering::Relaxed);
        sending.join().map_err(|_| anyhow!("the slow clients panicked"))?.context("a slow client")?;
        measured
    })
}

struct SlowClients(Vec<Connection>);

impl SlowClients {
    fn open(address: SocketAddr) -> Result<Self> {
        (0..CLIENTS).map(|_| Connection::open(address)).collect::<Result<_>>().map(Self)
    }

    fn send_until(&mut self, is_done: &AtomicBool) -> Result<()> {
        let clock = Stopwatch::start();
        let mut slot = 0;
        while !is_done.load(Ordering::Relaxed) {
            while clock.time().as_millis() >= slot as u128 {
                self.run_slot(slot)?;
                slot += 1;
            }
            thread::sleep(SLOT);
        }
        Ok(())
    }

    /// Sends the pieces and reads the response that are due in a slot. Each is of another client.
    fn run_slot(&mut self, slot: usize) -> Result<()> {
        for (step, piece) in REQUEST.into_iter().enumerate() {
            if let Some(client) = due(slot, step) {
                self.0[client].send(piece)?;
            }
        }
        due(slot, REQUEST.len()).map_or(Ok(()), |client| self.0[client].receive())
    }
}

/// Returns the client whose step is due in a slot. `None` while no client has come so far.
fn due(slot: usize, step: usize) -> Option<usize> {
    slot.checked_sub(step * SLOTS_PER_STEP).map(|start| start % CLIENTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_sends_its_pieces_and_reads_in_order_each_second() {
        let steps = |client| {
            let due = move |slot| (0..=REQUEST.len()).filter(move |step| due(slot, *step) == Some(client));
            (0..3 * CLIENTS).flat_map(due).collect::<Vec<_>>()
        };
        assert_eq!(steps(0), [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
        assert_eq!(steps(CLIENTS - 1), [0, 1, 2, 3, 0, 1, 2, 3, 0]);
    }
}
