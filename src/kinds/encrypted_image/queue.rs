//! The local queue of copies: the cloud runs five in a region and one of a source at a time.
//!
//! Queueing here rather than in the cloud keeps order, cancellation and the place in the queue ours. Memory only: after a
//! restart running copies take their places again as they are looked at; a copy too many would merely wait in the cloud.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Copies that the cloud runs at the same time in one region (API reference §2.1).
pub const RUNNING_MAX: u32 = 5;

/// A running copy that nobody has looked at again in this time belongs to an object that is gone.
const RUNNING_FORGOTTEN_AFTER: Duration = Duration::from_secs(15 * 60);

/// The same for a place of one that waits, which asks every quarter of a minute. It has no finalizer, so that nobody sees it go; and
/// whoever only came late gets his place back, because the oldest goes first.
const WAITING_FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The queue that all EncryptedImages of a process share.
#[derive(Default)]
pub struct CopyQueue(Mutex<BTreeMap<String, Place>>);

/// Who wants to copy what where, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The object's uid.
    pub uid: String,
    /// The region of the copy.
    pub region: String,
    /// The image that is copied.
    pub source: String,
    /// Oldest first: creation time, then namespace and name.
    pub order: (String, String),
}

struct Place {
    ticket: Ticket,
    running: bool,
    touched: Instant,
}

impl Place {
    fn is_forgotten(&self) -> bool {
        let limit = if self.running { RUNNING_FORGOTTEN_AFTER } else { WAITING_FORGOTTEN_AFTER };
        self.touched.elapsed() >= limit
    }
}

impl CopyQueue {
    /// How many must finish or go first; 0 means that it is this one's turn, and the turn is taken.
    pub fn ask(&self, ticket: Ticket) -> u32 {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|_, place| !place.is_forgotten());
        let behind = behind(&places, &ticket);
        let place = Place { running: behind == 0, touched: Instant::now(), ticket };
        places.insert(place.ticket.uid.clone(), place);
        behind
    }

    /// A copy runs, or may run.
    pub fn run(&self, ticket: Ticket) {
        let place = Place { running: true, touched: Instant::now(), ticket };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(place.ticket.uid.clone(), place);
    }

    /// The object no longer wants, or no longer needs, a place.
    pub fn leave(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

fn behind(places: &BTreeMap<String, Place>, ticket: &Ticket) -> u32 {
    if places.get(&ticket.uid).is_some_and(|place| place.running) {
        return 0;
    }
    let others = || {
        places.values().filter(|place| place.ticket.uid != ticket.uid && place.ticket.region == ticket.region)
    };
    let running = others().filter(|place| place.running).count();
    let ahead = others().filter(|place| !place.running && place.ticket.order < ticket.order).count();
    let same_source = others()
        .filter(|place| place.ticket.source == ticket.source)
        .filter(|place| place.running || place.ticket.order < ticket.order)
        .count();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (count(running + ahead) + 1).saturating_sub(RUNNING_MAX).max(count(same_source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(number: u32, source: &str) -> Ticket {
        Ticket {
            uid: format!("u-{number}"),
            region: "cn-hangzhou".into(),
            source: source.into(),
            order: (format!("{number:04}"), String::new()),
        }
    }

    fn distinct(number: u32) -> Ticket {
        ticket(number, &format!("m-{number}"))
    }

    #[tokio::test]
    async fn five_run_and_the_sixth_knows_its_place() {
        let queue = CopyQueue::default();
        for number in 1..=RUNNING_MAX {
            assert_eq!(queue.ask(distinct(number)), 0);
        }
        assert_eq!(queue.ask(distinct(6)), 1);
        assert_eq!(queue.ask(distinct(7)), 2);
        queue.leave("u-3");
        assert_eq!(queue.ask(distinct(7)), 1, "the older one goes first");
        assert_eq!(queue.ask(distinct(6)), 0);
        assert_eq!(queue.ask(distinct(6)), 0, "a turn that was taken stays taken");
    }

    #[tokio::test]
    async fn one_source_is_copied_once_at_a_time() {
        let queue = CopyQueue::default();
        assert_eq!(queue.ask(ticket(1, "m-1")), 0);
        assert_eq!(queue.ask(ticket(2, "m-1")), 1);
        assert_eq!(queue.ask(ticket(3, "m-3")), 0, "another source is not held back");
        queue.leave("u-1");
        assert_eq!(queue.ask(ticket(2, "m-1")), 0);
    }

    #[tokio::test]
    async fn regions_have_queues_of_their_own() {
        let queue = CopyQueue::default();
        (1..=RUNNING_MAX).for_each(|number| queue.run(distinct(number)));
        let elsewhere = Ticket { region: "cn-shanghai".into(), ..distinct(9) };
        assert_eq!(queue.ask(elsewhere), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_nobody_asks_for_is_forgotten() {
        let queue = CopyQueue::default();
        (1..=RUNNING_MAX).for_each(|number| queue.run(distinct(number)));
        assert_eq!(queue.ask(distinct(6)), 1);
        tokio::time::advance(RUNNING_FORGOTTEN_AFTER).await;
        assert_eq!(queue.ask(distinct(6)), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waited_and_is_gone_holds_up_nobody_for_longer_than_a_minute() {
        let queue = CopyQueue::default();
        (1..=RUNNING_MAX).for_each(|number| queue.run(distinct(number)));
        assert_eq!((queue.ask(distinct(6)), queue.ask(distinct(7))), (1, 2));
        queue.leave("u-1");
        assert_eq!(queue.ask(distinct(7)), 1, "the sixth may still come");
        tokio::time::advance(WAITING_FORGOTTEN_AFTER).await;
        assert_eq!(queue.ask(distinct(7)), 0);
        assert_eq!(queue.ask(distinct(8)), 1, "the running ones still count");
    }
}
