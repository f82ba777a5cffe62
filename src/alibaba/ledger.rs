//! The memory of what the cloud refused for being too much, and the pace of calls to KMS.
//!
//! ECS counts calls per account, region and action in windows of a minute, over all callers; once it
//! throttled, it goes on to refuse until the next minute. Repeating such a call is useless and slows
//! everybody down, so it fails here at once. The ledger does not guess quotas (only the Quota Center knows
//! them) and never delays an ECS call.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::request::Service;
use super::transport::RETRY_AFTER_MAX;

/// Actions that are remembered as throttled at one time, at most; more cannot be real, regions being few.
const ENTRIES_MAX: usize = 4096;
/// KMS counts per second; so do, as far as anybody knows, RAM and STS.
const SECOND: Duration = Duration::from_secs(1);
const MINUTE_SECONDS: i64 = 60;

/// Which actions are refused until when. The time of day says how long a window lasts; what is left of it is measured by
/// the monotonic clock, so that a clock that is set back blocks nothing.
#[derive(Default)]
pub(crate) struct Ledger {
    until: Mutex<HashMap<(Service, String, &'static str), Instant>>,
}

impl Ledger {
    /// How long the action stays throttled, if it is.
    pub(crate) fn remaining(&self, service: Service, region: &str, action: &'static str) -> Option<Duration> {
        let mut until = locked(&self.until);
        let key = (service, region.to_owned(), action);
        let remaining = until.get(&key)?.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            until.remove(&key);
            return None;
        }
        Some(remaining)
    }

    /// Remembers that the action was throttled now, and says for how long.
    pub(crate) fn note(
        &self,
        now: Timestamp,
        service: Service,
        region: &str,
        action: &'static str,
        retry_after: Option<Duration>,
    ) -> Duration {
        let wait = retry_after.unwrap_or_else(|| window_rest(service, now)).min(RETRY_AFTER_MAX);
        let mut until = locked(&self.until);
        if until.len() >= ENTRIES_MAX {
            until.retain(|_, end| *end > Instant::now());
        }
        if until.len() < ENTRIES_MAX {
            until.insert((service, region.to_owned(), action), Instant::now() + wait);
        }
        wait
    }
}

/// The time until the window in which a call was throttled ends.
fn window_rest(service: Service, now: Timestamp) -> Duration {
    match service {
        Service::Ecs => {
            let into_minute = now.as_millisecond().rem_euclid(MINUTE_SECONDS * 1000);
            Duration::from_millis((MINUTE_SECONDS * 1000 - into_minute).unsigned_abs())
        }
        Service::Kms | Service::Ram | Service::Sts => SECOND,
    }
}

/// Spaces calls so that at most so many of them start per second in a region, after a burst of as many.
pub(crate) struct Pacer {
    per_second: u32,
    /// Per region, when the next call would start if calls came evenly.
    next: Mutex<HashMap<String, Instant>>,
}

impl Pacer {
    /// The share of the lane that only the leader runs: KMS promises 10 management writes per second, and 20 or more reads.
    pub(crate) const ORDINARY: u32 = 10;
    /// The share of the emergency lane, which every replica runs: that of the leader and of two of these is what KMS promises.
    pub(crate) const URGENT: u32 = 5;
    /// The longest queue; a caller that would wait longer is refused at once.
    pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);
    /// How far those who did not wait can put off those who do.
    const DEBT_MAX: Duration = Duration::from_secs(5);
    /// Regions that are paced; beyond them the idle ones are forgotten.
    const REGIONS_MAX: usize = 64;

    pub(crate) fn new(per_second: u32) -> Pacer {
        Pacer { per_second, next: Mutex::default() }
    }

    /// Lets a caller start now, and all who come later as if it had waited for its turn.
    pub(crate) fn take(&self, now: Instant, region: &str) {
        let mut next = locked(&self.next);
        Self::forget_idle(&mut next, now);
        let even = next.get(region).copied().unwrap_or(now).max(now);
        // The debt is bounded, so that nobody is refused for it.
        let later = (even + SECOND / self.per_second).min(now + Self::DEBT_MAX);
        next.insert(region.to_owned(), later.max(even));
    }

    fn forget_idle(next: &mut HashMap<String, Instant>, now: Instant) {
        if next.len() >= Self::REGIONS_MAX {
            next.retain(|_, at| *at > now);
        }
    }

    /// When this caller may start, or how long it would have to wait if that is too long.
    pub(crate) fn reserve(&self, now: Instant, region: &str) -> Result<Instant, Duration> {
        let interval = SECOND / self.per_second;
        let burst = interval * (self.per_second - 1);
        let mut next = locked(&self.next);
        Self::forget_idle(&mut next, now);
        let even = next.get(region).copied().unwrap_or(now).max(now);
        // A caller may be early by the size of the burst.
        let start = even.checked_sub(burst).unwrap_or(now).max(now);
        let wait = start.duration_since(now);
        if wait > Self::WAIT_MAX {
            return Err(wait);
        }
        next.insert(region.to_owned(), even + interval);
        Ok(start)
    }
}

/// Locks even if another thread panicked meanwhile: every value behind these locks is valid between
/// statements.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_action_stays_refused_until_the_next_minute() {
        let ledger = Ledger::default();
        let noted = at("2026-01-02T03:04:45.250Z");
        assert_eq!(
            ledger.note(noted, Service::Ecs, "cn-a", "CopyImage", None),
            Duration::from_millis(14_750)
        );
        tokio::time::advance(Duration::from_millis(13_750)).await;
        assert_eq!(ledger.remaining(Service::Ecs, "cn-a", "CopyImage"), Some(Duration::from_secs(1)));
        assert_eq!(ledger.remaining(Service::Ecs, "cn-b", "CopyImage"), None);
        assert_eq!(ledger.remaining(Service::Ecs, "cn-a", "DeleteImage"), None);
        assert_eq!(ledger.remaining(Service::Kms, "cn-a", "CopyImage"), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(ledger.remaining(Service::Ecs, "cn-a", "CopyImage"), None);
    }

    #[test]
    fn the_clouds_own_figure_wins_and_is_bounded() {
        let ledger = Ledger::default();
        let now = at("2026-01-02T03:04:05Z");
        let note = |service, asked| ledger.note(now, service, "cn-a", "DescribeKey", asked);
        assert_eq!(note(Service::Ecs, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(note(Service::Ecs, Some(Duration::from_secs(86_400))), RETRY_AFTER_MAX);
        assert_eq!(note(Service::Kms, None), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn the_ledger_does_not_grow_without_limit() {
        let ledger = Ledger::default();
        let now = at("2026-01-02T03:04:05Z");
        for number in 0..ENTRIES_MAX + 10 {
            ledger.note(now, Service::Ecs, &format!("cn-{number}"), "CopyImage", None);
        }
        assert_eq!(locked(&ledger.until).len(), ENTRIES_MAX);
        tokio::time::advance(Duration::from_secs(60)).await;
        ledger.note(at("2026-01-02T03:05:05Z"), Service::Ecs, "cn-new", "CopyImage", None);
        assert_eq!(locked(&ledger.until).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn ten_calls_start_at_once_and_then_ten_per_second() {
        let pacer = Pacer::new(10);
        let now = Instant::now();
        let waits: Vec<u128> = (0..31)
            .map(|_| pacer.reserve(now, "cn-a").expect("a short queue").duration_since(now).as_millis())
            .collect();
        assert!(waits[..10].iter().all(|wait| *wait == 0), "{waits:?}");
        assert_eq!((waits[10], waits[20], waits[30]), (100, 1100, 2100));
        assert_eq!(pacer.reserve(now, "cn-b").expect("another region").duration_since(now), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_ahead_waits_for_nobody_and_the_others_wait_for_it() {
        let pacer = Pacer::new(10);
        let now = Instant::now();
        for _ in 0..12 {
            pacer.take(now, "cn-a");
        }
        let wait = pacer.reserve(now, "cn-a").expect("a short queue").duration_since(now);
        assert_eq!(wait, Duration::from_millis(300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_is_too_long_refuses() {
        let pacer = Pacer::new(10);
        let now = Instant::now();
        let accepted = (0..1000).take_while(|_| pacer.reserve(now, "cn-a").is_ok()).count();
        assert_eq!(accepted, 10 + 200);
        assert!(pacer.reserve(now, "cn-a").expect_err("full") > Pacer::WAIT_MAX);
        assert!(pacer.reserve(now + Duration::from_secs(1), "cn-a").is_ok());
    }
}
