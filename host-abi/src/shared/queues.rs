//! `SharedQueues`: FIFO queues between VMs of any VM id. The last VM that registered a queue is notified of new
//! entries.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::abi::status::Status;
use crate::limits::{MAX_QUEUE_BYTES, MAX_QUEUES, MAX_QUEUES_BYTES, MAX_SHARED_VALUE, SHARED_ENTRY_OVERHEAD};

/// Notifies the registrant of a queue of one new entry. It is called without locks, on the thread that appends, and
/// must not block.
pub type QueueNotifier = Arc<dyn Fn(u32) + Send + Sync>;

/// The queues of all VM ids.
#[derive(Default)]
pub struct SharedQueues {
    table: RwLock<QueueTable>,
    dropped: AtomicU64,
}

#[derive(Default)]
struct QueueTable {
    /// By VM id.
    owners: HashMap<String, VmIdQueues>,
    queues: HashMap<u32, Arc<Queue>>,
    last: u32,
}

/// The queues of one VM id.
#[derive(Default)]
struct VmIdQueues {
    numbers: HashMap<Vec<u8>, u32>,
    /// Queued bytes of all queues.
    bytes: Arc<AtomicUsize>,
    /// True if the limit of queues was reached and logged.
    limit_logged: bool,
}

struct Queue {
    /// Owner of the queue's VM id.
    owner: Box<str>,
    notify: Mutex<QueueNotifier>,
    entries: Mutex<QueueEntries>,
    /// [`VmIdQueues::bytes`]
    owner_bytes: Arc<AtomicUsize>,
}

#[derive(Default)]
struct QueueEntries {
    values: VecDeque<Box<[u8]>>,
    bytes: usize,
}

impl SharedQueues {
    /// Creates a queue and returns its number, or takes over the notifications of an existing one, whose entries
    /// remain. A VM id with [`MAX_QUEUES`] queues gets the number 0, which is never found.
    pub fn register(&self, vm_id: &str, name: &[u8], notify: QueueNotifier) -> u32 {
        let mut table = self.table.write();
        if let Some(queue) = table.find(vm_id, name) {
            if let Some(queue) = table.queues.get(&queue) {
                *queue.notify.lock() = notify;
            }
            return queue;
        }
        let owner = table.owners.entry(vm_id.to_owned()).or_default();
        if owner.numbers.len() >= MAX_QUEUES {
            if !std::mem::replace(&mut owner.limit_logged, true) {
                tracing::warn!(vm_id, limit = MAX_QUEUES, "too many shared queues, further ones are not created");
            }
            return 0;
        }
        let owner_bytes = Arc::clone(&owner.bytes);
        let number = table.next_number();
        let owner = vm_id_owner(vm_id).into();
        let queue = Queue { owner, notify: Mutex::new(notify), entries: Mutex::default(), owner_bytes };
        table.queues.insert(number, Arc::new(queue));
        table.owners.entry(vm_id.to_owned()).or_default().numbers.insert(name.to_vec(), number);
        number
    }

    /// Returns the number of a queue of any VM id.
    #[must_use]
    pub fn resolve(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        self.table.read().find(vm_id, name)
    }

    /// Appends a value on behalf of a guest of this VM id and notifies the registrant. If the queue, or all queues of
    /// its VM id together, exceed their limit, the oldest entries of the queue are dropped.
    ///
    /// # Errors
    /// `NotFound`, also for the queues of other owners; `BadArgument` when the value is longer than
    /// [`MAX_SHARED_VALUE`].
    pub fn enqueue(&self, vm_id: &str, queue: u32, value: &[u8]) -> Result<(), Status> {
        if value.len() > MAX_SHARED_VALUE {
            return Err(Status::BadArgument);
        }
        let found = self.queue(vm_id, queue)?;
        {
            let mut entries = found.entries.lock();
            found.push(&mut entries, value);
            while (entries.bytes > MAX_QUEUE_BYTES || found.owner_bytes.load(Ordering::Relaxed) > MAX_QUEUES_BYTES)
                && found.pop(&mut entries).is_some()
            {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        let notify = Arc::clone(&found.notify.lock());
        notify(queue);
        Ok(())
    }

    /// Removes the oldest value on behalf of a guest of this VM id and appends it to `out`.
    ///
    /// # Errors
    /// `NotFound`, also for the queues of other owners; `Empty` without entries.
    pub fn dequeue(&self, vm_id: &str, queue: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        let found = self.queue(vm_id, queue)?;
        let mut entries = found.entries.lock();
        let value = found.pop(&mut entries).ok_or(Status::Empty)?;
        out.extend_from_slice(&value);
        Ok(())
    }

    /// Returns the number of entries dropped from full queues.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn remove_namespace(&self, vm_id: &str) {
        let mut table = self.table.write();
        for number in table.owners.remove(vm_id).unwrap_or_default().numbers.into_values() {
            table.queues.remove(&number);
        }
    }

    fn queue(&self, vm_id: &str, number: u32) -> Result<Arc<Queue>, Status> {
        let table = self.table.read();
        let queue = table.queues.get(&number).filter(|queue| &*queue.owner == vm_id_owner(vm_id));
        queue.cloned().ok_or(Status::NotFound)
    }
}

/// Returns the owner of a VM id: the part before its slash, or "" without one.
fn vm_id_owner(vm_id: &str) -> &str {
    vm_id.split_once('/').map_or("", |(owner, _)| owner)
}

impl Queue {
    fn push(&self, entries: &mut QueueEntries, value: &[u8]) {
        entries.bytes += cost(value);
        self.owner_bytes.fetch_add(cost(value), Ordering::Relaxed);
        entries.values.push_back(value.into());
    }

    fn pop(&self, entries: &mut QueueEntries) -> Option<Box<[u8]>> {
        let value = entries.values.pop_front()?;
        entries.bytes -= cost(&value);
        self.owner_bytes.fetch_sub(cost(&value), Ordering::Relaxed);
        Some(value)
    }
}

impl QueueTable {
    fn find(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        self.owners.get(vm_id)?.numbers.get(name).copied()
    }

    /// Returns an unused number. Numbers increase from 1 and skip used ones after a wraparound.
    fn next_number(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1).max(1);
            if !self.queues.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

const fn cost(value: &[u8]) -> usize {
    value.len() + SHARED_ENTRY_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notify_into(seen: &Arc<Mutex<Vec<u32>>>) -> QueueNotifier {
        let seen = Arc::clone(seen);
        Arc::new(move |queue| seen.lock().push(queue))
    }

    #[test]
    fn queue_is_fifo_and_notifies_last_registrant() {
        let queues = SharedQueues::default();
        let (first, second) = (Arc::default(), Arc::default());
        let queue = queues.register("vm", b"q", notify_into(&first));
        assert_eq!(queue, 1);
        assert_eq!(queues.enqueue("vm", queue, b"a"), Ok(()));
        assert_eq!(queues.register("vm", b"q", notify_into(&second)), 1);
        assert_eq!(queues.enqueue("vm", queue, b""), Ok(()));
        assert_eq!(queues.register("other", b"q", notify_into(&first)), 2);
        assert_eq!((first.lock().as_slice(), second.lock().as_slice()), (&[1][..], &[1][..]));
        let mut out = Vec::new();
        assert_eq!(queues.dequeue("vm", 1, &mut out), Ok(()));
        assert_eq!(out, b"a");
        assert_eq!(queues.dequeue("vm", 1, &mut out), Ok(()));
        assert_eq!(queues.dequeue("vm", 1, &mut out), Err(Status::Empty));
        assert_eq!(queues.dequeue("vm", 0, &mut out), Err(Status::NotFound));
        assert_eq!(queues.enqueue("vm", 9, b"a"), Err(Status::NotFound));
        assert_eq!(queues.resolve("other", b"q"), Some(2));
        assert_eq!(queues.resolve("other", b"p"), None);
    }

    #[test]
    fn full_queue_drops_oldest_entries() {
        let queues = SharedQueues::default();
        let queue = queues.register("vm", b"q", Arc::new(|_| {}));
        for number in 0..20_u8 {
            queues.enqueue("vm", queue, &vec![number; MAX_SHARED_VALUE]).unwrap();
        }
        let mut out = Vec::new();
        queues.dequeue("vm", queue, &mut out).unwrap();
        assert_eq!(u64::from(out[0]), queues.dropped());
        assert!(queues.dropped() >= 12);
    }

    #[test]
    fn queues_of_one_vm_id_share_a_limit() {
        let queues = SharedQueues::default();
        let value = vec![0; MAX_SHARED_VALUE];
        let register = |name: usize| queues.register("vm", &name.to_le_bytes(), Arc::new(|_| {}));
        let other = queues.register("other", b"q", Arc::new(|_| {}));
        queues.enqueue("other", other, &value).unwrap();
        let numbers: Vec<u32> = (0..MAX_QUEUES_BYTES / MAX_SHARED_VALUE + 20).map(register).collect();
        for number in &numbers {
            queues.enqueue("vm", *number, &value).unwrap();
        }
        let non_empty = || {
            let taken = |number: &&u32| queues.dequeue("vm", **number, &mut Vec::new()).is_ok();
            numbers.iter().filter(taken).count()
        };
        assert!((1..=MAX_QUEUES_BYTES / MAX_SHARED_VALUE).contains(&non_empty()));
        // The dequeued bytes are free again. Another VM id is not affected.
        queues.enqueue("vm", numbers[0], &value).unwrap();
        assert_eq!(non_empty(), 1);
        assert_eq!(queues.dequeue("other", other, &mut Vec::new()), Ok(()));
    }

    #[test]
    fn queue_of_another_owner_is_not_found() {
        let queues = SharedQueues::default();
        let queue = queues.register("shop/stats", b"q", Arc::new(|_| {}));
        assert_eq!(queues.enqueue("bank/stats", queue, b"a"), Err(Status::NotFound));
        assert_eq!(queues.enqueue("shop/other", queue, b"a"), Ok(()));
        assert_eq!(queues.dequeue("bank/stats", queue, &mut Vec::new()), Err(Status::NotFound));
    }

    #[test]
    fn register_beyond_limit_returns_zero() {
        let queues = SharedQueues::default();
        for number in 0..MAX_QUEUES {
            assert_ne!(queues.register("vm", &number.to_le_bytes(), Arc::new(|_| {})), 0);
        }
        assert_eq!(queues.register("vm", b"one more", Arc::new(|_| {})), 0);
        assert_eq!(queues.enqueue("vm", 0, b"a"), Err(Status::NotFound));
    }
}
