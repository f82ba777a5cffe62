//! Makes one listing of many lookups by tag: concurrent lookups that share their first tag become one list of all that carry it.
//!
//! A few lookups are cheaper one by one, because each finds at most a few resources; many are cheaper together. As with
//! `gather`, a call always starts after its last caller joined, and nothing is remembered afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use futures::future::join_all;
use tokio::sync::oneshot;

use super::error::{Class, Error};
use super::ledger::locked;

/// From this many concurrent lookups on, one listing serves them all.
const SHARED_MIN: usize = 4;

type Tags = Vec<(String, String)>;
/// Region and first tag.
type Place = (String, (String, String));

/// The open windows, by region and first tag.
pub(crate) struct Sweep<T> {
    open: Mutex<HashMap<Place, Vec<Caller<T>>>>,
}

/// One lookup that waits for its answer.
pub(crate) struct Caller<T> {
    tags: Tags,
    answer: oneshot::Sender<Result<Vec<T>, Error>>,
}

impl<T: Clone> Sweep<T> {
    pub(crate) fn new() -> Self {
        Sweep { open: Mutex::new(HashMap::new()) }
    }

    /// Joins the window; true if it was opened by this call, whose caller must then close it after `gather::WINDOW`.
    pub(crate) fn join(&self, region: &str, tags: &Tags) -> (oneshot::Receiver<Result<Vec<T>, Error>>, bool) {
        let (answer, receiver) = oneshot::channel();
        let first = tags.first().cloned().unwrap_or_default();
        let mut open = locked(&self.open);
        let callers = open.entry((region.to_owned(), first)).or_default();
        callers.push(Caller { tags: tags.clone(), answer });
        (receiver, callers.len() == 1)
    }

    /// Closes the window.
    pub(crate) fn take(&self, region: &str, tags: &Tags) -> Vec<Caller<T>> {
        let first = tags.first().cloned().unwrap_or_default();
        locked(&self.open).remove(&(region.to_owned(), first)).unwrap_or_default()
    }
}

/// Answers every caller through `list`, which returns everything that carries all of the given tags.
pub(crate) async fn serve<T: Clone, R>(
    callers: Vec<Caller<T>>,
    tags_of: impl Fn(&T) -> &BTreeMap<String, String>,
    list: impl Fn(Tags) -> R,
) where
    R: Future<Output = Result<Vec<T>, Error>>,
{
    if callers.len() >= SHARED_MIN {
        let broad = callers.iter().flat_map(|caller| caller.tags.first().cloned()).take(1).collect();
        match list(broad).await {
            // More than can be listed at once: each for itself.
            Err(error) if error.class == Class::Defect => {}
            result => {
                for caller in callers {
                    let fits = |item: &&T| {
                        caller.tags.iter().all(|(key, value)| tags_of(item).get(key) == Some(value))
                    };
                    let answer = result.as_ref().map(|found| found.iter().filter(fits).cloned().collect());
                    // A caller that has gone needs no answer.
                    let _ = caller.answer.send(answer.map_err(Error::clone));
                }
                return;
            }
        }
    }
    join_all(callers.into_iter().map(|caller| async {
        let answer = list(caller.tags).await;
        let _ = caller.answer.send(answer);
    }))
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    type Item = BTreeMap<String, String>;

    fn tags(name: &str) -> Tags {
        vec![("cluster".into(), "c".into()), ("name".into(), name.into())]
    }

    async fn calls_for(lookups: usize) -> usize {
        let sweep: Sweep<Item> = Sweep::new();
        let world: Vec<Item> =
            (0..9).map(|number| tags(&format!("n{number}")).into_iter().collect()).collect();
        let receivers: Vec<_> =
            (0..lookups).map(|number| sweep.join("cn-a", &tags(&format!("n{number}"))).0).collect();
        let calls = AtomicUsize::new(0);
        let list = |asked: Tags| {
            calls.fetch_add(1, Ordering::SeqCst);
            let fits = |item: &&Item| asked.iter().all(|(key, value)| item.get(key) == Some(value));
            let found: Vec<Item> = world.iter().filter(fits).cloned().collect();
            async move { Ok(found) }
        };
        serve(sweep.take("cn-a", &tags("")), |item| item, list).await;
        for (number, receiver) in receivers.into_iter().enumerate() {
            let found = receiver.await.expect("answered").expect("found");
            assert_eq!(found.len(), usize::from(number < 9), "each gets its own and nothing else");
            assert!(found.iter().all(|item| item["name"] == format!("n{number}")));
        }
        calls.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn many_lookups_share_one_listing_and_a_few_do_not() {
        assert_eq!(calls_for(1).await, 1);
        assert_eq!(calls_for(SHARED_MIN - 1).await, SHARED_MIN - 1);
        assert_eq!(calls_for(SHARED_MIN).await, 1);
        assert_eq!(calls_for(50).await, 1);
    }
}
