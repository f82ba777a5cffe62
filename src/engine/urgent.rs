//! The queue of the emergency lane: what the watch brings is taken up in the same turn of the runtime.
//!
//! kube's own scheduler keeps time in whole milliseconds, also for what is due at once, and hands every object through three
//! streams: fine for the other kinds, and about as long as all the rest of a cut. The rules are the same: never two passes over
//! one object at the same time, a change during a pass causes another one, and of two times the earlier counts.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::Instant;

/// What is to be done about one object.
enum Turn {
    /// A pass is under way; true if something changed meanwhile.
    Running(bool),
    /// The next pass is due then.
    Due(Instant),
}

/// Runs `pass` over every object that `news` names, and again when its answer says so, until `shutdown`; passes that have begun
/// are finished. `pass` answers the delay to the next pass, None if only a change can cause one.
pub async fn work<K, F>(
    news: impl Stream<Item = K>,
    shutdown: impl Future<Output = ()>,
    mut pass: impl FnMut(K) -> F,
) where
    K: Clone + Eq + Hash,
    F: Future<Output = Option<Duration>>,
{
    let mut news = std::pin::pin!(news.fuse());
    let mut shutdown = std::pin::pin!(shutdown);
    let mut turns: HashMap<K, Turn> = HashMap::new();
    let mut running = FuturesUnordered::new();
    let mut begin = |key: K, turns: &mut HashMap<K, Turn>| {
        turns.insert(key.clone(), Turn::Running(false));
        pass(key.clone()).map(move |next| (key, next))
    };
    loop {
        let due = turns.iter().filter_map(|(key, turn)| match turn {
            Turn::Due(at) => Some((*at, key)),
            Turn::Running(_) => None,
        });
        let next = due.min_by_key(|(at, _)| *at).map(|(at, key)| (at, key.clone()));
        let wake = next.as_ref().map(|(at, _)| *at);
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(key) = news.next() => match turns.get_mut(&key) {
                Some(Turn::Running(changed)) => *changed = true,
                _ => running.push(begin(key, &mut turns)),
            },
            Some((key, after)) = running.next() => {
                let changed = matches!(turns.remove(&key), Some(Turn::Running(true)));
                match after {
                    _ if changed => running.push(begin(key, &mut turns)),
                    Some(delay) => {
                        turns.insert(key, Turn::Due(Instant::now() + delay));
                    }
                    None => {}
                }
            }
            () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                if let Some((_, key)) = next {
                    running.push(begin(key, &mut turns));
                }
            }
        }
    }
    while running.next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::mpsc;
    use std::cell::RefCell;
    use std::rc::Rc;

    type Log = Rc<RefCell<Vec<(u64, &'static str)>>>;

    /// Runs passes of 10 ms for 100 ms; the log holds when which pass began, in milliseconds.
    async fn run(
        orders: &[(u64, &'static str)],
        after: fn(usize) -> Option<Duration>,
    ) -> Vec<(u64, &'static str)> {
        let (sender, receiver) = mpsc::unbounded();
        let log = Log::default();
        let begun = Instant::now();
        let passes = log.clone();
        let pass = |key: &'static str| {
            let log = passes.clone();
            async move {
                let at = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                log.borrow_mut().push((at, key));
                tokio::time::sleep(Duration::from_millis(10)).await;
                let count = log.borrow().len();
                after(count)
            }
        };
        let order = async {
            for (at, key) in orders {
                tokio::time::sleep_until(begun + Duration::from_millis(*at)).await;
                let _ = sender.unbounded_send(*key);
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = work(receiver, tokio::time::sleep(Duration::from_millis(100)), pass) => {}
            () = order => {}
        }
        log.take()
    }

    #[tokio::test(start_paused = true)]
    async fn different_objects_run_beside_one_another_and_the_same_one_after_itself() {
        let log = run(&[(0, "a"), (2, "b"), (4, "a"), (5, "a")], |_| None).await;
        assert_eq!(log, [(0, "a"), (2, "b"), (10, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_comes_back_after_its_delay_or_with_the_next_change() {
        let twice = |count| (count < 3).then_some(Duration::from_millis(30));
        assert_eq!(run(&[(0, "a"), (60, "a")], twice).await, [(0, "a"), (40, "a"), (60, "a")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_has_begun_is_finished_and_no_other_begins() {
        let log = run(&[(95, "a"), (99, "a")], |_| Some(Duration::ZERO)).await;
        assert_eq!(log, [(95, "a")]);
    }
}
