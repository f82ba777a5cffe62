//! A short memory of facts that many objects share, such as the state of their key.
//!
//! One reading at a time per fact: callers that come meanwhile wait for its result. Errors are remembered
//! too, but shorter. Nothing is refreshed in the background, and nothing that must be looked up after a
//! certain moment belongs here.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::error::Error;
use super::ledger::locked;

/// How long a fact counts as fresh, from the moment at which its reading began.
pub(crate) const FRESH: Duration = Duration::from_secs(5);
/// How long a failure is answered without another try.
pub(crate) const FAILURE_FRESH: Duration = Duration::from_secs(1);
/// Facts that are remembered at one time, at most.
const SLOTS_MAX: usize = 1024;

type Slot<V> = Arc<tokio::sync::Mutex<Option<Held<V>>>>;

/// Facts of type `V` by key.
pub(crate) struct Memory<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
}

struct Held<V> {
    began: Instant,
    result: Result<V, Error>,
}

impl<V> Held<V> {
    fn is_fresh(&self) -> bool {
        self.began.elapsed() < if self.result.is_ok() { FRESH } else { FAILURE_FRESH }
    }
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    pub(crate) fn new() -> Self {
        Memory { slots: Mutex::new(HashMap::new()) }
    }

    /// The remembered fact, or the outcome of `read`, which is not even started if the fact is fresh.
    pub(crate) async fn get(&self, key: K, read: impl Future<Output = Result<V, Error>>) -> Result<V, Error> {
        let slot = self.slot(key);
        // Holding the lock while reading is what makes the others wait. If this caller gives up, the lock is
        // free again.
        let mut held = slot.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.is_fresh()) {
            return held.result.clone();
        }
        let began = Instant::now();
        let result = read.await;
        *held = Some(Held { began, result: result.clone() });
        result
    }

    /// Forgets a fact that the caller has just changed. A reading that is under way may have begun before the
    /// change, so its result is not remembered either.
    pub(crate) fn forget(&self, key: &K) {
        locked(&self.slots).remove(key);
    }

    fn slot(&self, key: K) -> Slot<V> {
        let mut slots = locked(&self.slots);
        if slots.len() >= SLOTS_MAX && !slots.contains_key(&key) {
            slots.retain(|_, slot| {
                slot.try_lock().map_or(true, |held| held.as_ref().is_some_and(Held::is_fresh))
            });
            if slots.len() >= SLOTS_MAX {
                // Callers keep their own handle, so they only lose the sharing.
                slots.clear();
            }
        }
        slots.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alibaba::Service;
    use crate::alibaba::error::local;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Reader {
        memory: Memory<u32, u32>,
        reads: AtomicU32,
    }

    impl Reader {
        fn new() -> Self {
            Reader { memory: Memory::new(), reads: AtomicU32::new(0) }
        }

        async fn get(&self, key: u32, works: bool) -> Result<u32, Error> {
            let read = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let number = self.reads.fetch_add(1, Ordering::SeqCst) + 1;
                let error = || Error::local(Service::Kms, "DescribeKey", local::CONNECTION, "down");
                if works { Ok(number) } else { Err(error()) }
            };
            self.memory.get(key, read).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn concurrent_callers_share_one_reading_and_later_ones_read_again() {
        let reader = Reader::new();
        let all = futures::future::join_all((0..50).map(|_| reader.get(1, true))).await;
        assert!(all.iter().all(|result| *result == Ok(1)));
        tokio::time::sleep(FRESH - Duration::from_millis(101)).await;
        assert_eq!(reader.get(1, true).await, Ok(1));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(reader.get(1, true).await, Ok(2));
        assert_eq!(reader.get(2, true).await, Ok(3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_shared_but_soon_tried_again() {
        let reader = Reader::new();
        assert!(reader.get(1, false).await.is_err());
        assert!(reader.get(1, true).await.is_err());
        tokio::time::sleep(FAILURE_FRESH).await;
        assert_eq!(reader.get(1, true).await, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_gives_up_does_not_block_the_others() {
        let reader = Reader::new();
        let impatient = tokio::time::timeout(Duration::from_millis(10), reader.get(1, true)).await;
        assert!(impatient.is_err());
        assert_eq!(reader.get(1, true).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_facts_is_limited() {
        let reader = Reader::new();
        for key in 0..(SLOTS_MAX as u32 + 5) {
            let _ = reader.memory.get(key, async { Ok(key) }).await;
        }
        assert!(locked(&reader.memory.slots).len() <= SLOTS_MAX);
    }
}
