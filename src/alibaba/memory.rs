//! A short memory of facts that many objects share, such as the state of their key.
//!
//! One reading at a time per fact: callers that come meanwhile wait for its result, however long it takes. Errors are remembered
//! too, but shorter, and from the end of the reading: a reading that fails slowly would else be repeated by everybody who waited,
//! one after another. Nothing is refreshed in the background, and nothing that must be looked up after a
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
/// How long a failure is answered without another try, from the moment at which the reading ended.
pub(crate) const FAILURE_FRESH: Duration = Duration::from_secs(1);
/// Facts that are remembered at one time, at most.
const SLOTS_MAX: usize = 1024;

type Slot<V> = Arc<tokio::sync::Mutex<Option<Held<V>>>>;

/// Facts of type `V` by key.
pub(crate) struct Memory<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    /// How long a fact counts as fresh; None: for ever.
    fresh: Option<Duration>,
}

struct Held<V> {
    /// When the result stops to serve those who ask after `ended`; None: never.
    until: Option<Instant>,
    ended: Instant,
    result: Result<V, Error>,
}

impl<V> Held<V> {
    fn is_fresh(&self) -> bool {
        self.until.is_none_or(|until| Instant::now() < until)
    }

    /// Who asked before the reading ended has waited for it, and gets it even if it is not fresh any more.
    fn serves(&self, asked: Instant) -> bool {
        asked < self.ended || self.is_fresh()
    }
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    pub(crate) fn new() -> Self {
        Memory { slots: Mutex::new(HashMap::new()), fresh: Some(FRESH) }
    }

    /// A memory of facts that never change; only failures are forgotten.
    pub(crate) fn lasting() -> Self {
        Memory { fresh: None, ..Memory::new() }
    }

    /// The remembered fact, or the outcome of `read`, which is not even started if the fact is fresh.
    pub(crate) async fn get(&self, key: K, read: impl Future<Output = Result<V, Error>>) -> Result<V, Error> {
        let asked = Instant::now();
        let slot = self.slot(key);
        // Holding the lock while reading is what makes the others wait. If this caller gives up, the lock is
        // free again.
        let mut held = slot.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.serves(asked)) {
            return held.result.clone();
        }
        let began = Instant::now();
        let result = read.await;
        let ended = Instant::now();
        // A fact is as old as the beginning of its reading.
        let until = match &result {
            Ok(_) => self.fresh.map(|fresh| began + fresh),
            Err(_) => Some(ended + FAILURE_FRESH),
        };
        *held = Some(Held { until, ended, result: result.clone() });
        result
    }

    /// Remembers a fact that was read otherwise just now, unless a reading is under way, which will tell the same.
    pub(crate) fn remember(&self, key: K, value: V) {
        let slot = self.slot(key);
        let Ok(mut held) = slot.try_lock() else { return };
        let ended = Instant::now();
        *held = Some(Held { until: self.fresh.map(|fresh| ended + fresh), ended, result: Ok(value) });
    }

    /// Forgets a fact if it is one of those, or is just being read: for what the caller may have changed.
    pub(crate) fn forget_if(&self, key: &K, which: impl FnOnce(&V) -> bool) {
        let mut slots = locked(&self.slots);
        let Some(slot) = slots.get(key) else { return };
        let stays = slot.try_lock().is_ok_and(|held| {
            held.as_ref().and_then(|held| held.result.as_ref().ok()).is_some_and(|value| !which(value))
        });
        if !stays {
            slots.remove(key);
        }
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

    /// A reading that takes half a minute, as where nobody answers.
    async fn slowly(reader: &Reader, works: bool) -> Result<u32, Error> {
        let read = async {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let number = reader.reads.fetch_add(1, Ordering::SeqCst) + 1;
            let error = || Error::local(Service::Kms, "DescribeKey", local::TIMEOUT, "silent");
            if works { Ok(number) } else { Err(error()) }
        };
        reader.memory.get(1, read).await
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_who_waited_gets_the_outcome_of_a_slow_reading() {
        for works in [false, true] {
            let reader = Reader::new();
            let began = Instant::now();
            let all = futures::future::join_all((0..50).map(|_| slowly(&reader, works))).await;
            assert!(all.iter().all(|result| result.is_ok() == works));
            assert_eq!((reader.reads.load(Ordering::SeqCst), began.elapsed().as_secs()), (1, 30));
            tokio::time::sleep(FAILURE_FRESH / 2).await;
            let _ = slowly(&reader, works).await;
            // A fact is as old as its reading: half a minute is too old for who asks now.
            assert_eq!(reader.reads.load(Ordering::SeqCst), if works { 2 } else { 1 });
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_lasts_is_read_once_and_what_is_known_otherwise_is_not_read_at_all() {
        let reader = Reader { memory: Memory::lasting(), reads: AtomicU32::new(0) };
        assert!(reader.get(1, false).await.is_err());
        tokio::time::sleep(FAILURE_FRESH).await;
        assert_eq!(reader.get(1, true).await, Ok(2));
        tokio::time::sleep(FRESH * 1_000).await;
        assert_eq!(reader.get(1, true).await, Ok(2));
        reader.memory.remember(2, 7);
        assert_eq!(reader.get(2, true).await, Ok(7));
        reader.memory.forget_if(&2, |value| *value == 8);
        assert_eq!(reader.get(2, true).await, Ok(7));
        reader.memory.forget_if(&2, |value| *value == 7);
        assert_eq!(reader.get(2, true).await, Ok(3));
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
